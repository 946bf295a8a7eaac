// Y = W @ X for a 2:4 weight and few columns, by the sparse tensor-core instruction mma.sp.m16n8k32 (sm_80 and later).
//
// At N <= 64 the product is bound by the bytes of W: 1.125 a dense element (values 1, two-bit positions .125). So W is
// packed in the order in which lanes consume it. A unit is 32 rows by 128 columns and 4608 contiguous bytes: nine pieces
// of 16 bytes a lane, eight of A fragments (k32 step, 16-row tile) and one of metadata (four k32 steps; lanes 0 and 1 of
// a quad hold the upper tile's, lanes 2 and 3 the lower tile's, as the sparsity selectors 0 and 1 ask for it).
//
// Every lane copies its own pieces into its own slots of a ring in shared memory (cp.async), so W needs no barrier and
// no registers while it is under way. X comes through the same ring, is shared by the WR warps of a group, and is read
// by ldmatrix.trans; 16-byte columns are swizzled so that eight rows touch all banks.
//
// The units of a block row of 32 WR rows times the chunks along K form one line, cut into gridDim.x ranges of `share` or,
// the first `more` of them, share + 1 units. A range
// that holds only part of a block row leaves fp32 partial sums in the workspace; whoever arrives last adds them up in
// the order of the ranges, so results do not depend on timing.
//
// Macros: NT columns of Y a block (8, 16, 32, 64, 128), WR warps along rows, WK groups of warps along K, STAGES of the
// ring, BF16 0 or 1.

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;

constexpr int UNIT = 4608;                  // bytes of a 32 x 128 unit
constexpr int GROUP = WR * 32;              // threads that share a stage
constexpr int XBYTES = 128 * NT * 2;        // X of one stage
constexpr int STAGE = WR * UNIT + XBYTES;
constexpr int COLS = NT / 8;
constexpr int ACC = 2 * COLS;               // float4 a lane

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void copy16(u32 to, const void* from, bool there) {
    int bytes = there ? 16 : 0;  // zeros otherwise
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void stream16(u32 to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ uint4 load16(u32 from) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
    return v;
}

__device__ __forceinline__ uint4 transposed(u32 from) {
    uint4 v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
    return v;
}

#if BF16
#define TYPE "bf16"
#else
#define TYPE "f16"
#endif

template <int SELECTOR>
__device__ __forceinline__ void multiply(float4& c, const uint4& a, const uint4& b, u32 e) {
    asm volatile("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32." TYPE "." TYPE ".f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, %13;"
                 : "+f"(c.x), "+f"(c.y), "+f"(c.z), "+f"(c.w)
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y), "r"(b.z), "r"(b.w), "r"(e), "n"(SELECTOR));
}

__device__ __forceinline__ u32 pair(float low, float high) {
    u32 v;
    asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
    return v;
}

__device__ __forceinline__ void group_barrier(int kg) {
    if (WR == 1)
        __syncwarp();
    else if (WK == 1 || kg == 0)  // names known to the compiler, which would reserve all sixteen otherwise
        asm volatile("bar.sync 1, %0;" ::"n"(GROUP) : "memory");
    else if (WK == 2 || kg == 1)
        asm volatile("bar.sync 2, %0;" ::"n"(GROUP) : "memory");
    else if (WK == 3 || kg == 2)
        asm volatile("bar.sync 3, %0;" ::"n"(GROUP) : "memory");
    else
        asm volatile("bar.sync 4, %0;" ::"n"(GROUP) : "memory");
}

__device__ __forceinline__ int swizzle(int k) {  // of 16-byte columns in row k of a stage's X
    return NT == 8 ? 0 : NT == 16 ? (k >> 2) & 1 : NT == 32 ? (k >> 1) & 3 : k & 7;
}

