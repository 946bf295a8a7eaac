// Y = W @ X for a 2:4 weight by Hopper's wgmma.mma_async.sp (sm_90a).
//
// A tile of Y has BN columns and 64 rows for each of WGS consumer warpgroups, fp32 sums in registers. One thread of
// another warpgroup keeps a ring of STAGES in shared memory filled; a stage is 64 columns of W, packed by wgmma_units
// (values as core matrices without swizzle, then a metadata word a thread), a bulk copy a warpgroup, and 64 rows of X by
// BN columns through a tensor map, swizzled, read by wgmma with N innermost.
//
// Few columns: the bytes of W bound the time (1.125 a dense element), so as much of W as shared memory holds is always
// under way, and SK blocks of a cluster share the work of a tile along K. They send their sums to one another's shared
// memory (st.async, counted by a barrier there), where each adds up the rows of its share in the order of the blocks:
// results do not depend on timing.
//
// Many columns: one instruction multiplies 64 x 32 (16 kept) by 32 x BN in the time of a dense 64 x 16 by 16 x BN, so per
// time unit it reads twice the X: at BN = 256, 16 KiB of X and 2 of W in 128 cycles of the tensor core, 1.125 of what
// shared memory gives; what is written there comes on top (41 KiB in 512 cycles). With CM = 2, two blocks on consecutive
// row tiles share X, each fetching half and multicasting it, which halves the reads of L2, the next limit. Blocks are
// persistent; tiles are walked in groups of WIDTH column tiles, all row tiles of a group first, so that the slab of X
// stays in L2 while W streams by.
//
// Macros: BN 8, 16, 32, 64, 128 or 256; WGS 1 or 2; STAGES; CM and SK, powers of two, CM * SK <= 8, the blocks of a
// cluster; WIDTH; BLOCKS a multiprocessor; ROTATE 0 or 1; BF16 0 or 1; WATCHDOG 1 traps where a barrier never opens.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
typedef long long i64;

struct alignas(64) CUtensorMap {
    u64 opaque[16];
};

constexpr int UNIT = 4608;                               // W of a warpgroup and stage: 4096 of values, 512 of metadata
constexpr int WBYTES = WGS * UNIT;
constexpr int WARPS = 4 * WGS;                           // consumers
constexpr int ROWS = 64 * WGS;
constexpr int ROW = BN < 64 ? BN * 2 : 128;              // bytes of a row of X in a box
constexpr int BOX = 64 * ROW, BOXES = BN < 64 ? 1 : BN / 64;
constexpr int XBYTES = BOXES * BOX;
constexpr int STAGE = (XBYTES + WBYTES + 1023) / 1024 * 1024;  // the swizzle asks for multiples of 1024
constexpr int OWN = BOXES >= CM ? BOXES / CM : 1;        // boxes that this block fetches
constexpr u32 SWIZZLE = ROW == 128 ? 1 : ROW == 64 ? 2 : ROW == 32 ? 3 : 0;
constexpr u32 LEADING = ROW == 16 ? 128 : BOX;           // without swizzle from 8 to 8 rows, with it from box to box
constexpr u32 STRIDE = 8 * ROW;
constexpr int CLUSTER = CM * SK;
constexpr bool MOVE = BN >= 128 && WGS == 2;             // registers from the fetching warpgroup to the others

constexpr int SHARE = WARPS / SK * (BN / 8);             // fragments of 512 bytes of sums from one block of a cluster
constexpr int SUMS = SK * SHARE * 512;

static_assert(BOXES >= CM, "blocks share whole boxes");
static_assert(SK <= WARPS, "blocks share whole warps");

#if BF16
#define TYPE "bf16"
#else
#define TYPE "f16"
#endif

