"""CUDA graphs of calls: capture, and count what was captured."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sparsity_roofline.bench.timing.garbage import no_garbage_collection
from sparsity_roofline.bench.timing.protocol import InvalidMeasurement

if TYPE_CHECKING:
    import torch

# cuda.h, CUgraphNodeType
KERNEL, MEMCPY, MEMSET, CHILD = 0, 1, 2, 4


@dataclass(frozen=True)
class Captured:
    """A graph ready to be replayed.

    Attributes:
        graph: torch's graph.
        calls: how many calls it holds.
        activities: kernels, copies and memsets of one call; 0 for a call that runs nothing.
    """

    graph: torch.cuda.CUDAGraph
    calls: int
    activities: int


def capture(calls: Sequence[Callable[[], None]]) -> Captured:
    """One graph of all ``calls`` in order, each of which has run on the stream's device before.

    Raises:
        InvalidMeasurement: a call cannot be captured (it waits for the device, or allocates by itself), or the calls
            do not all run the same number of kernels.
    """
    import torch

    try:
        graph = torch.cuda.CUDAGraph(keep_graph=True)
    except TypeError:
        raise InvalidMeasurement("this torch cannot show a graph's nodes: needs torch 2.8 or later") from None
    stream = side_stream(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    torch.cuda.synchronize()
    try:
        with no_garbage_collection(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*CUDA Graph is empty")  # reported below, by count
            with torch.cuda.stream(stream):
                for call in calls:  # libraries set up what they keep for each stream on its first use
                    call()
                torch.cuda.synchronize()
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    for call in calls:
                        call()
                finally:
                    graph.capture_end()
    except RuntimeError as error:
        raise InvalidMeasurement(f"the call cannot be captured in a CUDA graph: {root_cause(error)}") from error
    nodes = count_activities(int(graph.raw_cuda_graph()))
    if nodes % len(calls):
        raise InvalidMeasurement(f"{len(calls)} calls run {nodes} kernels: their number varies from call to call")
    if nodes:
        graph.instantiate()
    return Captured(graph, len(calls), nodes // len(calls))


@cache
def side_stream(device: int) -> torch.cuda.Stream:
    """The stream that captures: the default one cannot. One a process, as libraries keep a workspace for each."""
    import torch

    return torch.cuda.Stream(device)


def root_cause(error: BaseException) -> str:
    """First line of the error that came first: ending a broken capture raises another one on top."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def count_activities(graph: int, driver: ctypes.CDLL | None = None) -> int:
    """Kernels, copies and memsets in a graph and its children.

    Args:
        graph: address of a ``cudaGraph_t``.
        driver: stands in for the driver's library in tests.

    Raises:
        InvalidMeasurement: the driver does not say.
    """
    try:
        library = driver or ctypes.CDLL("libcuda.so.1")
        return _count(library, ctypes.c_void_p(graph))
    except (OSError, AttributeError) as error:
        raise InvalidMeasurement(f"the driver does not list a graph's nodes: {error}") from None


def _count(driver: ctypes.CDLL, graph: ctypes.c_void_p) -> int:
    number = ctypes.c_size_t(0)
    _checked(driver.cuGraphGetNodes(graph, None, ctypes.byref(number)))
    if not number.value:
        return 0
    nodes = (ctypes.c_void_p * number.value)()
    _checked(driver.cuGraphGetNodes(graph, nodes, ctypes.byref(number)))
    total = 0
    for node in nodes:
        kind = ctypes.c_int(-1)
        _checked(driver.cuGraphNodeGetType(ctypes.c_void_p(node), ctypes.byref(kind)))
        if kind.value == CHILD:
            child = ctypes.c_void_p()
            _checked(driver.cuGraphChildGraphNodeGetGraph(ctypes.c_void_p(node), ctypes.byref(child)))
            total += _count(driver, child)
        elif kind.value in (KERNEL, MEMCPY, MEMSET):
            total += 1
    return total


def _checked(code: int) -> None:
    if code:
        raise OSError(f"CUDA driver error {code}")
