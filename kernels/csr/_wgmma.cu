// Y = W @ X for many columns: a bitmap weight decoded into the A registers of Hopper's warpgroup MMA, fp32 sums.
//
// A tile of Y has 128 rows and BN columns: two warpgroups of 64 rows. A third one fetches: one warp X, 64 rows at a time
// through a tensor map, into a ring of XSTAGES; another W, a panel of 256 columns at a time (masks and values of eight
// strips, by bulk copies), into a ring of WSTAGES. Each warp decodes the 16 x 64 elements of the next step while the
// tensor cores work on the last: W takes part in no shared-memory operand, and its bytes are the compressed ones.
//
// The columns of a fragment are not neighbours (bitmap_layout.py), so the rows of X have to be in the same order: the
// tensor map has five dimensions, (n, e, t, h, q), and a box of (64, 2, 4, 2, 2) delivers 32 rows in that order.
//
// `parts` > 1: blocks share the inner dimension; the last to finish a tile adds the parts up, always in their order.
// Blocks are persistent and walk tiles in bands of `band` columns of tiles, so that a band of X stays in L2.
//
// Cost of a step (128 x BN x 64): 16384 BN operations; 128 BN bytes of X, 512 + 16384 (1 - s^2) bytes of W from L2.
//
// Macros: BN 64, 128 or 256; XSTAGES; WSTAGES; BF16 0 or 1.
#include "_bitmap.cuh"

typedef unsigned long long u64;
struct alignas(64) CUtensorMap {
  u64 opaque[16];
};

constexpr int X_BYTES = 64 * BN * 2;
constexpr int BOX_BYTES = 32 * 128, BOXES = BN / 64 * 2;
constexpr int MASK_BYTES = 8 * 256;
constexpr int WARPS = 8;  // that multiply

#if BF16
#define KIND "bf16.bf16"
#define PACK "cvt.rn.bf16x2.f32 %0, %1, %2;"
#else
#define KIND "f16.f16"
#define PACK "cvt.rn.f16x2.f32 %0, %1, %2;"
#endif

__device__ __forceinline__ void barrier_init(u32 bar, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void barrier_wait(u32 bar, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra ready;\nbra again;\nready:\n}" ::"r"(bar),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void bulk_copy(u32 to, const void* from, u32 bytes, u32 bar) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(bar)
               : "memory");
}
__device__ __forceinline__ void load_box(u32 to, const CUtensorMap* map, int n, int t, u32 bar) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %4, %3, %4, %4}], [%5];" ::"r"(to),
      "l"((u64)map), "r"(n), "r"(t), "r"(0), "r"(bar)
      : "memory");
}
// X as an operand: rows of 64 columns, n innermost, 128-byte swizzle; 8 rows are 1024 bytes, 64 columns further 8192.
__device__ __forceinline__ u64 x_descriptor(u32 address) {
  return (u64)((address & 0x3FFFF) >> 4) | (u64)(8192 >> 4) << 16 | (u64)(1024 >> 4) << 32 | 1ull << 62;
}
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define C1(i) "+f"(d[i])
#define C4(i) C1(i), C1(i + 1), C1(i + 2), C1(i + 3)
#define C16(i) C4(i), C4(i + 4), C4(i + 8), C4(i + 12)
#define C64(i) C16(i), C16(i + 16), C16(i + 32), C16(i + 48)
__device__ __forceinline__ void multiply(float (&d)[BN / 2], const u32* a, u64 b) {
#if BN == 256
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,"
      "%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,"
      "%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,"
      "%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, {%128, %129, %130, %131}, %132, 1, 1, 1, 1;"
      : C64(0), C64(64)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#elif BN == 128
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,"
      "%61,%62,%63}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
      : C64(0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." KIND " {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31},"
      " {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
      : C16(0), C16(16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#endif
}

__device__ __forceinline__ u32 pack(float low, float high) {
  u32 out;
  asm(PACK : "=r"(out) : "f"(high), "f"(low));
  return out;
}

// 64 x BN sums to Y: pairs of columns are exchanged in quads until each lane holds eight in a row. N is a multiple of 8.
__device__ __forceinline__ void store_tile(float (&d)[BN / 2], u16* y, int row, int M, int N, int column) {
  const int t = threadIdx.x & 3;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = row + 8 * h;
    u16* line = y + (long long)r * N + column;
#pragma unroll
    for (int j = 0; j < BN / 8; j += 4) {
      u32 v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = pack(d[4 * (j + i) + 2 * h], d[4 * (j + i) + 2 * h + 1]);
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const u32 other = __shfl_xor_sync(~0u, (t & 1) ? v[i] : v[i + 1], 1);
        if (t & 1) v[i] = other; else v[i + 1] = other;
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const u32 other = __shfl_xor_sync(~0u, (t & 2) ? v[i] : v[i + 2], 2);
        if (t & 2) v[i] = other; else v[i + 2] = other;
      }
      if (r < M && column + (j + t) * 8 < N) *(uint4*)(line + (j + t) * 8) = make_uint4(v[0], v[1], v[2], v[3]);
    }
  }
}

