"""Device code of the L2 test: every program walks one buffer from its own place, or pairs of them together."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def walk(x, out, tiles, turns, SHARE: tl.constexpr, BLOCK: tl.constexpr):
    """Sum ``turns`` tiles of int32, tile after tile round the buffer; SHARE neighbouring programs read the same ones.

    Loads pass by L1 (.cg), so every byte comes from L2.
    """
    pid = tl.program_id(0)
    start = (pid // SHARE).to(tl.int64) * tiles // (tl.num_programs(0) // SHARE)
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], dtype=tl.int32)
    for turn in range(turns):
        tile = ((start + turn) % tiles).to(tl.int32)
        total += tl.load(x + tile * BLOCK + lanes, cache_modifier=".cg")
    tl.store(out + pid * BLOCK + lanes, total)
