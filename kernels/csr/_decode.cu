// A bitmap weight written out as a dense matrix, for a dense product to read. See bitmap_layout.py for the layout.
//
// A warp takes (strip, panel) pairs of 16 x 256 elements one after the other, copies each one's masks and values to
// shared memory one pair ahead, and writes rows of 16 bytes: a lane's fragments hold 8 neighbouring columns of two rows.
//
// Bytes: BYTES nnz + M K / 8 read, BYTES M K written.
#include "_bitmap.cuh"

extern "C" __global__ void __launch_bounds__(WARPS * 32)
    bitmap_decode(const u32* __restrict__ masks, const u32* __restrict__ offsets, const uint4* __restrict__ values,
                  unsigned char* __restrict__ dense, int M, int columns, int panels, int pairs, int capacity) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int g = lane >> 2, t = lane & 3;
  const u32 base = shared_address(memory) + warp * STAGES * (capacity + 512);
  const int stride = gridDim.x * WARPS, first = blockIdx.x * WARPS + warp;

  auto copy = [&](int pair, int stage, u32 from, u32 units) {
    const u32 at = base + stage * (capacity + 512);
    copy16(at + lane * 16, masks + ((long long)pair * 32 + lane) * 4);
    for (u32 i = lane; i < units; i += 32) copy16(at + 512 + i * 16, values + from + i);
  };
  u32 from = 0, units = 0;
  auto look_up = [&](int pair) {
    if (pair >= pairs) return;
    from = __ldg(offsets + pair);
    units = __ldg(offsets + pair + 1) - from;
  };
  look_up(first);
#pragma unroll
  for (int stage = 0; stage < STAGES; ++stage) {
    const int pair = first + stage * stride;
    if (pair < pairs) copy(pair, stage, from, units);
    commit_copies();
    look_up(pair + stride);
  }
  int stage = 0;
  for (int pair = first; pair < pairs; pair += stride) {
    wait_copies<STAGES - 1>();
    __syncwarp();
    const u32 at = base + stage * (capacity + 512);
    const Mask mask = load_mask<1>(at, lane);
    const Starts start = starts(mask, lane);
    const int strip = pair / panels, k0 = (pair - strip * panels) * 256;
    const long long row = (long long)strip * 16 + g;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#if BYTES == 2
      u32 a[16];
      decode16(mask.part[i], at + 512 + start.part[i] * 2, a);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int k = k0 + i * 64 + half * 32 + t * 8;
#pragma unroll
        for (int h = 0; h < 2; ++h)
          if (row + h * 8 < M && k < columns)
            *(uint4*)(dense + ((row + h * 8) * columns + k) * 2) =
                make_uint4(a[half * 8 + h], a[half * 8 + 2 + h], a[half * 8 + 4 + h], a[half * 8 + 6 + h]);
      }
#else
      u32 a[32];
      decode32<32>(mask.part[i], at + 512 + start.part[i] * 4, a);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int k = k0 + i * 64 + half * 32 + t * 8;
#pragma unroll
        for (int h = 0; h < 2; ++h)
          if (row + h * 8 < M && k < columns)
#pragma unroll
            for (int q = 0; q < 2; ++q) {
              const int o = half * 16 + q * 8 + h * 2;  // registers h and 2 + h of fragment half * 2 + q
              *(uint4*)(dense + ((row + h * 8) * columns + k + q * 4) * 4) = make_uint4(a[o], a[o + 1], a[o + 4], a[o + 5]);
            }
      }
#endif
    }
    __syncwarp();
    const int next = pair + STAGES * stride;
    if (next < pairs) copy(next, stage, from, units);
    commit_copies();
    look_up(next + stride);
    stage = stage + 1 == STAGES ? 0 : stage + 1;
  }
}
