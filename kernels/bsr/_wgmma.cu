// Block-sparse Y = W X on Hopper's warpgroup MMA: 16-bit operands, fp32 accumulation.
//
// Layout. W is cut into units of 16 rows; four units make a strip of 64 rows (the m of a warpgroup MMA), G strips make a
// group. A group's stored columns, in pieces of CK, are the union over its strips; STEP / CK pieces make one step along K.
// A step stores the 64 x CK tiles that are not empty, strip after strip, in the order in which the MMA reads them, so
// that one bulk copy brings all of them. A mask says which they are.
//
// Work. A block computes a group by BN columns of Y: one producer warp fills a ring of STAGES buffers (X by tensor
// maps, W by bulk copies), G warpgroups multiply, each its own strip, and skip the steps in which it has no tile. Every
// tile of X is fetched once for G strips: that is what moves the roof, which is traffic from L2 to the multiprocessors.
// Blocks are persistent, each with a list of (item, column tile) that shares out the predicted time; the producer runs
// ahead into the next one while the warpgroups store. An item is a group or a run of its steps; the parts of a group then meet in a workspace,
// where the last one to arrive adds them all in their order: the result does not depend on who that is.
//
// Cost of a group by BN columns: 128 * CK * BN operations and 128 * CK bytes of W a tile, 2 * CK * BN bytes of X a piece.
// Short steps make the ring finer: a warpgroup holds two steps while it multiplies, the rest is in flight.
//
// SHARE 1: two neighbouring blocks (a cluster) compute the same group for neighbouring columns of Y and fetch every tile of
// W once for both. SHARE 2: they compute two halves of a group of 2 G strips for the same columns and fetch every tile of
// X once for both. Either way each fetches a part and sends it to the shared memory of both.
//
// Macros: BN 16 to 256, G 1 to 4, STEP 32 or 64, CK 16, 32 or 64 (at most STEP), STAGES, BF16 0 or 1, SHARE 0, 1 or 2, RESIDENT (blocks that a
// multiprocessor holds) 1 or, where G = 2 and BN = 128, 2.

typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(64) CUtensorMap { u64 opaque[16]; };

#define NSUB (STEP / CK)                  // pieces of columns in a step
#define ATOM (BN < 64 ? BN : 64)          // columns of X in one tensor-map box
#define ROW_BYTES (ATOM * 2)
#define X_BYTES (STEP * BN * 2)
#define TILE_BYTES (64 * CK * 2)
#define W_BYTES (G * STEP * 128)
#define STAGE_BYTES (X_BYTES + W_BYTES)
#define META (NSUB + 2)                   // ints a step: the pieces' columns, first tile, mask
#define NREG (BN / 2)                     // accumulators of a thread
#define CLUSTER (SHARE ? 2 : 1)
#define ALL_STRIPS (SHARE == 2 ? 2 * G : G)  // of a group
#ifndef NI
#define NI BN                             // n of one MMA
#endif

#if BF16
#define KIND "bf16.bf16"
#define PACK "cvt.rn.bf16x2.f32 %0, %1, %2;"
#else
#define KIND "f16.f16"
#define PACK "cvt.rn.f16x2.f32 %0, %1, %2;"
#endif

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(u32 bar, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void barrier_arrive_at(u32 bar, u32 block) {
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(bar), "r"(block) : "memory");
}
__device__ __forceinline__ void barrier_wait(u32 bar, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
#if SHARE
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
#else
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
#endif

      "@done bra ready;\nbra again;\nready:\n}" ::"r"(bar), "r"(parity) : "memory");
}
__device__ __forceinline__ void load_x(u32 to, const CUtensorMap* map, int column, int row, u32 bar) {
#if SHARE == 2
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], "
      "[%4], %5;" ::"r"(to),
      "l"((u64)map), "r"(column), "r"(row), "r"(bar), "h"((unsigned short)3) : "memory");
  return;