#if BN == 256
template <int SELECTOR>
__device__ __forceinline__ void multiply(float (&d)[128], u64 a, u64 b, u32 e) {
    asm volatile(
        "wgmma.mma_async.sp.sync.aligned.m64n256k32.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
        "}, %128, %129, %130, %131, 1, 1, 1, 0, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
          "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
          "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
          "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),
          "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),
          "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
          "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
          "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),
          "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
        : "l"(a), "l"(b), "r"(e), "n"(SELECTOR));
}
#elif BN == 128
template <int SELECTOR>
__device__ __forceinline__ void multiply(float (&d)[64], u64 a, u64 b, u32 e) {
    asm volatile(
        "wgmma.mma_async.sp.sync.aligned.m64n128k32.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
        "}, %64, %65, %66, %67, 1, 1, 1, 0, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
        : "l"(a), "l"(b), "r"(e), "n"(SELECTOR));
}
#elif BN == 64
template <int SELECTOR>
__device__ __forceinline__ void multiply(float (&d)[32], u64 a, u64 b, u32 e) {
    asm volatile(
        "wgmma.mma_async.sp.sync.aligned.m64n64k32.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
        "}, %32, %33, %34, %35, 1, 1, 1, 0, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
        : "l"(a), "l"(b), "r"(e), "n"(SELECTOR));
}
#elif BN == 32
template <int SELECTOR>
__device__ __forceinline__ void multiply(float (&d)[16], u64 a, u64 b, u32 e) {
    asm volatile(
        "wgmma.mma_async.sp.sync.aligned.m64n32k32.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
        "}, %16, %17, %18, %19, 1, 1, 1, 0, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
        : "l"(a), "l"(b), "r"(e), "n"(SELECTOR));
}
#elif BN == 16
template <int SELECTOR>
__device__ __forceinline__ void multiply(float (&d)[8], u64 a, u64 b, u32 e) {
    asm volatile(
        "wgmma.mma_async.sp.sync.aligned.m64n16k32.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3, %4, %5, %6, %7"
        "}, %8, %9, %10, %11, 1, 1, 1, 0, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
        : "l"(a), "l"(b), "r"(e), "n"(SELECTOR));
}
#elif BN == 8
template <int SELECTOR>
__device__ __forceinline__ void multiply(float (&d)[4], u64 a, u64 b, u32 e) {
    asm volatile(
        "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3"
        "}, %4, %5, %6, %7, 1, 1, 1, 0, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "l"(a), "l"(b), "r"(e), "n"(SELECTOR));
}
#endif

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
#if WATCHDOG
    for (int tries = 0;; tries++) {
        u32 open;
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                     : "=r"(open) : "r"(barrier), "r"(parity) : "memory");
        if (open) return;
        if (tries > 200000) asm volatile("trap;");
    }
#else
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @!p bra again; }"
                 ::"r"(barrier), "r"(parity) : "memory");
#endif
}

__device__ __forceinline__ u32 in_block(u32 address, u32 rank) {  // of the cluster
    u32 there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

// Shared-memory operand of wgmma: byte address, and the two strides in bytes.
__device__ __forceinline__ u64 descriptor(u32 address, u32 leading, u32 stride, u64 swizzle) {
    return (u64)((address & 0x3FFFF) >> 4) | (u64)(leading >> 4) << 16 | (u64)(stride >> 4) << 32 | swizzle << 62;
}

__device__ __forceinline__ u32 pair(float low, float high) {
    u32 v;
    asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
    return v;
}

// Words i of the four lanes of a quad become: lane t holds word t of lanes 0 to 3.
__device__ __forceinline__ void transpose_quad(u32 (&p)[4], int t) {
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i & step) continue;
            const bool high = t & step;
            const u32 got = __shfl_xor_sync(~0u, high ? p[i] : p[i | step], step);
            if (high)
                p[i] = got;
            else
                p[i | step] = got;
        }
    }
}

// Write 16 rows from `row` on of the columns from n on: 8 a fragment (x, y of row lane / 4; z, w eight rows below).
template <int COUNT>
__device__ __forceinline__ void store(u16* y, i64 row, int n, int M, int N, const float4 (&c)[COUNT], int lane) {
    const int t = lane % 4;
    row += lane / 4;
#pragma unroll
    for (int half = 0; half < 2; half++, row += 8) {
        u32 p[4];
#pragma unroll
        for (int i = 0; i < COUNT; i++) p[i] = half ? pair(c[i].z, c[i].w) : pair(c[i].x, c[i].y);
        if (COUNT == 4) {
            transpose_quad(p, t);
            if (row < M && n + t * 8 < N) *(uint4*)(y + row * N + n + t * 8) = make_uint4(p[0], p[1], p[2], p[3]);
        } else {
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                if (row < M && n + i * 8 < N) *(u32*)(y + row * N + n + i * 8 + t * 2) = p[i];
            }
        }
    }
}

struct Tile {
    int row, column;  // in tiles; row of the first block of a cluster
};

// Number `index` of the walk: groups of WIDTH column tiles, in each the rows one by one, columns innermost.
__device__ __forceinline__ Tile walk(int index, int rows, int columns) {
    const int full = rows * WIDTH, group = index / full, from = group * WIDTH;
    const int width = columns - from < WIDTH ? columns - from : WIDTH, rest = index - group * full;
    return {rest / width * CM, from + rest % width};
}

