// Y = W @ X in IEEE fp32 on CUDA cores: panels of X in shared memory, sums in registers. See panel_layout.py.
//
// A block owns WARPS * SLOTS * SIDE rows of Y (in the order of falling length) by BN columns, and walks K in panels of
// KP rows of X. Per panel it copies X (KP x BN) and the panel's block of stored elements to shared memory, one panel
// ahead. LANES lanes take one row: for each of its elements a 16-byte read of X and four multiplications per lane. A
// warp takes SIDE rows beside each other and SLOTS rows after each other; element, column and row starts are read from
// shared memory too, so nothing in the inner loop waits for L2.
//
// What bounds it: for 32 lanes and one element, 512 bytes of X and 8 of the element go through shared memory at 128 a
// cycle, for 256 operations: 22 % of the fp32 peak at best. Bytes from L2: X once per group of rows, W once per BN
// columns.
typedef unsigned int u32;
typedef unsigned short u16;

#ifndef CLUSTER
#define CLUSTER 0
#endif

constexpr int LANES = BN / 4;
constexpr int SIDE = 32 / LANES;
constexpr int ROWS = WARPS * SLOTS * SIDE;
constexpr int ROW_BYTES = BN * 4;
constexpr int X_BYTES = (KP + 1) * ROW_BYTES;  // and a row of zeros for elements that only fill a pair

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy16_or_zero(u32 to, const void* from, u32 bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy4_or_zero(u32 to, const void* from, u32 bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ float4 load4(u32 from) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(from));
  return v;
}
__device__ __forceinline__ void add(float4& sum, float v, const float4& x) {
  sum.x = fmaf(v, x.x, sum.x), sum.y = fmaf(v, x.y, sum.y), sum.z = fmaf(v, x.z, sum.z), sum.w = fmaf(v, x.w, sum.w);
}
__device__ __forceinline__ void store4(float* y, const u32* order, long long slot, int M, int col, int N, bool vectors,
                                       const float4& v) {
  if (slot >= M) return;
  float* at = y + (long long)order[slot] * N + col;
  if (vectors && col + 3 < N) {
    *(float4*)at = v;
  } else {
    if (col < N) at[0] = v.x;
    if (col + 1 < N) at[1] = v.y;
    if (col + 2 < N) at[2] = v.z;
    if (col + 3 < N) at[3] = v.w;
  }
}

extern "C" __global__ void __launch_bounds__(WARPS * 32)
#if CLUSTER
    __cluster_dims__(1, SPLITS, 1)
