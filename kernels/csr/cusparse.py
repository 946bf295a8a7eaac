"""CSR by cuSPARSE, one kernel per algorithm, each planned once.

``csr.cusparse`` is algorithm 3 with row-major X and Y: the fastest of the six pairs of algorithm and layout in 34 of 40
cases on an H100, algorithm 2 row-major in the other six (large N in fp32), and the only deterministic one. The choice
is fixed, not searched: which algorithm ran never depends on a clock. Algorithms 1 and 2 are kernels of their own.

Column-major X was never the best choice there, so it is not offered.
"""

from __future__ import annotations

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import bindings, handles
from sparsity_roofline.kernels._cuda.operands import BASE_ZERO, DATA_TYPES, INDEX_32I, INT32_MAX
from sparsity_roofline.kernels._cuda.spmm import PREPROCESSED, SpmmPlan, ZeroPlan
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

WIDE_N = 65535 * 16
"""Largest N before cuSPARSE overflows gridDim.y and silently writes zeros (cupy/cupy#9850)."""

WIDE_N_REPAIRED = (12, 7, 20)
"""First cuSPARSE version known to be without that fault."""


class CsrCusparse(BaseKernel):
    """``cusparseSpMM`` with a CSR weight, int32 indices, fp32 accumulation, row-major X and Y.

    Args:
        name: of the kernel.
        algorithm: ``CSR_ALG1``, ``CSR_ALG2`` or ``CSR_ALG3``.
    """

    format: Format = "csr"

    def __init__(self, name: str, algorithm: str) -> None:
        self.name = name
        self.algorithm = algorithm

    def unit(self, dtype: str, device: Device) -> Unit:
        """CUDA cores for every dtype: its 16-bit rates on an H100 are those of fp32, not of tensor cores."""
        return "cuda"

    def available(self, device: Device) -> Support:
        answer = super().available(device)
        if not answer:
            return answer
        found = self._binding()
        return Support(found) if isinstance(found, str) else YES

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        if case.nnz > INT32_MAX or max(case.M, case.K, case.N) > INT32_MAX:
            return Support("nnz, M, K or N exceeds 2^31 - 1, and indices are int32")
        found = self._binding()
        if case.N > WIDE_N and isinstance(found, bindings.Binding) and found.version < WIDE_N_REPAIRED:
            repaired = ".".join(map(str, WIDE_N_REPAIRED))
            return Support(f"N exceeds {WIDE_N}, where cuSPARSE {found.version_text} writes zeros: needs {repaired}")
        return YES

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        """Convert, create descriptors and workspace (step ``plan``), preprocess once (algorithms 1 and 3).

        Raises:
            UserError: no binding is installed.
            VendorError: cuSPARSE refuses (see ``kernels._cuda.errors``).
        """
        where = handles.resolve(device)
        if 0 in (matrix.nnz, case.M, case.N):
            return ZeroPlan(case, where)
        found = self._binding()
        if isinstance(found, str):
            raise UserError(f"{self.name}: {found}", 6)
        with step("convert"):
            weight = convert.csr_operand(matrix, case.dtype, where)
            handles.synchronize(where)
        pointers = (weight.indptr.data_ptr(), weight.indices.data_ptr(), weight.values.data_ptr())
        types = (INDEX_32I, INDEX_32I, BASE_ZERO, DATA_TYPES[case.dtype])
        return SpmmPlan(
            found,
            self.algorithm,
            case,
            where,
            lambda api: int(api.create_csr(case.M, case.K, matrix.nnz, *pointers, *types)),
            weight,
            step,
        )

    def _binding(self) -> bindings.Binding | str:
        return bindings.cusparse(complete=self.algorithm in PREPROCESSED)


KERNELS = [
    CsrCusparse("csr.cusparse", "CSR_ALG3"),
    CsrCusparse("csr.cusparse.alg1", "CSR_ALG1"),
    CsrCusparse("csr.cusparse.alg2", "CSR_ALG2"),
]
