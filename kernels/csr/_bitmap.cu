// Y = W @ X for few columns: a bitmap weight decoded into the registers of mma.m16n8k16, fp32 sums.
//
// A block owns WARPS * RT strips of 16 rows, NT * 8 columns, and one of SPLITS parts of K, which it walks in steps of
// PANELS * 256 columns of W. Per step it copies to shared memory the step's rows of X, its masks and its values (each
// contiguous), STAGES steps ahead. Each warp decodes its own strips, so W is read once and decoded once; X is shared.
//
// Sums of the parts of K meet in the block that finishes last (CLUSTER = 0: through `partial` in global memory, in the
// order of the parts, so results do not depend on who is last) or through the shared memory of a cluster (CLUSTER = 1).
//
// Bytes: 4 per stored pair + M K / 16 + M K / 1024 of W once for every NT * 8 columns; X once for every WARPS * RT * 16 rows.
#include "_bitmap.cuh"

#ifndef CLUSTER
#define CLUSTER 0
#endif

constexpr int ROWS = WARPS * RT * 16;
constexpr int COLS = NT * 8;
constexpr int STEP_K = PANELS * 256;
constexpr int X_BYTES = STEP_K * COLS * 2;
constexpr int MASK_BYTES = WARPS * RT * PANELS * 256;

// Rows of X lie in shared memory as units of 16 bytes, unit c of row k at (k * NT + c) ^ scatter(k): the eight rows that
// one phase of ldmatrix reads (k = 8 t + e and a constant, t < 4, e < 2) then lie in eight different bank groups.
__device__ __forceinline__ u32 scatter(u32 k) {
  const u32 e = k & 1, t0 = k >> 3 & 1, t1 = k >> 4 & 1;
  return NT == 1 ? t0 << 1 | t1 << 2 : NT == 2 ? t0 | t1 << 2 : NT == 4 ? t0 | t1 << 1 : t0 | e << 1 | t1 << 2;
}

__device__ __forceinline__ void mma(float (&d)[4], const u32* a, u32 b0, u32 b1) {
#if BF16
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#endif
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void load_matrices(u32 (&b)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(from));
}

__device__ __forceinline__ u16 rounded(float v) {
  u16 h;
#if BF16
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(v));
#else
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
#endif
  return h;
}

// Two neighbouring columns of Y; `paired`: every row of Y starts at a multiple of 4 bytes.
__device__ __forceinline__ void store2(u16* y, long long row, int col, int N, bool paired, float v0, float v1) {
  u16* at = y + row * N + col;
  const u16 h0 = rounded(v0), h1 = rounded(v1);
  if (paired && col + 1 < N) {
    *(u32*)at = h0 | (u32)h1 << 16;
  } else {
    if (col < N) at[0] = h0;
    if (col + 1 < N) at[1] = h1;
  }
}

struct Step {
  u32 first[RT], units[RT];  // of values, 16 bytes to a unit
};

extern "C" __global__ void __launch_bounds__(WARPS * 32)
#if CLUSTER
    __cluster_dims__(1, SPLITS, 1)