#endif
        panel_spmm(const u32* __restrict__ starts, const uint4* __restrict__ blocks, const u32* __restrict__ order,
                   const float* __restrict__ x, float* __restrict__ y, float* __restrict__ partial,
                   u32* __restrict__ arrived, int M, int K, int N, int panels, int panels_per_split, int capacity,
                   int vectors) {
  extern __shared__ __align__(128) unsigned char memory[];
  const u32 base = shared_address(memory);
  const int stage_bytes = X_BYTES + capacity;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int group = blockIdx.x, n0 = blockIdx.z * BN;
  const int first = blockIdx.y * panels_per_split, last = min(panels, first + panels_per_split);

  u32 from = 0, units = 0;
  auto look_up = [&](int panel) {
    if (panel >= last) return;
    const u32* at = starts + (long long)group * panels + panel;
    from = __ldg(at);
    units = __ldg(at + 1) - from;
  };
  auto copy = [&](int panel, int stage) {
    const u32 at = base + stage * stage_bytes;
    for (u32 i = threadIdx.x; i < units; i += WARPS * 32) copy16_or_zero(at + X_BYTES + i * 16, blocks + from + i, 16);
    const int k0 = panel * KP;
    if (vectors) {
#pragma unroll 4
      for (int u = threadIdx.x; u < KP * LANES; u += WARPS * 32) {
        const int k = k0 + u / LANES, n = n0 + u % LANES * 4;
        const bool inside = k < K && n < N;
        copy16_or_zero(at + u * 16, inside ? x + (long long)k * N + n : x, inside ? 16 : 0);
      }
    } else {
      for (int u = threadIdx.x; u < KP * BN; u += WARPS * 32) {
        const int k = k0 + u / BN, n = n0 + u % BN;
        const bool inside = k < K && n < N;
        copy4_or_zero(at + u * 4, inside ? x + (long long)k * N + n : x, inside ? 4 : 0);
      }
    }
  };

  for (int u = threadIdx.x; u < STAGES * BN; u += WARPS * 32)
    *(float*)(memory + u / BN * stage_bytes + KP * ROW_BYTES + u % BN * 4) = 0.f;

  float4 sum[SLOTS];
#pragma unroll
  for (int s = 0; s < SLOTS; ++s) sum[s] = make_float4(0, 0, 0, 0);
  look_up(first);
#pragma unroll
  for (int stage = 0; stage < STAGES; ++stage) {
    if (first + stage < last) copy(first + stage, stage);
    asm volatile("cp.async.commit_group;" ::: "memory");
    look_up(first + stage + 1);
  }
  const u32 own = (warp * SLOTS * SIDE + lane / LANES) * 2;
  int stage = 0;
  for (int panel = first; panel < last; ++panel) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
    __syncthreads();
    const u32 at = base + stage * stage_bytes, block = at + X_BYTES, mine = at + lane % LANES * 16;
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
      u16 begin, end;
      asm volatile("ld.shared.u16 %0, [%1];" : "=h"(begin) : "r"(block + own + s * SIDE * 2));
      asm volatile("ld.shared.u16 %0, [%1];" : "=h"(end) : "r"(block + own + s * SIDE * 2 + 2));
      u32 p = block + begin * 16;
      const u32 stop = block + end * 16;
      if (p < stop) {
        float4 pair = load4(p);  // value, byte offset of its row of X, value, offset
        do {
          const float4 x0 = load4(mine + __float_as_uint(pair.y)), x1 = load4(mine + __float_as_uint(pair.w));
          const float v0 = pair.x, v1 = pair.z;
          p += 16;
          if (p < stop) pair = load4(p);
          add(sum[s], v0, x0);
          add(sum[s], v1, x1);
        } while (p < stop);
      }
    }
    __syncthreads();
    if (panel + STAGES < last) copy(panel + STAGES, stage);
    asm volatile("cp.async.commit_group;" ::: "memory");
    look_up(panel + STAGES + 1);
    stage = stage + 1 == STAGES ? 0 : stage + 1;
  }
  asm volatile("cp.async.wait_group 0;" ::: "memory");

  const int slot = warp * SLOTS * SIDE + lane / LANES, col = lane % LANES * 4;
#if SPLITS == 1
#pragma unroll
  for (int s = 0; s < SLOTS; ++s)
    store4(y, order, (long long)group * ROWS + slot + s * SIDE, M, n0 + col, N, vectors, sum[s]);
#elif CLUSTER
  __syncthreads();
#pragma unroll
  for (int s = 0; s < SLOTS; ++s) *(float4*)(memory + ((slot + s * SIDE) * BN + col) * 4) = sum[s];
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  for (int u = blockIdx.y * WARPS * 32 + threadIdx.x; u < ROWS * LANES; u += SPLITS * WARPS * 32) {
    float4 v = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int s = 0; s < SPLITS; ++s) {
      u32 there;
      float4 a;
      asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(base + u * 16), "r"(s));
      asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
                   : "=f"(a.x), "=f"(a.y), "=f"(a.z), "=f"(a.w)
                   : "r"(there));
      v.x += a.x, v.y += a.y, v.z += a.z, v.w += a.w;
    }
    store4(y, order, (long long)group * ROWS + u / LANES, M, n0 + u % LANES * 4, N, vectors, v);
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  const long long tile = (long long)blockIdx.z * gridDim.x + group;
  float4* parts = (float4*)partial + tile * SPLITS * ROWS * LANES;
#pragma unroll
  for (int s = 0; s < SLOTS; ++s)
    parts[(long long)blockIdx.y * ROWS * LANES + (slot + s * SIDE) * LANES + lane % LANES] = sum[s];
  __threadfence();
  __syncthreads();
  __shared__ u32 before;
  if (threadIdx.x == 0) {
    before = atomicAdd(arrived + tile, 1);
    if (before == SPLITS - 1) arrived[tile] = 0;  // for the next launch
  }
  __syncthreads();
  if (before != SPLITS - 1) return;
  __threadfence();
  for (int u = threadIdx.x; u < ROWS * LANES; u += WARPS * 32) {
    float4 v = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int s = 0; s < SPLITS; ++s) {
      const float4 a = __ldcg(parts + (long long)s * ROWS * LANES + u);
      v.x += a.x, v.y += a.y, v.z += a.z, v.w += a.w;
    }
    store4(y, order, (long long)group * ROWS + u / LANES, M, n0 + u % LANES * 4, N, vectors, v);
  }
#endif
}