extern "C" __global__ void __launch_bounds__(128 * (WGS + 1), BLOCKS)
#if CM * SK > 1
__cluster_dims__(CM * SK, 1, 1)
#endif
nm_wgmma(const __grid_constant__ CUtensorMap xmap, const unsigned char* __restrict__ w, u16* __restrict__ y, int M, int N,
         int K) {
    extern __shared__ __align__(1024) unsigned char shared[];
    __shared__ __align__(8) u64 barriers[2 * STAGES + 1];
    const int warpgroup = threadIdx.x / 128;
    const int groups = (M + 63) / 64, row_tiles = (groups + WGS - 1) / WGS, all_steps = (K + 63) / 64;
    const int rows = (row_tiles + CM - 1) / CM, columns = (N + BN - 1) / BN;
    const int walks = gridDim.x / CLUSTER, tiles = rows * columns;
    u32 rank = 0;
    if (CLUSTER > 1) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    const int mrank = rank % CM, krank = rank / CM;
    const int begin = (i64)all_steps * krank / SK, end = (i64)all_steps * (krank + 1) / SK;

    const u32 ring = shared_address(shared);
    const u32 full = shared_address(barriers), empty = full + 8 * STAGES, summed = empty + 8 * STAGES;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(full + 8 * s) : "memory");
            asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(empty + 8 * s), "n"(WGS * CM) : "memory");
        }
        if (SK > 1) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(summed) : "memory");
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(summed), "n"(SUMS) : "memory");
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    // Other blocks' barriers may be used once all have arrived here.
    if (CLUSTER > 1) asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    if (CM > 1) asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");

    if (warpgroup == 0) {
        if (MOVE) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            int slot = 0;
            u32 parity = 1;  // the first round finds every slot empty
            for (int index = blockIdx.x / CLUSTER; index < tiles; index += walks) {
                const Tile tile = walk(index, rows, columns);
                const unsigned char* from[WGS];
#pragma unroll
                for (int i = 0; i < WGS; i++) {
                    int group = (tile.row + mrank) * WGS + i;
                    group = group < groups ? group : groups - 1;  // computed and dropped
                    from[i] = w + (i64)group * all_steps * UNIT;
                }
                // Where W counts, row tiles start at different steps, so that not all ask for the same lines of X at once.
                int step = begin + (ROTATE ? (int)((i64)tile.row * (end - begin) / (rows * CM)) : 0);
#pragma unroll 1
                for (int count = begin; count < end; count++, step = step + 1 < end ? step + 1 : begin) {
                    const u32 to = ring + slot * STAGE, bar = full + 8 * slot;
                    wait(empty + 8 * slot, parity);
                    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "n"(XBYTES + WBYTES) : "memory");
#pragma unroll
                    for (int i = 0; i < WGS; i++) {
                        asm volatile(
                            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                            ::"r"(to + XBYTES + i * UNIT), "l"(from[i] + (i64)step * UNIT), "n"(UNIT), "r"(bar) : "memory");
                    }
#pragma unroll
                    for (int i = 0; i < OWN; i++) {
                        const int box = mrank * OWN + i;
                        const int n = tile.column * BN + box * 64;
#if CM > 1
                        asm volatile(
                            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                            "[%0], [%1, {%2, %3}], [%4], %5;"
                            ::"r"(to + box * BOX), "l"(&xmap), "r"(n), "r"(step * 64), "r"(bar),
                            "h"((u16)(((1 << CM) - 1) << krank * CM)) : "memory");
#else
                        asm volatile(
                            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                            "[%0], [%1, {%2, %3}], [%4];"
                            ::"r"(to + box * BOX), "l"(&xmap), "r"(n), "r"(step * 64), "r"(bar) : "memory");
#endif
                    }
                    if (++slot == STAGES) slot = 0, parity ^= 1;
                }
            }
            // A block must not end while others may still signal its barriers.
            if (CM > 1) {
                for (int s = 0; s < STAGES; s++) {
                    wait(empty + 8 * slot, parity);
                    if (++slot == STAGES) slot = 0, parity ^= 1;
                }
            }
        }
        __syncwarp();
        if (SK > 1 && CM == 1) asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    } else {
        if (MOVE) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        const int consumer = warpgroup - 1, thread = threadIdx.x % 128, lane = threadIdx.x % 32;
        const int warp = consumer * 4 + thread / 32;
        int slot = 0;
        u32 parity = 0;
        auto release = [&](int s) {  // tell every block that writes into this slot
            if (thread < CM) {
#if CM > 1
                // What is ordered here is the wgmma's reading, which is over: no fence, which a cluster scope would bring.
                asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];"
                             ::"r"(in_block(empty + 8 * s, krank * CM + thread)) : "memory");
#else
                asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(empty + 8 * s) : "memory");