#endif
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"((u64)map), "r"(column), "r"(row), "r"(bar) : "memory");
}
__device__ __forceinline__ void load_w(u32 to, const void* from, u32 bytes, u32 bar) {
#if SHARE == 1
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(bar), "h"((unsigned short)3) : "memory");
  return;
#endif
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
               "r"(bytes), "r"(bar) : "memory");
}

// Descriptors of wgmma operands. W: no swizzle, K-major: 8 x 16-byte core matrices, 128 bytes apart along m, 1024 along k.
// X: rows of ATOM columns, MN-major, swizzled by the row's width; groups of 8 rows follow each other.
__device__ __forceinline__ u64 w_descriptor(u32 address) {
  return (u64)((address & 0x3FFFF) >> 4) | ((u64)(1024 >> 4) << 16) | ((u64)(128 >> 4) << 32);
}
__device__ __forceinline__ u64 x_descriptor(u32 address) {
  const u64 swizzle = ROW_BYTES == 128 ? 1 : ROW_BYTES == 64 ? 2 : 3;
  return (u64)((address & 0x3FFFF) >> 4) | ((u64)((CK * ROW_BYTES) >> 4) << 16) | ((u64)((8 * ROW_BYTES) >> 4) << 32) | (swizzle << 62);
}

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

#define C1(i) "+f"(d[i])
#define C4(i) C1(i), C1(i + 1), C1(i + 2), C1(i + 3)
#define C8(i) C4(i), C4(i + 4)
#define C16(i) C8(i), C8(i + 8)
#define C32(i) C16(i), C16(i + 16)
#define C64(i) C32(i), C32(i + 32)
__device__ __forceinline__ void mma(float* d, u64 a, u64 b) {
#if NI == 256
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
      "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
      "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
      "%128, %129, 1, 1, 1, 0, 1;"
      : C64(0), C64(64) : "l"(a), "l"(b));
#elif NI == 192
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n192k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
      "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95}, "
      "%96, %97, 1, 1, 1, 0, 1;"
      : C64(0), C32(64) : "l"(a), "l"(b));
#elif NI == 128
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
      "%64, %65, 1, 1, 1, 0, 1;"
      : C64(0) : "l"(a), "l"(b));
#elif NI == 64
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "%32, %33, 1, 1, 1, 0, 1;"
      : C32(0) : "l"(a), "l"(b));
#elif NI == 32
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, "
      "%16, %17, 1, 1, 1, 0, 1;"
      : C16(0) : "l"(a), "l"(b));
#elif NI == 16
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n16k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7}, "
      "%8, %9, 1, 1, 1, 0, 1;"
      : C8(0) : "l"(a), "l"(b));
#endif
}

__device__ __forceinline__ u32 pack(float low, float high) {
  u32 out;
  asm(PACK : "=r"(out) : "f"(high), "f"(low));
  return out;
}

struct Tile {
  int item, column, slot;
};

__device__ __forceinline__ Tile tile_of(int t, int items, int columns, int panel, int rank) {
  // Panels of ``panel`` column tiles; within one, items in their order: X's panel stays in L2, W passes through once.
  int p = t / (items * panel), inside = t - p * items * panel;
  int width = min(panel, columns - p * panel);
  Tile out;
  out.item = inside / width;
  out.column = p * panel + inside % width;
  if (SHARE == 1) out.column = 2 * out.column + rank;
  out.slot = out.item * (SHARE == 1 ? 2 * columns : columns) + out.column;
  return out;
}

// Registers move from the producer to the warpgroups; together they stay within what a block starts with.
#if RESIDENT == 2 && G == 2
#define FEWER 24
#define MORE 104
#elif G == 2
#define FEWER 40
#define MORE 232
#elif G == 3
#define FEWER 32
#define MORE 160
#elif G == 4
#define FEWER 24
#define MORE 112
#endif

