// Block-sparse Y = W X in IEEE fp32 on CUDA cores.
//
// A block computes BM rows (a block row, or a part of one) by BN columns of Y; each thread 8 x 8 of them, from 16 values
// a step along k: 64 fused multiply-adds for four 16-byte reads of shared memory. Slabs of 16 columns of W (stored with
// k outside and rows inside, as the threads read them) and their 16 rows of X come through a ring of STAGES buffers by
// asynchronous copies. Block rows are taken longest first. Sums run over the stored blocks in their order: deterministic.
//
// Cost of a slab: 32 BM BN operations, 64 BM bytes of W and 64 BN bytes of X: at 64 x 128 that is 21 operations a byte, so
// the arithmetic bounds it down to 16 rows.
//
// Macros: BM 16, 32, 64 or 128; BN, a multiple of 64 (BM 16: 128); STAGES.

typedef unsigned int u32;
#define WARP_M (BM < 32 ? BM : 32)
#define WARP_N (2048 / WARP_M)
#define WARPS_M (BM / WARP_M)
#define THREADS (BM * BN / 64)
#define LANES_M (WARP_M / 8)
#define LANES_N (32 / LANES_M)
#define W_WORDS (16 * BM / 4)  // 16-byte words of a slab
#define X_WORDS (16 * BN / 4)

__device__ __forceinline__ void copy16(u32 to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}

// order: block rows, longest first. slabs_of: slabs of 16 columns in a block; parts: BM-row parts of a block row.
extern "C" __global__ void __launch_bounds__(THREADS)
bsr_ffma(const float* __restrict__ w, const int* __restrict__ indptr, const int* __restrict__ indices,
         const int* __restrict__ order, const float* __restrict__ x, float* __restrict__ y, int M, int N, int K, int slabs_of,
         int parts, int tiles_m, int tiles_n, int group) {
  extern __shared__ __align__(128) float shared[];
  // GROUP rows of tiles are walked column by column: blocks that run together share tiles of X and W in L2.
  const int per_group = group * tiles_n, from_m = blockIdx.x / per_group * group;
  const int width = min(group, tiles_m - from_m), inside = blockIdx.x % per_group;
  const int tile_m = from_m + inside % width, n0 = inside / width * BN;
  const int block_row = __ldg(order + tile_m / parts), part = tile_m % parts;
  const int first = __ldg(indptr + block_row), slabs = (__ldg(indptr + block_row + 1) - first) * slabs_of;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int m0 = warp % WARPS_M * WARP_M, c0 = warp / WARPS_M * WARP_N;
  const int tm = lane / LANES_N, tn = lane % LANES_N;
  const u32 ring = (u32)__cvta_generic_to_shared(shared);
  float d[8][8];
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) d[i][j] = 0.f;

  auto fetch = [&](int s, int stage) {
    if (s < slabs) {
      const int block = first + s / slabs_of, q = s % slabs_of;
      const int k0 = (__ldg(indices + block) * slabs_of + q) * 16;
      const float* from = w + (((long long)block * parts + part) * slabs_of + q) * (16 * BM);
      const u32 to = ring + stage * (W_WORDS + X_WORDS) * 16;
#pragma unroll
      for (int i = 0; i < (W_WORDS + THREADS - 1) / THREADS; ++i) {
        const int at = i * THREADS + threadIdx.x;
        if (W_WORDS % THREADS == 0 || at < W_WORDS) copy16(to + at * 16, from + at * 4, true);
      }
#pragma unroll
      for (int i = 0; i < (X_WORDS + THREADS - 1) / THREADS; ++i) {
        const int at = i * THREADS + threadIdx.x, k = at / (BN / 4), c = at % (BN / 4) * 4;
        const bool in = k0 + k < K && n0 + c < N;
        if (X_WORDS % THREADS == 0 || at < X_WORDS)
          copy16(to + (W_WORDS + at) * 16, in ? x + (long long)(k0 + k) * N + n0 + c : x, in);
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };

#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) fetch(s, s);
  int stage = 0, ahead = STAGES - 1;
  for (int s = 0; s < slabs; ++s) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    __syncthreads();  // the slab is here, and everybody has left the buffer that is filled next
    fetch(s + STAGES - 1, ahead);
    const float* a = shared + stage * (W_WORDS + X_WORDS) * 4 + m0 + tm * 4;
    const float* b = shared + stage * (W_WORDS + X_WORDS) * 4 + W_WORDS * 4 + c0 + tn * 4;
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      float u[8], v[8];
      *reinterpret_cast<float4*>(u) = *reinterpret_cast<const float4*>(a + k * BM);
      *reinterpret_cast<float4*>(u + 4) = *reinterpret_cast<const float4*>(a + k * BM + WARP_M / 2);
      *reinterpret_cast<float4*>(v) = *reinterpret_cast<const float4*>(b + k * BN);
      *reinterpret_cast<float4*>(v + 4) = *reinterpret_cast<const float4*>(b + k * BN + WARP_N / 2);
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) d[i][j] = fmaf(u[i], v[j], d[i][j]);
    }
    if (++stage == STAGES) stage = 0;
    if (++ahead == STAGES) ahead = 0;
  }

#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = (block_row * parts + part) * BM + m0 + i / 4 * (WARP_M / 2) + tm * 4 + i % 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int c = n0 + c0 + h * (WARP_N / 2) + tn * 4;
      if (row < M && c < N)
        *reinterpret_cast<float4*>(y + (long long)row * N + c) = make_float4(d[i][4 * h], d[i][4 * h + 1], d[i][4 * h + 2], d[i][4 * h + 3]);
    }
  }
}