#endif
            }
        };
        for (int index = blockIdx.x / CLUSTER; index < tiles; index += walks) {
            const Tile tile = walk(index, rows, columns);
            float acc[BN / 2];
#pragma unroll
            for (int i = 0; i < BN / 2; i++) acc[i] = 0;
            int previous = -1;
            // Metadata is read from its register while the instruction runs, so the register of a step must not be
            // loaded again before that step is over: even and odd steps have one each.
            auto advance = [&](u32& e, const u32& before) {
                wait(full + 8 * slot, parity);
                const u32 xs = ring + slot * STAGE, ws = xs + XBYTES;
                asm volatile("ld.shared.u32 %0, [%1];" : "=r"(e) : "r"(ws + consumer * UNIT + 4096 + thread * 4) : "memory");
                const u64 a = descriptor(ws + consumer * UNIT, 128, 256, 0), b = descriptor(xs, LEADING, STRIDE, SWIZZLE);
                asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
                multiply<0>(acc, a, b, e);
                multiply<1>(acc, a + (2048 >> 4), b + (32 * ROW >> 4), e);
                asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                asm volatile("" ::"r"(before) : "memory");
                if (previous >= 0) release(previous);
                previous = slot;
                if (++slot == STAGES) slot = 0, parity ^= 1;
            };
            u32 even = 0, odd = 0;
#pragma unroll 1
            for (int step = begin; step < end; step += 2) {
                advance(even, odd);
                if (step + 1 < end) advance(odd, even);
            }
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            asm volatile("" ::"r"(even), "r"(odd) : "memory");
#pragma unroll
            for (int i = 0; i < BN / 2; i++) asm volatile("" : "+f"(acc[i])::"memory");
            if (previous >= 0) release(previous);

            constexpr int COUNT = BN < 32 ? BN / 8 : 4;  // fragments of 8 columns that are stored together
            const i64 top = (i64)(tile.row + mrank) * ROWS;
            if (SK == 1) {
#pragma unroll
                for (int j = 0; j < BN / 8; j += COUNT) {
                    float4 c[COUNT];
#pragma unroll
                    for (int i = 0; i < COUNT; i++) {
                        const float* from = acc + (j + i) * 4;
                        c[i] = make_float4(from[0], from[1], from[2], from[3]);
                    }
                    store(y, top + warp * 16, tile.column * BN + j * 8, M, N, c, lane);
                }
            } else {
                // Block k of the cluster adds up what warps k, k + SK, ... have.
                if (CM == 1) asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
                const u32 sums = ring + STAGES * STAGE;
                const u32 to = warp % SK * CM + mrank, there_summed = in_block(summed, to);
                const u32 there = in_block(sums + (krank * SHARE + warp / SK * (BN / 8)) * 512 + lane * 16, to);
#pragma unroll
                for (int j = 0; j < BN / 8; j++) {
                    asm volatile(
                        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];"
                        ::"r"(there + j * 512), "f"(acc[j * 4]), "f"(acc[j * 4 + 1]), "f"(acc[j * 4 + 2]), "f"(acc[j * 4 + 3]),
                        "r"(there_summed) : "memory");
                }
                wait(summed, 0);
                for (int i = warp * COUNT; i < SHARE; i += WARPS * COUNT) {
                    float4 c[COUNT];
#pragma unroll
                    for (int f = 0; f < COUNT; f++) {
                        const float4* from = (const float4*)(shared + STAGES * STAGE + (i + f) * 512) + lane;
                        c[f] = from[0];
#pragma unroll
                        for (int k = 1; k < SK; k++) {
                            const float4 v = from[k * SHARE * 32];
                            c[f].x += v.x, c[f].y += v.y, c[f].z += v.z, c[f].w += v.w;
                        }
                    }
                    const int owner = i / (BN / 8) * SK + krank, j = i % (BN / 8);
                    store(y, top + owner * 16, tile.column * BN + j * 8, M, N, c, lane);
                }
            }
        }
    }
}