// One 64 x BN accumulator to Y: pairs of columns are exchanged in quads until each thread holds eight in a row.
__device__ __forceinline__ void store_tile(float (&d)[NREG], u32* y, int row, int M, int N, int first_column) {
  const int t = threadIdx.x & 3;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = row + 8 * h;
    u32* line = y + ((long long)r * N + first_column) / 2;
#if BN == 16
#pragma unroll
    for (int j = 0; j < BN / 8; ++j)
      if (r < M && first_column + j * 8 < N) line[j * 4 + t] = pack(d[4 * j + 2 * h], d[4 * j + 2 * h + 1]);
#else
#pragma unroll
    for (int j = 0; j < BN / 8; j += 4) {
      u32 v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = pack(d[4 * (j + i) + 2 * h], d[4 * (j + i) + 2 * h + 1]);
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        u32 other = __shfl_xor_sync(0xffffffffu, (t & 1) ? v[i] : v[i + 1], 1);
        if (t & 1) v[i] = other; else v[i + 1] = other;
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        u32 other = __shfl_xor_sync(0xffffffffu, (t & 2) ? v[i] : v[i + 2], 2);
        if (t & 2) v[i] = other; else v[i + 2] = other;
      }
      if (r < M && first_column + (j + t) * 8 < N)
        *reinterpret_cast<uint4*>(line + (j + t) * 4) = make_uint4(v[0], v[1], v[2], v[3]);
    }
#endif
  }
}

// The buffer is free: say so to every block that fills it.
__device__ __forceinline__ void release(u32 bar, int lane) {
#if SHARE
  if (lane < CLUSTER) barrier_arrive_at(bar, lane);
#else
  if (lane == 0) barrier_arrive(bar);
#endif
}

__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
}

// schedule: the tile of each cluster (or block) in each round, -1: none; round 0 is the tile of its own number.
// items: group, first step, last step + 1, part, parts. heads: the first 32 steps of each item. rows: first row of Y of
// each unit of a group.
extern "C" __global__ void
#if SHARE
__cluster_dims__(CLUSTER, 1, 1)
#endif
__launch_bounds__(128 * (G + 1), RESIDENT)
bsr_wgmma(const __grid_constant__ CUtensorMap x_map, const char* __restrict__ w, const int* __restrict__ meta, const int* __restrict__ heads,
          const int* __restrict__ items, const int* __restrict__ rows, u32* __restrict__ y, float* __restrict__ workspace,
          int* __restrict__ arrived, int M, int N, const int* __restrict__ schedule, int rounds, int item_count, int tiles_n, int panel) {
  extern __shared__ char raw[];
  char* shared = (char*)(((u64)raw + 1023) & ~1023ull);
  __shared__ alignas(8) u64 barriers[2 * STAGES];
  __shared__ int masks[STAGES];
  __shared__ int last[G];
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x & 31;
  const u32 buffers = shared_address(shared), full = shared_address(barriers), empty = full + 8 * STAGES;
  const int rank = blockIdx.x % CLUSTER;
  const int columns = SHARE == 1 ? (tiles_n + 1) / 2 : tiles_n, slots = SHARE == 1 ? 2 * columns : columns;
  const int clusters = gridDim.x / CLUSTER, cluster = blockIdx.x / CLUSTER;
  const int first_tile = cluster < item_count * columns ? cluster : -1;

  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(full + 8 * s, 1);
      barrier_init(empty + 8 * s, 4 * G * CLUSTER);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
  }
#if SHARE
  cluster_sync();
#else
  __syncthreads();
