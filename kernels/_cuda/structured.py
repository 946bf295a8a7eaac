"""A cuSPARSELt product planned once: compressed weight, searched algorithm, reusable plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsity_roofline.kernels._cuda import handles
from sparsity_roofline.kernels._cuda.bindings import Binding
from sparsity_roofline.kernels._cuda.errors import fail
from sparsity_roofline.kernels._cuda.lifetime import Resources
from sparsity_roofline.kernels._cuda.operands import (
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

ALIGNMENT = 16  # bytes, of every operand
SPARSITY_50_PERCENT = 0  # cusparseLtSparsity_t: 2:4 for 16-bit types
COMPUTE_32F = 2  # cusparseComputeType of cuSPARSELt 0.7 to 0.8
ALG_DEFAULT = 0  # cusparseLtMatmulAlg_t
SEARCHED = {"algorithm_id": 0, "split_k": 3, "split_k_mode": 4}  # cusparseLtMatmulAlgAttribute_t, all int32


class StructuredPlan:
    """Y = W @ X with a 2:4 weight, row-major X and Y, fp32 accumulation.

    The search runs every candidate on random X of the case's shape, because an algorithm's rank depends on the shape,
    and leaves the fastest in the plan. The compressed weight belongs to this library version and plan only.

    Args:
        binding: how to call cuSPARSELt.
        case: gives M, K, N, dtype and the seed of the X that is searched with.
        weight: (M, K) dense tensor that obeys 2:4; not needed afterwards.
        step: names the parts of preparation.

    Raises:
        VendorError: a library call failed; ``VendorOutOfMemory`` and ``VendorUnsupported`` are told apart.
    """

    def __init__(self, binding: Binding, case: Case, weight: torch.Tensor, step: Step) -> None:
        self._api = binding.api
        self._device = weight.device
        self._scalars = Scalars()
        self._operands = Operands(case.M, case.K, case.N, case.dtype, weight.device, ALIGNMENT)
        self._resources = Resources()
        self._streams = np.zeros(1, dtype=np.uint64)  # the array of streams that a launch takes the address of
        with self._resources.building():
            size = self._build(case, weight, step)
            searched = {name: self._attribute(number) for name, number in SEARCHED.items()}
        self.config: dict[str, Any] = {
            "library": "cusparselt",
            "library_version": binding.version_text,
            "binding": binding.name,
            **searched,
            "layout": "row-major",
            "compute": "fp32",
            "compressed_bytes": int(self._compressed.numel()),
            "workspace_bytes": size,
        }

    def launch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Enqueue Y = W @ X on torch's current stream: x (K, N), y (M, N), contiguous, 16-byte aligned."""
        self._operands.check(x, y)
        self._streams[0] = handles.current_stream(self._device)
        try:
            self._api.matmul(*self._arguments(x, y))
        except Exception as error:
            fail(error, "cuSPARSELt", "Matmul")

    def close(self) -> None:
        """Destroy plan and descriptors now; the plan cannot launch afterwards."""
        self._resources.close()

    def _build(self, case: Case, weight: torch.Tensor, step: Step) -> int:
        """Plan, compressed weight, search; returns the workspace's bytes."""
        device = self._device
        with step("plan"):
            self._handle = self._call("Init", lambda: handles.handle("cusparselt", device, self._api.init)).address
            self._a, self._selection, self._plan = self._describe(case)
        with step("compress"):
            self._compressed = self._compress(weight)
            handles.synchronize(device)
        with step("search"):
            x = scratch(case.K, case.N, case.dtype, device, seed=case.seed)
            y = scratch(case.M, case.N, case.dtype, device)
            size = self._workspace_size()
            self._workspace = workspace(size, device)
            self._streams[0] = handles.current_stream(device)
            self._call("MatmulSearch", lambda: self._api.matmul_search(*self._arguments(x, y)))
            handles.synchronize(device)
            if (after := self._workspace_size()) > size:  # the winner may split K where the default did not
                size, self._workspace = after, workspace(after, device)
        return size

    def _describe(self, case: Case) -> tuple[int, int, int]:
        """Descriptors of W, X and Y, the product, the algorithm selection and the plan; all outlive the launches."""
        api, own, handle = self._api, self._resources.own, self._handle
        kind = DATA_TYPES[case.dtype]

        def matrix(init: Callable[..., int], rows: int, cols: int, *more: int) -> int:
            made = self._call("descriptor", lambda: init(handle, rows, cols, cols, ALIGNMENT, kind, ROW_MAJOR, *more))
            return own(made, api.mat_descriptor_destroy)

        a = matrix(api.structured_descriptor_init, case.M, case.K, SPARSITY_50_PERCENT)
        b = matrix(api.dense_descriptor_init, case.K, case.N)
        c = matrix(api.dense_descriptor_init, case.M, case.N)
        product = own(
            self._call(
                "MatmulDescriptorInit",
                lambda: api.matmul_descriptor_init(handle, NON_TRANSPOSE, NON_TRANSPOSE, a, b, c, c, COMPUTE_32F),
            ),
            api.matmul_descriptor_destroy,
        )
        selection = own(
            self._call("MatmulAlgSelectionInit", lambda: api.matmul_alg_selection_init(handle, product, ALG_DEFAULT)),
            api.matmul_alg_selection_destroy,
        )
        plan = own(
            self._call("MatmulPlanInit", lambda: api.matmul_plan_init(handle, product, selection)),
            api.matmul_plan_destroy,
        )
        return a, selection, plan

    def _compress(self, weight: torch.Tensor) -> torch.Tensor:
        api = self._api
        size, extra = self._call("SpMMACompressedSize2", lambda: api.sp_mma_compressed_size2(self._handle, self._a))
        compressed, buffer = workspace(int(size), self._device), workspace(int(extra), self._device)
        addresses = (weight.data_ptr(), compressed.data_ptr(), buffer.data_ptr(), handles.current_stream(self._device))
        is_sparse_a = 1
        self._call(
            "SpMMACompress2",
            lambda: api.sp_mma_compress2(self._handle, self._a, is_sparse_a, NON_TRANSPOSE, *addresses),
        )
        return compressed

    def _arguments(self, x: torch.Tensor, y: torch.Tensor) -> tuple[int, ...]:
        """What matmul and matmul_search take: C and D are both y, which beta = 0 keeps from being read."""
        alpha, beta, out = self._scalars.alpha, self._scalars.beta, y.data_ptr()
        operands = (alpha, self._compressed.data_ptr(), x.data_ptr(), beta, out, out)
        return (self._handle, self._plan, *operands, self._workspace.data_ptr(), int(self._streams.ctypes.data), 1)

    def _workspace_size(self) -> int:
        return int(self._call("MatmulGetWorkspace", lambda: self._api.matmul_get_workspace(self._handle, self._plan)))

    def _attribute(self, number: int) -> int:
        value = np.zeros(1, dtype=np.int32)
        arguments = (self._handle, self._selection, number, int(value.ctypes.data), value.itemsize)
        self._call("MatmulAlgGetAttribute", lambda: self._api.matmul_alg_get_attribute(*arguments))
        return int(value[0])

    def _call(self, what: str, function: Callable[[], Any]) -> Any:
        try:
            with handles.on(self._device):
                return function()
        except Exception as error:
            fail(error, "cuSPARSELt", what)
