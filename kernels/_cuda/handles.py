"""One library handle per process, binding and device, bound to the stream that is current at each launch.

Creating a handle allocates device memory and takes milliseconds, so handles are kept until the process ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_cache: dict[tuple[str, str], Handle] = {}


class Handle:
    """A library handle and the stream it is bound to.

    Attributes:
        address: what the library's functions take as ``handle``.
    """

    def __init__(self, address: int, set_stream: Callable[[int, int], Any]) -> None:
        self.address = address
        self._set_stream = set_stream
        self._stream: int | None = None

    def use(self, stream: int) -> int:
        """Bind to ``stream`` unless it is bound to it already; returns the address."""
        if stream != self._stream:
            self._set_stream(self.address, stream)
            self._stream = stream
        return self.address


def handle(
    name: str, device: torch.device, create: Callable[[], int], set_stream: Callable[[int, int], Any] | None = None
) -> Handle:
    """The handle of binding ``name`` on ``device``, created on first use.

    Libraries whose calls take the stream as an argument need no ``set_stream``.
    """
    key = (name, str(device))
    if key not in _cache:
        with on(device):
            _cache[key] = Handle(create(), set_stream or (lambda address, stream: None))
    return _cache[key]


def forget() -> None:
    """Drop the cache without destroying anything (tests replace bindings)."""
    _cache.clear()


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Make ``device`` current, with its CUDA context in place."""
    if device.type != "cuda":
        return nullcontext()
    import torch

    torch.cuda.init()
    torch.empty(1, device=device)  # the libraries want the primary context to exist
    context: AbstractContextManager[Any] = torch.cuda.device(device)
    return context


def current_stream(device: torch.device) -> int:
    """Address of torch's current stream on ``device``; 0, the default stream, where there are no streams."""
    if device.type != "cuda":
        return 0
    import torch

    return int(torch.cuda.current_stream(device).cuda_stream)


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a named step of preparation ends when its work does."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def resolve(device: str) -> torch.device:
    """``cuda`` as the current CUDA device with its index, anything else as it is."""
    import torch

    found = torch.device(device)
    if found.type == "cuda" and found.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return found