#endif

  if (warp < 4) {  // ---- producer
#ifdef FEWER
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(FEWER));
#endif
    if (warp == 0) {
      int stage = 0, phase = 0, turn = 0;
      for (int round = 0, t = first_tile, next_tile; t >= 0; ++round, t = next_tile) {
        next_tile = round + 1 < rounds ? __ldg(schedule + (round + 1) * clusters + cluster) : -1;
        const Tile tile = tile_of(t, item_count, columns, panel, rank);
        const int begin = __ldg(items + 5 * tile.item + 1), end = __ldg(items + 5 * tile.item + 2);
        const int x_column = tile.column * BN;
        // 32 steps of the list at a time, one a lane, and the next 32 on their way. An item's first 32 are kept by item,
        // so that they need not wait for ``begin``.
        int next[META];
#pragma unroll
        for (int i = 0; i < META; ++i) next[i] = __ldg(heads + ((long long)tile.item * 32 + lane) * META + i);
        for (int base = begin; base < end; base += 32) {
          int now[META];
#pragma unroll
          for (int i = 0; i < META; ++i) {
            now[i] = next[i];
            next[i] = base + 32 + lane < end ? __ldg(meta + (long long)(base + 32 + lane) * META + i) : 0;
          }
          const int count = min(32, end - base);
          for (int j = 0; j < count; ++j) {
            int column[NSUB];
#pragma unroll
            for (int i = 0; i < NSUB; ++i) column[i] = __shfl_sync(0xffffffffu, now[i], j);
            int first = __shfl_sync(0xffffffffu, now[NSUB], j), mask = __shfl_sync(0xffffffffu, now[NSUB + 1], j);
            if (SHARE == 2) {  // of the tiles of all strips, those of this block's
              const u32 before = (1u << (rank * G * NSUB)) - 1;
              first += __popc(mask & before);
              mask = ((u32)mask >> (rank * G * NSUB)) & ((1u << (G * NSUB)) - 1);
            }
            if (lane == 0) {
              const u32 bar = full + 8 * stage, buffer = buffers + stage * STAGE_BYTES;
              barrier_wait(empty + 8 * stage, phase ^ 1);
              int pieces = 0;
#pragma unroll
              for (int i = 0; i < NSUB; ++i) pieces += column[i] >= 0;
              const u32 w_bytes = __popc(mask) * TILE_BYTES;
              masks[stage] = mask;
              barrier_expect(bar, pieces * (CK * BN * 2) + w_bytes);
              if (SHARE == 1 ? (turn++ & 1) == rank : w_bytes > 0)
                load_w(buffer + X_BYTES, w + (long long)first * TILE_BYTES, w_bytes, bar);
#pragma unroll
              for (int i = 0; i < NSUB; ++i)
                if (column[i] >= 0)
#pragma unroll
                  for (int a = 0; a < BN / ATOM; ++a)
                    if (SHARE != 2 || (i * (BN / ATOM) + a) % 2 == rank) load_x(buffer + i * (CK * BN * 2) + a * (CK * ROW_BYTES), &x_map, x_column + a * ATOM, column[i] * CK, bar);
            }
            __syncwarp();
            if (++stage == STAGES) stage = 0, phase ^= 1;
          }
        }
      }
    }
  } else {  // ---- consumers
#ifdef MORE
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(MORE));
#endif
    const int strip = warp / 4 - 1, part_of_strip = warp & 3, thread = threadIdx.x & 127;
    const int my_strip = SHARE == 2 ? rank * G + strip : strip;
    int stage = 0, phase = 0;
    float d[NREG];
    for (int round = 0, t = first_tile, next_tile; t >= 0; ++round, t = next_tile) {
      next_tile = round + 1 < rounds ? __ldg(schedule + (round + 1) * clusters + cluster) : -1;
      const Tile tile = tile_of(t, item_count, columns, panel, rank);
      const int* item = items + 5 * tile.item;
      const int group = item[0], steps = item[2] - item[1], part = item[3], parts = item[4];
#pragma unroll
      for (int i = 0; i < NREG; ++i) d[i] = 0.f;
      const int first_row = rows[(group * ALL_STRIPS + my_strip) * 4 + part_of_strip];
      int* counter = arrived + ((long long)group * slots + tile.column) * ALL_STRIPS + my_strip;
      if (parts > 1) asm volatile("prefetch.global.L2 [%0];" ::"l"(counter));
      int held = -1;  // the stage whose MMA may still be running
      for (int s = 0; s < steps; ++s) {
        barrier_wait(full + 8 * stage, phase);
        const u32 mask = __shfl_sync(0xffffffffu, masks[stage], 0);
        const u32 mine = (mask >> (strip * NSUB)) & ((1u << NSUB) - 1);
        if (mine) {
          const u32 buffer = buffers + stage * STAGE_BYTES;
          u64 a = w_descriptor(buffer + X_BYTES + __popc(mask & ((1u << (strip * NSUB)) - 1)) * TILE_BYTES);
          const u64 b = x_descriptor(buffer);
          // One group of MMAs per piece, in a loop of its own: with branches between the MMAs of one group the
          // compiler would run them one after the other.
          u32 left = mine;
          do {
            const int i = NSUB == 1 ? 0 : __ffs(left) - 1;
            const u64 at = b + ((i * (CK * BN * 2)) >> 4);
            wgmma_fence();
#pragma unroll
            for (int q = 0; q < CK / 16; ++q)
#pragma unroll
              for (int n = 0; n < BN / NI; ++n)
                mma(d + n * (NI / 2), a + q * (2048 >> 4), at + q * ((16 * ROW_BYTES) >> 4) + n * ((NI / ATOM * CK * ROW_BYTES) >> 4));
            wgmma_commit();
            wgmma_wait<1>();
            a += TILE_BYTES >> 4;
            left &= left - 1;
          } while (NSUB > 1 && left);
        } else {
          wgmma_wait<0>();  // unconditional, or the compiler no longer follows the accumulators and waits after every MMA
        }
        if (held >= 0) release(empty + 8 * held, lane);
        held = stage;
        if (!mine) {
          release(empty + 8 * stage, lane);
          held = -1;
        }
        if (++stage == STAGES) stage = 0, phase ^= 1;
      }
      wgmma_wait<0>();
      if (held >= 0) release(empty + 8 * held, lane);

      if (parts > 1) {
        float* mine = workspace + ((long long)tile.slot * ALL_STRIPS + my_strip) * (64 * BN) + thread * 4;
#pragma unroll
        for (int i = 0; i < NREG; i += 4)
          *reinterpret_cast<float4*>(mine + i * 128) = make_float4(d[i], d[i + 1], d[i + 2], d[i + 3]);
        __threadfence();
        asm volatile("bar.sync %0, 128;" ::"r"(strip + 1) : "memory");
        if (thread == 0) {
          const int before = atomicAdd(counter, 1);
          last[strip] = before == parts - 1;
          if (before == parts - 1) *counter = 0;
        }
        asm volatile("bar.sync %0, 128;" ::"r"(strip + 1) : "memory");
        const int is_last = last[strip];
        asm volatile("bar.sync %0, 128;" ::"r"(strip + 1) : "memory");
        if (!is_last) continue;
        __threadfence();
#pragma unroll
        for (int i = 0; i < NREG; ++i) d[i] = 0.f;
        for (int p = 0; p < parts; ++p) {
          const float* theirs = workspace + (((long long)(tile.slot + (p - part) * slots)) * ALL_STRIPS + my_strip) * (64 * BN) + thread * 4;
#pragma unroll
          for (int i = 0; i < NREG; i += 4) {
            const float4 v = __ldcg(reinterpret_cast<const float4*>(theirs + i * 128));
            d[i] += v.x, d[i + 1] += v.y, d[i + 2] += v.z, d[i + 3] += v.w;
          }
        }
      }
      if (first_row >= 0) store_tile(d, y, first_row + lane / 4, M, N, tile.column * BN);
    }
  }
#if SHARE
  cluster_sync();  // nobody leaves while the other may still signal here
#endif
}