struct Tile {
  int row, column, part, slot;  // in tiles; slot counts (row, column)
};
__device__ __forceinline__ Tile tile_of(int index, int rows, int columns, int parts, int band) {
  Tile tile;
  tile.part = index % parts;
  index /= parts;
  const int b = index / (rows * band), inside = index - b * rows * band, width = min(band, columns - b * band);
  tile.column = b * band + inside % width;
  tile.row = inside / width;
  tile.slot = tile.row * columns + tile.column;
  return tile;
}

extern "C" __global__ void __launch_bounds__(384, 1)
        bitmap_wgmma(const __grid_constant__ CUtensorMap x_map, const u32* __restrict__ masks,
                     const u32* __restrict__ offsets, const uint4* __restrict__ values, u16* __restrict__ y,
                     float* __restrict__ partial, u32* __restrict__ arrived, int M, int K, int N, int strips,
                     int panels, int rows, int columns, int parts, int band, int capacity) {
  extern __shared__ unsigned char raw[];
  const u32 x_ring = (shared_address(raw) + 1023) & ~1023u;
  const u32 w_ring = x_ring + XSTAGES * X_BYTES;
  const int w_bytes = MASK_BYTES + 8 * capacity;
  __shared__ alignas(8) u64 barriers[2 * XSTAGES + 2 * WSTAGES];
  __shared__ u32 before[2];
  const u32 x_full = shared_address(barriers), x_empty = x_full + 8 * XSTAGES;
  const u32 w_full = x_empty + 8 * XSTAGES, w_empty = w_full + 8 * WSTAGES;
  const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x & 31;
  const int count = rows * columns * parts;
  const int share = (panels + parts - 1) / parts;

  if (threadIdx.x == 0) {
    for (int s = 0; s < XSTAGES; ++s) {
      barrier_init(x_full + 8 * s, 1);
      barrier_init(x_empty + 8 * s, WARPS);
    }
    for (int s = 0; s < WSTAGES; ++s) {
      barrier_init(w_full + 8 * s, 8);
      barrier_init(w_empty + 8 * s, WARPS);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
  }
  __syncthreads();

  if (warp >= WARPS) {  // ---- fetching
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (warp == WARPS && lane == 0) {
      int stage = 0, phase = 1;
      for (int index = blockIdx.x; index < count; index += gridDim.x) {
        const Tile tile = tile_of(index, rows, columns, parts, band);
        const int first = tile.part * share * 256, last = min(K, first + share * 256);
        for (int k = first; k < last; k += 64) {
          const u32 to = x_ring + stage * X_BYTES;
          barrier_wait(x_empty + 8 * stage, phase);
          barrier_expect(x_full + 8 * stage, X_BYTES);
#pragma unroll
          for (int b = 0; b < BOXES; ++b)  // 32 rows x 64 columns
            load_box(to + b * BOX_BYTES, &x_map, tile.column * BN + b / 2 * 64, k / 8 + b % 2 * 4, x_full + 8 * stage);
          if (++stage == XSTAGES) stage = 0, phase ^= 1;
        }
      }
    } else if (warp == WARPS + 1 && lane < 8) {
      int stage = 0, phase = 1;
      for (int index = blockIdx.x; index < count; index += gridDim.x) {
        const Tile tile = tile_of(index, rows, columns, parts, band);
        const int first = tile.part * share, last = min(panels, first + share), strip = tile.row * 8 + lane;
        const long long line = (long long)strip * panels;
        const bool inside = strip < strips;
        u32 next = inside && first < last ? __ldg(offsets + line + first) : 0;
        u32 after = inside && first < last ? __ldg(offsets + line + first + 1) : 0;
        for (int panel = first; panel < last; ++panel) {
          const u32 from = next, units = after - next;
          next = after;
          if (inside && panel + 1 < last) after = __ldg(offsets + line + panel + 2);
          const u32 to = w_ring + stage * w_bytes, bar = w_full + 8 * stage;
          barrier_wait(w_empty + 8 * stage, phase);
          barrier_expect(bar, inside ? 256 + units * 16 : 0);
          if (inside) {
            bulk_copy(to + lane * 256, masks + (line + panel) * 64, 256, bar);
            if (units) bulk_copy(to + MASK_BYTES + lane * capacity, values + from, units * 16, bar);
          }
          if (++stage == WSTAGES) stage = 0, phase ^= 1;
        }
      }
    }
  } else {  // ---- multiplying
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    const int group = warp / 4;
    int x_stage = 0, x_phase = 0, w_stage = 0, w_phase = 0;
    float d[BN / 2];
    u32 a[2][16];
    for (int index = blockIdx.x; index < count; index += gridDim.x) {
      const Tile tile = tile_of(index, rows, columns, parts, band);
      const int first = tile.part * share, last = min(panels, first + share);
      const bool inside = tile.row * 8 + warp < strips;
#pragma unroll
      for (int i = 0; i < BN / 2; ++i) d[i] = 0.f;
      int used = -1;  // the ring's place that the MMAs under way read
      for (int panel = first; panel < last; ++panel) {
        const u32 at = w_ring + w_stage * w_bytes, values_at = at + MASK_BYTES + warp * capacity;
        barrier_wait(w_full + 8 * w_stage, w_phase);
        Mask mask = load_mask<2>(at + warp * 256, lane);
        if (!inside) mask = Mask();
        const Starts start = starts(mask, lane);
        const int steps = min(4, (K - panel * 256 + 63) / 64);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (i < steps) {
            decode32<16>(mask.part[i], values_at + start.part[i] * 4, a[i & 1]);
            barrier_wait(x_full + 8 * x_stage, x_phase);
            wgmma_fence();
#pragma unroll
            for (int q = 0; q < 4; ++q)
              multiply(d, a[i & 1] + q * 4, x_descriptor(x_ring + x_stage * X_BYTES + q * 2048));
            wgmma_commit();
            wgmma_wait<1>();
            if (used >= 0 && lane == 0) barrier_arrive(x_empty + 8 * used);
            used = x_stage;
            if (++x_stage == XSTAGES) x_stage = 0, x_phase ^= 1;
          }
        }
        __syncwarp();
        if (lane == 0) barrier_arrive(w_empty + 8 * w_stage);
        if (++w_stage == WSTAGES) w_stage = 0, w_phase ^= 1;
      }
      wgmma_wait<0>();
      if (used >= 0 && lane == 0) barrier_arrive(x_empty + 8 * used);
      const int row = tile.row * 128 + warp * 16 + lane / 4, column = tile.column * BN;
      if (parts == 1) {
        store_tile(d, y, row, M, N, column);
        continue;
      }
      // The two warpgroups of a tile are independent of each other: each counts its own parts.
      const int thread = threadIdx.x & 127;
      const long long half = (long long)tile.slot * 2 + group;
      float4* mine = (float4*)partial + ((half * parts + tile.part) * (BN / 8)) * 128 + thread;
#pragma unroll
      for (int j = 0; j < BN / 8; ++j)
        __stcg(mine + j * 128, make_float4(d[4 * j], d[4 * j + 1], d[4 * j + 2], d[4 * j + 3]));
      __threadfence();
      asm volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory");
      if (thread == 0) {
        before[group] = atomicAdd(arrived + half, 1);
        if (before[group] == parts - 1) arrived[half] = 0;  // for the next launch
      }
      asm volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory");
      if (before[group] != parts - 1) continue;
      __threadfence();
      const float4* all = (const float4*)partial + half * parts * (BN / 8) * 128 + thread;
#pragma unroll
      for (int i = 0; i < BN / 2; ++i) d[i] = 0.f;
      for (int p = 0; p < parts; ++p)
#pragma unroll
        for (int j = 0; j < BN / 8; ++j) {
          const float4 v = __ldcg(all + (p * (BN / 8) + j) * 128);
          d[4 * j] += v.x, d[4 * j + 1] += v.y, d[4 * j + 2] += v.z, d[4 * j + 3] += v.w;
        }
      store_tile(d, y, row, M, N, column);
    }
  }
}
