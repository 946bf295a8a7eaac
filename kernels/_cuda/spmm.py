"""A cuSPARSE product planned once: descriptors, workspace and preprocessing at the start, pointers at each launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sparsity_roofline.kernels._cuda import handles
from sparsity_roofline.kernels._cuda.bindings import Binding
from sparsity_roofline.kernels._cuda.errors import fail
from sparsity_roofline.kernels._cuda.lifetime import Resources
from sparsity_roofline.kernels._cuda.operands import (
    CUDA_R_32F,
    DATA_TYPES,
    NON_TRANSPOSE,
    ROW_MAJOR,
    Operands,
    Scalars,
    scratch,
    workspace,
)
from sparsity_roofline.kernels.protocol import Step
from sparsity_roofline.model.case import Case

if TYPE_CHECKING:
    import torch

ALGORITHMS = {"CSR_ALG1": 4, "CSR_ALG2": 6, "CSR_ALG3": 12, "BSR_ALG1": 14}
"""``cusparseSpMMAlg_t`` by name."""

PREPROCESSED = frozenset({"CSR_ALG1", "CSR_ALG3"})
"""Algorithms that ``cusparseSpMM_preprocess`` speeds up (documented); for the others it would do nothing."""


class SpmmPlan:
    """Y = W @ X with row-major X and Y, fp32 accumulation, int32 indices.

    Everything a launch refers to by address is held here: the sparse operand's tensors, the descriptors, alpha and
    beta, and the workspace, which preprocessing fills and which therefore belongs to this plan alone.

    Args:
        binding: how to call cuSPARSE.
        algorithm: key of ``ALGORITHMS``.
        case: gives M, K, N and dtype.
        device: with index.
        create: builds the sparse descriptor from the binding's api.
        keep: the tensors that descriptor points to.
        step: names the parts of preparation.

    Raises:
        VendorError: a library call failed; ``VendorOutOfMemory`` and ``VendorUnsupported`` are told apart.
    """

    def __init__(
        self,
        binding: Binding,
        algorithm: str,
        case: Case,
        device: torch.device,
        create: Callable[[Any], int],
        keep: Sequence[torch.Tensor],
        step: Step,
    ) -> None:
        preprocess = algorithm in PREPROCESSED
        if preprocess and not binding.complete:
            raise ValueError(f"{algorithm} needs preprocessing, which the {binding.name} binding does not offer")
        self._api = binding.api
        self._binding_name = binding.name
        self._keep = tuple(keep)
        self._device = device
        self._scalars = Scalars()
        self._operands = Operands(case.M, case.K, case.N, case.dtype, device)
        self._resources = Resources()
        self._x = self._y = 0  # addresses the dense descriptors hold now
        with self._resources.building():
            size = self._build(algorithm, case, create, step)
        self.config: dict[str, Any] = {
            "library": "cusparse",
            "library_version": binding.version_text,
            "binding": binding.name,
            "algorithm": algorithm,
            "preprocess": preprocess,
            "layout": "row-major",
            "index": "int32",
            "compute": "fp32",
            "workspace_bytes": size,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Enqueue Y = W @ X on torch's current stream: x (K, N), y (M, N), contiguous."""
        self._operands.check(x, y)
        api = self._api
        try:
            self._handle.use(handles.current_stream(self._device))
            if (address := x.data_ptr()) != self._x:
                api.dn_mat_set_values(self._b, address)
                self._x = address
            if (address := y.data_ptr()) != self._y:
                api.dn_mat_set_values(self._c, address)
                self._y = address
            api.sp_mm(*self._launch_arguments)
        except Exception as error:
            fail(error, "cuSPARSE", "SpMM")

    def close(self) -> None:
        """Destroy the descriptors now; the plan cannot launch afterwards."""
        self._resources.close()

    def _build(self, algorithm: str, case: Case, create: Callable[[Any], int], step: Step) -> int:
        """Handle, descriptors, workspace, preprocessing; returns the workspace's bytes."""
        api, device = self._api, self._device
        with step("plan"):
            x = scratch(case.K, case.N, case.dtype, device)
            y = scratch(case.M, case.N, case.dtype, device)
            self._handle = self._call(
                "Create", lambda: handles.handle(self._binding_name, device, api.create, api.set_stream)
            )
            self._describe(case, create, x, y)
            size = int(self._call("SpMM_bufferSize", lambda: api.sp_mm_buffer_size(*self._arguments(algorithm))))
            self._workspace = workspace(size, device)
            self._launch_arguments = (*self._arguments(algorithm), self._workspace.data_ptr())
        if algorithm in PREPROCESSED:
            with step("preprocess"):
                self._call("SpMM_preprocess", lambda: api.sp_mm_preprocess(*self._launch_arguments))
                handles.synchronize(device)
        return size

    def _describe(self, case: Case, create: Callable[[Any], int], x: torch.Tensor, y: torch.Tensor) -> None:
        api, own, kind = self._api, self._resources.own, DATA_TYPES[case.dtype]

        def dense(rows: int, values: torch.Tensor) -> int:
            made = api.create_dn_mat(rows, case.N, case.N, values.data_ptr(), kind, ROW_MAJOR)
            return own(made, api.destroy_dn_mat)

        self._call("use of the stream", lambda: self._handle.use(handles.current_stream(self._device)))
        self._a = self._call("creation of W", lambda: own(create(api), api.destroy_sp_mat))
        self._b = self._call("CreateDnMat", lambda: dense(case.K, x))
        self._c = self._call("CreateDnMat", lambda: dense(case.M, y))

    def _arguments(self, algorithm: str) -> tuple[int, ...]:
        """What bufferSize, preprocess and SpMM have in common, in their order."""
        alpha, beta = self._scalars.alpha, self._scalars.beta
        operations = (self._handle.address, NON_TRANSPOSE, NON_TRANSPOSE)
        return (*operations, alpha, self._a, self._b, beta, self._c, CUDA_R_32F, ALGORITHMS[algorithm])

    def _call(self, what: str, function: Callable[[], Any]) -> Any:
        try:
            with handles.on(self._device):
                return function()
        except Exception as error:
            fail(error, "cuSPARSE", what)


class ZeroPlan:
    """The product of a weight that stores nothing: Y is set to zero, no library is asked."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self._operands = Operands(case.M, case.K, case.N, case.dtype, device)
        self.config: dict[str, Any] = {"algorithm": "fill with zeros: the weight stores nothing"}

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Enqueue Y = 0 on torch's current stream."""
        self._operands.check(x, y)
        y.zero_()