#endif
        bitmap_spmm(const u32* __restrict__ masks, const u32* __restrict__ offsets, const uint4* __restrict__ values,
                    const u16* __restrict__ x, u16* __restrict__ y, float* __restrict__ partial,
                    u32* __restrict__ arrived, int M, int K, int N, int strips, int panels, int steps_per_split,
                    int capacity, int aligned) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int stage_bytes = X_BYTES + MASK_BYTES + WARPS * RT * capacity;
  const u32 base = shared_address(memory);
  const int n0 = blockIdx.z * COLS;
  const int strip0 = (blockIdx.x * WARPS + warp) * RT;
  const int panel0 = blockIdx.y * steps_per_split * PANELS;
  int steps = (min(panels, panel0 + steps_per_split * PANELS) - panel0 + PANELS - 1) / PANELS;
  if (steps < 0) steps = 0;

  auto look_up = [&](int step) {
    Step s;
#pragma unroll
    for (int r = 0; r < RT; ++r) {
      s.first[r] = s.units[r] = 0;
      if (strip0 + r < strips && step < steps) {
        const int from = panel0 + step * PANELS, to = min(panels, from + PANELS);
        const long long row = (long long)(strip0 + r) * panels;
        s.first[r] = __ldg(offsets + row + from);
        s.units[r] = __ldg(offsets + row + to) - s.first[r];
      }
    }
    return s;
  };
  auto copy = [&](int step, int stage, const Step& s) {
    const u32 at = base + stage * stage_bytes;
    const int from = panel0 + step * PANELS;
#pragma unroll
    for (int r = 0; r < RT; ++r) {
      if (strip0 + r >= strips) continue;
      const u32 mask_at = at + X_BYTES + (warp * RT + r) * PANELS * 256;
      for (int u = lane; u < PANELS * 16; u += 32) {
        const int p = from + u / 16;
        copy16_or_zero(mask_at + u * 16, masks + (((long long)(strip0 + r) * panels + min(p, panels - 1)) * 16 + u % 16) * 4,
                       p < panels ? 16 : 0);
      }
    }
    const int k0 = from * 256;
    if (aligned & 1) {
#pragma unroll 4
      for (int u = threadIdx.x; u < STEP_K * NT; u += WARPS * 32) {
        const int k = u / NT, c = u % NT;
        const bool inside = k0 + k < K && n0 + c * 8 < N;
        copy16_or_zero(at + (u ^ scatter(k)) * 16, inside ? x + (long long)(k0 + k) * N + n0 + c * 8 : x, inside ? 16 : 0);
      }
    } else {  // rows of X that start anywhere: element by element
      u16* to = (u16*)(memory + stage * stage_bytes);
      for (int u = threadIdx.x; u < STEP_K * COLS; u += WARPS * 32) {
        const int k = u / COLS, n = u % COLS;
        const bool inside = k0 + k < K && n0 + n < N;
        to[((k * NT + n / 8) ^ scatter(k)) * 8 + n % 8] = inside ? x[(long long)(k0 + k) * N + n0 + n] : (u16)0;
      }
    }
#pragma unroll
    for (int r = 0; r < RT; ++r) {
      const u32 value_at = at + X_BYTES + MASK_BYTES + (warp * RT + r) * capacity;
      for (u32 i = lane; i < s.units[r]; i += 32) copy16(value_at + i * 16, values + s.first[r] + i);
    }
  };

  float sum[RT][NT][4] = {};
  Step ahead = look_up(0);
#pragma unroll
  for (int stage = 0; stage < STAGES; ++stage) {
    const Step now = ahead;
    ahead = look_up(stage + 1);
    if (stage < steps) copy(stage, stage, now);
    commit_copies();
  }

  // This lane's part of the address of a matrix row: row j of matrix m; two matrices cover k, two the next columns.
  const u32 j = lane & 7, m = lane >> 3;
  const u32 row = 8 * (j >> 1) + (j & 1) + (NT == 1 ? 4 * (m >> 1) : 0) + 2 * (m & 1);
  u32 place[NT == 1 ? 1 : NT / 2];