// X[k0 : k0 + 128, n0 : n0 + NT] into a stage; zeros beyond the matrix. A thread keeps to one 16-byte column.
__device__ __forceinline__ void fetch_x(u32 to, const u16* x, int k0, int n0, int K, int N, bool wide, int thread) {
    constexpr int ROWS = GROUP / COLS, ROUNDS = 128 / ROWS > 0 ? 128 / ROWS : 1;
    const int c = thread % COLS, n = n0 + c * 8, top = thread / COLS;
    if (ROWS > 128 && top >= 128) return;
    const u16* from = x + (i64)(k0 + top) * N + n;
    const i64 down = (i64)ROWS * N;
    if (wide) {
        const int below = n < N ? K - k0 - top : 0;  // rows there are from here on
#pragma unroll
        for (int i = 0; i < ROUNDS; i++, from += down) {
            const int k = top + i * ROWS;
            copy16(to + k * (NT * 2) + ((c ^ swizzle(k)) << 4), from, i * ROWS < below);
        }
    } else {
#pragma unroll 1
        for (int i = 0; i < ROUNDS; i++, from += down) {
            const int k = top + i * ROWS;
            u32 words[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 low = k0 + k < K && n + 2 * j < N ? from[2 * j] : 0;
                u32 high = k0 + k < K && n + 2 * j + 1 < N ? from[2 * j + 1] : 0;
                words[j] = low | high << 16;
            }
            asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
                         ::"r"(to + k * (NT * 2) + ((c ^ swizzle(k)) << 4)), "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
                         : "memory");
        }
    }
}

__device__ __forceinline__ void put(u16* y, i64 row, int n, int M, int N, bool pairs, float a, float b) {
    if (row >= M || n >= N) return;
    u32 v = pair(a, b);
    u16* at = y + row * N + n;
    if (pairs) {
        *(u32*)at = v;
    } else {
        at[0] = (u16)v;
        if (n + 1 < N) at[1] = (u16)(v >> 16);
    }
}

__device__ __forceinline__ int start_of(int range, int share, int more) {
    return range * share + (range < more ? range : more);
}

__device__ __forceinline__ int range_of(int unit, int share, int more) {
    const int longer = more * (share + 1);
    return unit < longer ? unit / (share + 1) : more + (unit - longer) / share;
}

