// The bitmap layout's decoder: the mask of a lane for a panel, and the run of values each part of it stands for. See
// bitmap_layout.py.
//
// A part covers 16 rows x 64 columns of W for one warp: 32 elements a lane, in the order of the A fragments of four
// mma.m16n8k16. A bit stands for one element (WIDTH 1: bit q * 8 + r * 2 + e is element e of register r of fragment q)
// or for a register of two (WIDTH 2: bit q * 4 + r), which is stored if either is. What a lane's bits stand for follows
// in their order, lanes follow one another, so a lane starts where the lanes before it end.
#pragma once

typedef unsigned int u32;
typedef unsigned short u16;

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void copy16(u32 to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
// 16 bytes of which the first `bytes` (0 or 16) are read and the rest are zeros.
__device__ __forceinline__ void copy16_or_zero(u32 to, const void* from, u32 bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// A lane's mask of a panel, one word a part.
struct Mask {
  u32 part[4];
};
template <int WIDTH>
__device__ __forceinline__ Mask load_mask(u32 panel, int lane) {
  Mask m;
  if (WIDTH == 1) {
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m.part[0]), "=r"(m.part[1]), "=r"(m.part[2]), "=r"(m.part[3])
                 : "r"(panel + lane * 16));
  } else {
    u32 low, high;
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(low), "=r"(high) : "r"(panel + lane * 8));
    m.part[0] = low & 0xffff, m.part[1] = low >> 16, m.part[2] = high & 0xffff, m.part[3] = high >> 16;
  }
  return m;
}

// Where each lane's units start, part by part, and how many the panel has.
// Two counts travel in one register: a part has at most 1024 units, so sums stay below 2^16.
struct Starts {
  u32 part[4], all;
};
__device__ __forceinline__ Starts starts(const Mask& m, int lane) {
  u32 low = __popc(m.part[0]) | __popc(m.part[1]) << 16, high = __popc(m.part[2]) | __popc(m.part[3]) << 16;
  const u32 own_low = low, own_high = high;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const u32 a = __shfl_up_sync(~0u, low, step), b = __shfl_up_sync(~0u, high, step);
    if (lane >= step) low += a, high += b;
  }
  const u32 all_low = __shfl_sync(~0u, low, 31), all_high = __shfl_sync(~0u, high, 31);
  low -= own_low, high -= own_high;
  Starts s;
  const u32 first = all_low & 0xffff, second = first + (all_low >> 16), third = second + (all_high & 0xffff);
  s.part[0] = low & 0xffff;
  s.part[1] = first + (low >> 16);
  s.part[2] = second + (high & 0xffff);
  s.part[3] = third + (high >> 16);
  s.all = third + (all_high >> 16);
  return s;
}

// 32 elements of 16 bits, zeros where the bit is 0, packed in pairs: registers r of fragment q at a[q * 4 + r].
// Four independent chains of addresses, one a byte of the word.
__device__ __forceinline__ void decode16(u32 word, u32 from, u32 (&a)[16]) {
#pragma unroll
  for (int q = 0; q < 4; ++q) {
    u32 at = q == 0 ? from : from + 2 * __popc(word & ((1u << (8 * q)) - 1));
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      asm volatile(
          "{\n\t"
          ".reg .pred p, s;\n\t"
          ".reg .b32 t, n;\n\t"
          ".reg .b16 lo, hi;\n\t"
          "and.b32 t, %2, %3;\n\t"
          "setp.ne.u32 p, t, 0;\n\t"
          "and.b32 n, %2, %4;\n\t"
          "setp.ne.u32 s, n, 0;\n\t"
          "mov.b16 lo, 0;\n\t"
          "mov.b16 hi, 0;\n\t"
          "@p ld.shared.b16 lo, [%1];\n\t"
          "@p add.u32 %1, %1, 2;\n\t"
          "@s ld.shared.b16 hi, [%1];\n\t"
          "@s add.u32 %1, %1, 2;\n\t"
          "mov.b32 %0, {lo, hi};\n\t"
          "}"
          : "=r"(a[q * 4 + r]), "+r"(at)
          : "r"(word), "r"(1u << (q * 8 + r * 2)), "r"(1u << (q * 8 + r * 2 + 1)));
    }
  }
}

// BITS / 4 units of 32 bits of each fragment, zeros where the bit is 0: unit b of fragment q at a[q * BITS / 4 + b].
// BITS 16: registers of two 16-bit elements. BITS 32: elements of 32 bits, element e of register r at b = r * 2 + e.
template <int BITS>
__device__ __forceinline__ void decode32(u32 part, u32 from, u32 (&a)[BITS]) {
#pragma unroll
  for (int q = 0; q < 4; ++q) {
    u32 at = q == 0 ? from : from + 4 * __popc(part & ((1u << (BITS / 4 * q)) - 1));
#pragma unroll
    for (int b = q * BITS / 4; b < (q + 1) * BITS / 4; ++b) {
      asm volatile(
          "{\n\t"
          ".reg .pred p;\n\t"
          ".reg .b32 t;\n\t"
          "and.b32 t, %2, %3;\n\t"
          "setp.ne.u32 p, t, 0;\n\t"
          "mov.b32 %0, 0;\n\t"
          "@p ld.shared.b32 %0, [%1];\n\t"
          "@p add.u32 %1, %1, 4;\n\t"
          "}"
          : "=r"(a[b]), "+r"(at)
          : "r"(part), "r"(1u << b));
    }
  }
}
