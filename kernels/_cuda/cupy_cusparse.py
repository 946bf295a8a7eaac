"""CuPy's low-level cuSPARSE module under nvmath-python's names: CSR SpMM without preprocessing."""

from __future__ import annotations

from typing import Any


class CupyCusparse:
    """The calls that a CSR plan without preprocessing makes.

    CuPy binds the handle to *its own* current stream within each call, whatever was set before. So ``set_stream`` only
    remembers the stream, and calls that enqueue work make it CuPy's current one.
    """

    def __init__(self, cupy: Any, api: Any) -> None:
        self._cupy = cupy
        self._api = api
        self._stream: Any = None
        self.create = api.create
        self.destroy_sp_mat = api.destroySpMat
        self.destroy_dn_mat = api.destroyDnMat
        self.dn_mat_set_values = api.dnMatSetValues
        self.create_csr = api.createCsr
        self.create_dn_mat = api.createDnMat

    def library_version(self) -> int:
        """cuSPARSE's version number, for example 12603. Creates a handle on the current device to ask."""
        handle = self._api.create()
        try:
            return int(self._api.getVersion(handle))
        finally:
            self._api.destroy(handle)

    def set_stream(self, handle: int, stream: int) -> None:
        streams = self._cupy.cuda
        if hasattr(streams.Stream, "from_external"):  # CuPy 14; ExternalStream is deprecated there
            self._stream = streams.Stream.from_external(_Foreign(stream))
        else:
            self._stream = streams.ExternalStream(stream)

    def sp_mm_buffer_size(self, *args: int) -> int:
        """As ``cusparseSpMM_bufferSize``: handle, opA, opB, alpha, A, B, beta, C, compute type, algorithm."""
        with self._stream:
            return int(self._api.spMM_bufferSize(*args))

    def sp_mm(self, *args: int) -> None:
        """As ``cusparseSpMM``: the arguments of ``sp_mm_buffer_size`` and the workspace."""
        with self._stream:
            self._api.spMM(*args)


class _Foreign:
    """A stream of another library, as the CUDA stream protocol hands it over."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._pointer