extern "C" __global__ void __launch_bounds__(WK* GROUP) nm_mma(
    const uint4* __restrict__ w, const u16* __restrict__ x, u16* __restrict__ y, float4* __restrict__ partial,
    int* __restrict__ arrived, int M, int N, int K, int share, int more, int flags) {
    extern __shared__ __align__(128) unsigned char shared[];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int kg = warp / WR, wr = warp % WR, thread = threadIdx.x % GROUP;
    const int chunks = (K + 127) / 128, groups = (M + 31) / 32, block_rows = (groups + WR - 1) / WR;
    const int n0 = blockIdx.y * NT;
    const bool wide = flags & 1, pairs = flags & 2;  // X in vectors of 16 bytes, Y in pairs of values
    const int first = start_of(blockIdx.x, share, more), last = start_of(blockIdx.x + 1, share, more);

    const u32 ring = shared_address(shared) + kg * STAGES * STAGE;
    const u32 own = wr * UNIT + lane * 16;  // a lane's slots in a stage
    float4* const sums = (float4*)(shared + WK * STAGES * STAGE);
    __shared__ int before;

    // What the group fetches next, and where it goes.
    int ahead = first + kg, ahead_row = ahead / chunks, ahead_chunk = ahead % chunks, ahead_slot = 0;
    auto fetch = [&]() {
        if (ahead < last) {
            int group = ahead_row * WR + wr;
            group = group < groups ? group : groups - 1;  // rows beyond M are computed and dropped
            const uint4* from = w + ((i64)group * chunks + ahead_chunk) * 288 + lane;
            u32 to = ring + ahead_slot * STAGE;
#pragma unroll
            for (int p = 0; p < 9; p++) stream16(to + own + p * 512, from + p * 32);
            fetch_x(to + WR * UNIT, x, ahead_chunk * 128, n0, K, N, wide, thread);
            ahead += WK;
            for (ahead_chunk += WK; ahead_chunk >= chunks; ahead_chunk -= chunks) ahead_row++;
        }
        ahead_slot = ahead_slot + 1 == STAGES ? 0 : ahead_slot + 1;
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) fetch();

    int unit = first + kg, slot = 0;
    for (int start = first; start < last;) {
        const int row = start / chunks, row_start = row * chunks, row_end = row_start + chunks;
        const int end = row_end < last ? row_end : last;
        float4 acc[2][COLS];
#pragma unroll
        for (int i = 0; i < 2 * COLS; i++) acc[i / COLS][i % COLS] = make_float4(0, 0, 0, 0);

        for (; unit < end; unit += WK) {
            asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
            group_barrier(kg);
            fetch();
            const u32 stage = ring + slot * STAGE;
            slot = slot + 1 == STAGES ? 0 : slot + 1;
            const uint4 e = load16(stage + own + 8 * 512);
            const u32 xrow = stage + WR * UNIT + lane * (NT * 2);
#pragma unroll
            for (int kk = 0; kk < 4; kk++) {
                const uint4 upper = load16(stage + own + (2 * kk) * 512), lower = load16(stage + own + (2 * kk + 1) * 512);
                const u32 meta = kk == 0 ? e.x : kk == 1 ? e.y : kk == 2 ? e.z : e.w;
#pragma unroll
                for (int c = 0; c < COLS; c++) {
                    const uint4 b = transposed(xrow + kk * 32 * (NT * 2) + ((c ^ swizzle(lane)) << 4));
                    multiply<0>(acc[0][c], upper, b, meta);
                    multiply<1>(acc[1][c], lower, b, meta);
                }
            }
        }

        // The groups of warps along K, in their order.
        if (WK > 1) {
            __syncthreads();
            if (kg > 0) {
#pragma unroll
                for (int i = 0; i < ACC; i++) sums[((kg - 1) * ACC + i) * GROUP + thread] = acc[i / COLS][i % COLS];
            }
            __syncthreads();
        }
        if (kg == 0) {
#pragma unroll
            for (int i = 0; i < ACC * (WK - 1); i++) {
                float4 v = sums[i * GROUP + thread];
                float4& c = acc[i % ACC / COLS][i % COLS];
                c.x += v.x, c.y += v.y, c.z += v.z, c.w += v.w;
            }
            bool whole = end - start == chunks;
            if (!whole) {
                // The blocks that share this block row leave their sums in the workspace; the last to come adds them.
                const int lowest = range_of(row_start, share, more), highest = range_of(row_end - 1, share, more);
                const int tile = blockIdx.y * gridDim.x * 2;
                float4* mine = partial + ((i64)(tile + 2 * blockIdx.x + (start != first)) * ACC) * GROUP + thread;
#pragma unroll
                for (int i = 0; i < ACC; i++) __stcg(mine + i * GROUP, acc[i / COLS][i % COLS]);
                __threadfence();
                group_barrier(0);
                int* const count = arrived + blockIdx.y * block_rows + row;
                if (thread == 0) {
                    before = atomicAdd(count, 1);
                    __threadfence();
                }
                group_barrier(0);
                whole = before == highest - lowest;
                if (whole) {
#pragma unroll
                    for (int i = 0; i < ACC; i++) acc[i / COLS][i % COLS] = make_float4(0, 0, 0, 0);
                    for (int b = lowest; b <= highest; b++) {
                        const int second = start_of(b, share, more) < row_start;
                        const float4* theirs = partial + ((i64)(tile + 2 * b + second) * ACC) * GROUP + thread;
#pragma unroll
                        for (int i = 0; i < ACC; i++) {
                            float4 v = __ldcg(theirs + i * GROUP);
                            float4& c = acc[i / COLS][i % COLS];
                            c.x += v.x, c.y += v.y, c.z += v.z, c.w += v.w;
                        }
                    }
                    if (thread == 0) *count = 0;  // for the next launch
                }
                group_barrier(0);  // `before` may be written again
            }
            if (whole) {
                const i64 top = ((i64)row * WR + wr) * 32 + lane / 4;
#pragma unroll
                for (int i = 0; i < ACC; i++) {
                    const float4 c = acc[i / COLS][i % COLS];
                    const int n = n0 + i % COLS * 8 + lane % 4 * 2;
                    put(y, top + i / COLS * 16, n, M, N, pairs, c.x, c.y);
                    put(y, top + i / COLS * 16 + 8, n, M, N, pairs, c.z, c.w);
                }
            }
        }
        start = end;
    }
}
