// Block-sparse Y = W X for few columns: 16-bit operands, fp32 accumulation, mma.sync (compute capability 8.0 on).
//
// With few columns the bytes of W bound the time, so W is read once, in 16-byte words, straight into the registers that
// the MMA takes it from: it is stored in that order. A block of WARPS warps computes 16 UNITS rows (one block row or a part of
// it) by BN columns; its warps share out the stored slices of 16 columns, each with DEPTH of them in flight, and their
// sums meet in shared memory, always added in the same order. X goes through a ring in shared memory, a warp's own, so no
// warp waits for another before the end. No padding: a slice is 16 UNITS rows by 16 columns of a stored block.
//
// Cost of a slice: 512 UNITS bytes of W from DRAM, 32 BN bytes of X from L2, 512 UNITS BN operations.
//
// Macros: UNITS 1, 2 or 4; BN 16, 32 or 64; WARPS; DEPTH; BF16 0 or 1.

typedef unsigned int u32;

#if BF16
#define KIND "bf16.bf16"
#define PACK "cvt.rn.bf16x2.f32 %0, %1, %2;"
#else
#define KIND "f16.f16"
#define PACK "cvt.rn.f16x2.f32 %0, %1, %2;"
#endif

#define CHUNKS (BN / 8)          // 16-byte words in a row of X
#define PER_LANE (CHUNKS / 2)    // of 16 rows, what a lane fetches
#define X_BYTES (16 * BN * 2)

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Where word ``chunk`` of row ``k`` lies: rows that share a line of 128 bytes keep their words apart from those below.
__device__ __forceinline__ u32 place(int k, int chunk) {
  return (u32)((k * CHUNKS + (chunk ^ ((k * CHUNKS / 8) & (CHUNKS - 1)))) * 16);
}

__device__ __forceinline__ uint4 load_w(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

// starts: first slice of each group's tiles; slices: first slice of its columns; counts: slices. columns: k / 16 of each.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
bsr_mma(const uint4* __restrict__ w, const int* __restrict__ groups, const int* __restrict__ columns,
        const char* __restrict__ x, u32* __restrict__ y, int M, int N, int K) {
  extern __shared__ __align__(128) char shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int* group = groups + 4 * blockIdx.x;  // first tile, first column, slices, first row
  const int count = __ldg(group + 2), row = __ldg(group + 3);
  const int begin = count * warp / WARPS, own = count * (warp + 1) / WARPS - begin;
  const uint4* tile = w + ((long long)__ldg(group) + begin) * (32 * UNITS) + lane;
  const int* column = columns + __ldg(group + 1) + begin;
  const int n0 = blockIdx.y * BN;
  const u32 ring = shared_address(shared) + warp * (DEPTH * X_BYTES);

  float d[UNITS][BN / 8][4];
#pragma unroll
  for (int u = 0; u < UNITS; ++u)
#pragma unroll
    for (int j = 0; j < BN / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) d[u][j][i] = 0.f;

  uint4 a[DEPTH][UNITS];
  int ids = lane < own ? __ldg(column + lane) : 0, later = 32 + lane < own ? __ldg(column + 32 + lane) : 0;

  // Fetch slice ``s`` into place ``slot``; every lane takes part, and nothing is fetched beyond the end.
  auto fetch = [&](int s, int slot) {
    const int id = __shfl_sync(0xffffffffu, ids, s & 31);
    if ((s & 31) == 31) {
      ids = later;
      later = s + 33 + lane < own ? __ldg(column + s + 33 + lane) : 0;
    }
    if (s < own) {
#pragma unroll
      for (int u = 0; u < UNITS; ++u) a[slot][u] = load_w(tile + (long long)s * (32 * UNITS) + u * 32);
#pragma unroll
      for (int i = 0; i < PER_LANE; ++i) {
        const int k = (i * 32 + lane) / CHUNKS, chunk = (i * 32 + lane) % CHUNKS;
        const bool inside = id * 16 + k < K && n0 + chunk * 8 < N;
        const char* from = inside ? x + ((long long)(id * 16 + k) * N + n0 + chunk * 8) * 2 : x;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(ring + slot * X_BYTES + place(k, chunk)), "l"(from),
                     "r"(inside ? 16 : 0) : "memory");
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };

#pragma unroll
  for (int s = 0; s < DEPTH - 1; ++s) fetch(s, s);
  for (int base = 0; base < own; base += DEPTH) {
#pragma unroll
    for (int slot = 0; slot < DEPTH; ++slot) {
      const int s = base + slot;
      fetch(s + DEPTH - 1, (slot + DEPTH - 1) % DEPTH);
      asm volatile("cp.async.wait_group %0;" ::"n"(DEPTH - 1) : "memory");
      __syncwarp();
      if (s < own) {
#pragma unroll
        for (int j = 0; j < BN / 8; j += 2) {
          u32 b[4];
          const u32 from = ring + slot * X_BYTES + place(lane & 15, j + lane / 16);
          asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                       : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]) : "r"(from) : "memory");
#pragma unroll
          for (int u = 0; u < UNITS; ++u)
#pragma unroll
            for (int h = 0; h < 2; ++h)
              asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." KIND ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                           "{%0, %1, %2, %3};"
                           : "+f"(d[u][j + h][0]), "+f"(d[u][j + h][1]), "+f"(d[u][j + h][2]), "+f"(d[u][j + h][3])
                           : "r"(a[slot][u].x), "r"(a[slot][u].y), "r"(a[slot][u].z), "r"(a[slot][u].w), "r"(b[2 * h]),
                             "r"(b[2 * h + 1]));
        }
      }
      __syncwarp();  // all have read this slot before it is fetched into again
    }
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();

  // Sums of the warps, in shared memory as [warp][row][column]; rows padded by 8 so that quads meet different banks.
  float* sums = reinterpret_cast<float*>(shared);
  const int pitch = BN + 8;
#pragma unroll
  for (int u = 0; u < UNITS; ++u)
#pragma unroll
    for (int j = 0; j < BN / 8; ++j)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float* to = sums + ((long long)warp * 16 * UNITS + u * 16 + lane / 4 + 8 * h) * pitch + j * 8 + (lane & 3) * 2;
        *reinterpret_cast<float2*>(to) = make_float2(d[u][j][2 * h], d[u][j][2 * h + 1]);
      }
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * UNITS * BN / 2; i += WARPS * 32) {
    const int r = i / (BN / 2), c = i % (BN / 2) * 2;
    float low = 0.f, high = 0.f;
#pragma unroll
    for (int q = 0; q < WARPS; ++q) {
      const float2 v = *reinterpret_cast<const float2*>(sums + (q * 16 * UNITS + r) * pitch + c);
      low += v.x, high += v.y;
    }
    u32 out;
    asm(PACK : "=r"(out) : "f"(high), "f"(low));
    if (row + r < M && n0 + c < N) y[((long long)(row + r) * N + n0 + c) / 2] = out;
  }
}