#pragma unroll
  for (int c = 0; c < (NT == 1 ? 1 : NT / 2); ++c)
    place[c] = ((row * NT + (NT == 1 ? 0 : c * 2 + (m >> 1))) ^ scatter(row)) * 16;

  for (int step = 0; step < steps; ++step) {
    const int stage = step % STAGES;
    wait_copies<STAGES - 1>();
    __syncthreads();
    const u32 at = base + stage * stage_bytes;
    if (strip0 < strips) {
      u32 value_at[RT];
#pragma unroll
      for (int r = 0; r < RT; ++r) value_at[r] = at + X_BYTES + MASK_BYTES + (warp * RT + r) * capacity;
#pragma unroll 1
      for (int p = 0; p < PANELS; ++p) {
        Mask mask[RT];
        Starts start[RT];
#pragma unroll
        for (int r = 0; r < RT; ++r) {
          mask[r] = load_mask<2>(at + X_BYTES + ((warp * RT + r) * PANELS + p) * 256, lane);
          if (strip0 + r >= strips) mask[r] = Mask();
          start[r] = starts(mask[r], lane);
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          u32 a[RT][16];
#pragma unroll
          for (int r = 0; r < RT; ++r) decode32<16>(mask[r].part[i], value_at[r] + start[r].part[i] * 4, a[r]);
          const u32 x_at = at + (p * 256 + i * 64) * NT * 16;
#pragma unroll
          for (int q = 0; q < 4; ++q) {
            const u32 tile = x_at + (q >> 1) * 32 * NT * 16;
            u32 b[4];
            if (NT == 1) {
              if (q % 2 == 0) load_matrices(b, tile + place[0]);
#pragma unroll
              for (int r = 0; r < RT; ++r) mma(sum[r][0], a[r] + q * 4, b[q % 2 * 2], b[q % 2 * 2 + 1]);
            } else {
#pragma unroll
              for (int c = 0; c < NT / 2; ++c) {
                load_matrices(b, tile + (q & 1) * 4 * NT * 16 + place[c]);
#pragma unroll
                for (int r = 0; r < RT; ++r) {
                  mma(sum[r][c * 2], a[r] + q * 4, b[0], b[1]);
                  mma(sum[r][c * 2 + 1], a[r] + q * 4, b[2], b[3]);
                }
              }
            }
          }
        }
        // The next panel's values start at the next multiple of 16 bytes.
#pragma unroll
        for (int r = 0; r < RT; ++r) value_at[r] += (start[r].all + 3) / 4 * 16;
      }
    }
    __syncthreads();
    const Step now = ahead;
    ahead = look_up(step + STAGES + 1);
    if (step + STAGES < steps) copy(step + STAGES, stage, now);
    commit_copies();
  }
  wait_copies<0>();

  const int g = lane >> 2, t = lane & 3;
  const bool paired = aligned & 2;
#if SPLITS == 1
#pragma unroll
  for (int r = 0; r < RT; ++r)
#pragma unroll
    for (int c = 0; c < NT; ++c)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const long long at = (long long)(strip0 + r) * 16 + h * 8 + g;
        if (at < M) store2(y, at, n0 + c * 8 + t * 2, N, paired, sum[r][c][h * 2], sum[r][c][h * 2 + 1]);
      }
#elif CLUSTER
  __syncthreads();
  float* mine = (float*)memory;  // ROWS x COLS
#pragma unroll
  for (int r = 0; r < RT; ++r)
#pragma unroll
    for (int c = 0; c < NT; ++c)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        *(float2*)(mine + ((warp * RT + r) * 16 + h * 8 + g) * COLS + c * 8 + t * 2) =
            make_float2(sum[r][c][h * 2], sum[r][c][h * 2 + 1]);
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  for (int u = blockIdx.y * WARPS * 32 + threadIdx.x; u < ROWS * COLS / 2; u += SPLITS * WARPS * 32) {
    float v0 = 0, v1 = 0;
#pragma unroll
    for (int s = 0; s < SPLITS; ++s) {
      u32 there;
      float a0, a1;
      asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(base + u * 8), "r"(s));
      asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];" : "=f"(a0), "=f"(a1) : "r"(there));
      v0 += a0, v1 += a1;
    }
    const long long at = (long long)blockIdx.x * ROWS + u * 2 / COLS;
    if (at < M) store2(y, at, n0 + u * 2 % COLS, N, paired, v0, v1);
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  const long long tile = (long long)blockIdx.z * gridDim.x + blockIdx.x;
  float* parts = partial + tile * SPLITS * ROWS * COLS;
  float* mine = parts + (long long)blockIdx.y * ROWS * COLS;
#pragma unroll
  for (int r = 0; r < RT; ++r)
#pragma unroll
    for (int c = 0; c < NT; ++c)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        *(float2*)(mine + ((warp * RT + r) * 16 + h * 8 + g) * COLS + c * 8 + t * 2) =
            make_float2(sum[r][c][h * 2], sum[r][c][h * 2 + 1]);
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
  for (int u = threadIdx.x; u < ROWS * COLS / 2; u += WARPS * 32) {
    float v0 = 0, v1 = 0;
#pragma unroll
    for (int s = 0; s < SPLITS; ++s) {
      const float2 v = __ldcg((const float2*)(parts + (long long)s * ROWS * COLS) + u);
      v0 += v.x, v1 += v.y;
    }
    const long long at = (long long)blockIdx.x * ROWS + u * 2 / COLS;
    if (at < M) store2(y, at, n0 + u * 2 % COLS, N, paired, v0, v1);
  }
#endif
}
