"""BSR by cuSPARSE (BSR_ALG1), planned once. A peer for completeness: slow in fp16, a contender in fp32 only."""

from __future__ import annotations

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import bindings, handles
from sparsity_roofline.kernels._cuda.operands import BASE_ZERO, DATA_TYPES, INDEX_32I, INT32_MAX, ROW_MAJOR
from sparsity_roofline.kernels._cuda.spmm import SpmmPlan, ZeroPlan
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.dtype import Unit
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix


class BsrCusparse(BaseKernel):
    """``cusparseSpMM`` with a BSR weight: blocks in row order, elements of a block row-major, X and Y row-major.

    Square blocks only: cuSPARSE 12.6.3 refuses to create others (INVALID_VALUE, seen on an H100).
    """

    name = "bsr.cusparse"
    format: Format = "bsr"

    def unit(self, dtype: str, device: Device) -> Unit:
        """CUDA cores: inferred from its fp16 rates on an H100, which stay below the fp32 peak."""
        return "cuda"

    def available(self, device: Device) -> Support:
        answer = super().available(device)
        if not answer:
            return answer
        found = bindings.cusparse()
        return Support(found) if isinstance(found, str) else YES

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        r, c = case.block_rows, case.block_cols
        if min(r, c) < 1 or case.M % r or case.K % c:
            return Support(f"M and K must be multiples of the block: {case.M} x {case.K} in blocks of {r} x {c}")
        if r != c:
            return Support(f"cuSPARSE creates square blocks only, not {r} x {c}")
        if case.stored_blocks > INT32_MAX or max(case.M, case.K, case.N) > INT32_MAX:
            return Support("blocks, M, K or N exceed 2^31 - 1, and indices are int32")
        return YES

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        """Convert, create descriptors and workspace (step ``plan``).

        Raises:
            UserError: no binding is installed.
            VendorError: cuSPARSE refuses (see ``kernels._cuda.errors``).
        """
        where = handles.resolve(device)
        if 0 in (matrix.nnz, case.M, case.N):
            return ZeroPlan(case, where)
        found = bindings.cusparse()
        if isinstance(found, str):
            raise UserError(f"{self.name}: {found}", 6)
        r, c = case.block_rows, case.block_cols
        with step("convert"):
            weight = convert.bsr_operand(matrix, r, c, case.dtype, where)
            handles.synchronize(where)
        blocks = (case.M // r, case.K // c, int(weight.indices.shape[0]), r, c)
        pointers = (weight.indptr.data_ptr(), weight.indices.data_ptr(), weight.values.data_ptr())
        types = (INDEX_32I, INDEX_32I, BASE_ZERO, DATA_TYPES[case.dtype], ROW_MAJOR)
        return SpmmPlan(
            found, "BSR_ALG1", case, where, lambda api: int(api.create_bsr(*blocks, *pointers, *types)), weight, step
        )


KERNELS = [BsrCusparse()]
