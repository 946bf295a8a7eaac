"""From a device trace to samples: which activities belong to which call. Pure, so that synthetic traces test it.

A timer enqueues, per sample, [flush][marker][call][marker] on one stream, the marker being a kernel that no call
uses. Stream order makes the trace unambiguous: what starts between the two markers of a pair belongs to the call.
Neither host clocks nor kernel names (they change with the shape) take part in the attribution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sparsity_roofline.bench.timing.protocol import InvalidMeasurement

CLOCK_SLACK_NS = 1000
"""Overlap of a call with its closing marker that is put down to the rounding of timestamps, not to stray work."""


class Activity(NamedTuple):
    """One device record: a kernel, a copy or a memset, in ns of the device's clock."""

    name: str
    start: int
    end: int


class LostRecords(InvalidMeasurement):
    """The trace is incomplete or contradicts itself; another try may do better."""


@dataclass(frozen=True)
class Segment:
    """One call on the device.

    Attributes:
        busy_ns: union of its activities' intervals; 0 for a call that ran nothing.
        span_ns: first start to last end.
        activities: how many there were.
        names: their names, in order of start.
    """

    busy_ns: int
    span_ns: int
    activities: int
    names: tuple[str, ...]


def union(intervals: Iterable[tuple[int, int]]) -> int:
    """Total length covered by intervals (start, end), overlaps counted once."""
    covered, reach = 0, None
    for start, end in sorted(intervals):
        if reach is None or start > reach:
            covered, reach = covered + end - start, end
        elif end > reach:
            covered, reach = covered + end - reach, end
    return covered


def segment(
    records: Sequence[Activity], samples: int, markers: Collection[str], flush: Collection[str] = ()
) -> list[Segment]:
    """Split a trace into its samples.

    Args:
        records: every activity of the device during the session, in any order.
        samples: how many calls were enqueued.
        markers: names of the marker kernel.
        flush: names of kernels that only the flush uses; one inside a call, or anything else outside, is a fault.

    Raises:
        LostRecords: not exactly two markers a sample, an invalid interval, flush work inside a call, the call's work
            outside its markers, or a count of activities that differs between samples.
    """
    for record in records:
        if record.start <= 0 or record.end < record.start:
            raise LostRecords(f"the record of {record.name} has no valid interval")
    ordered = sorted(records, key=lambda r: (r.start, r.end))
    places = [i for i, r in enumerate(ordered) if r.name in markers]
    if len(places) != 2 * samples:
        raise LostRecords(f"{len(places)} markers recorded, {2 * samples} enqueued")
    segments = []
    outside = ordered[: places[0]] if places else list(ordered)
    for number, (first, last) in enumerate(zip(places[::2], places[1::2], strict=True)):
        following = places[2 * number + 2] if 2 * number + 2 < len(places) else len(ordered)
        outside += ordered[last + 1 : following]
        segments.append(_one(number, ordered[first + 1 : last], ordered[first], ordered[last], flush))
    _check_outside(outside, flush)
    counts = {s.activities for s in segments}
    if len(counts) > 1:
        raise LostRecords(f"the number of device activities varies from call to call: {sorted(counts)}")
    return segments


def _one(
    number: int, inside: Sequence[Activity], opening: Activity, closing: Activity, flush: Collection[str]
) -> Segment:
    leaked = [r.name for r in inside if r.name in flush]
    if leaked:
        raise LostRecords(f"flush work inside call {number}: {leaked[0]}")
    if not inside:
        return Segment(0, 0, 0, ())
    end = max(r.end for r in inside)
    if end > closing.start + CLOCK_SLACK_NS:
        raise LostRecords(f"call {number} was still running {end - closing.start} ns after its end was marked")
    if inside[0].start + CLOCK_SLACK_NS < opening.end:
        raise LostRecords(f"call {number} started before the work ahead of it had ended")
    return Segment(
        union((r.start, r.end) for r in inside), end - inside[0].start, len(inside), tuple(r.name for r in inside)
    )


def _check_outside(outside: Sequence[Activity], flush: Collection[str]) -> None:
    """Outside calls there is flush work only; its copies and memsets carry no name of their own."""
    if not flush:
        return
    stray = [r.name for r in outside if r.name not in flush and not r.name.startswith(("Memset", "Memcpy"))]
    if stray:
        raise LostRecords(f"work of a call outside its markers: {stray[0]}")
