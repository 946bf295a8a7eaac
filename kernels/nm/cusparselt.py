"""2:4 by cuSPARSELt with a searched, reusable plan.

PyTorch's own cuSPARSELt operators are no second peer here: they rebuild the plan per call and return a new tensor, so
writing into a given Y would add a copy to the measured work.

A search can end in an illegal instruction (reported for fp16 on H100), which poisons the process: run it in a worker.
"""

from __future__ import annotations

from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels._cuda import bindings, handles
from sparsity_roofline.kernels._cuda.operands import INT32_MAX
from sparsity_roofline.kernels._cuda.spmm import ZeroPlan
from sparsity_roofline.kernels._cuda.structured import StructuredPlan
from sparsity_roofline.kernels.protocol import YES, BaseKernel, Device, Prepared, Step, Support, no_step
from sparsity_roofline.model.case import Case, Format
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

STRUCTURED_MULTIPLE = 16  # rows and columns of a 16-bit structured matrix (documented)
DENSE_MULTIPLE = 8  # rows and columns of a 16-bit dense matrix (documented)
FIRST_CAPABILITY = (8, 0)  # Ampere brought sparse tensor cores


class NmCusparselt(BaseKernel):
    """``cusparseLtMatmul`` with a compressed 2:4 weight, row-major X and Y, fp32 accumulation."""

    name = "nm.cusparselt"
    format: Format = "nm"
    dtypes = ("fp16", "bf16")

    def available(self, device: Device) -> Support:
        answer = super().available(device)
        if not answer:
            return answer
        found = bindings.cusparselt()
        if isinstance(found, str):
            return Support(found)
        import torch

        capability = torch.cuda.get_device_capability()
        if capability < FIRST_CAPABILITY:
            return Support(
                f"needs sparse tensor cores (compute capability 8.0), this GPU has {capability[0]}.{capability[1]}"
            )
        return YES

    def supports(self, case: Case, device: Device) -> Support:
        answer = super().supports(case, device)
        if not answer:
            return answer
        if (case.n, case.m) != (2, 4):
            return Support(f"multiplies 2:4, not {case.n}:{case.m}")
        if case.M % STRUCTURED_MULTIPLE or case.K % STRUCTURED_MULTIPLE:
            return Support(f"M and K must be multiples of {STRUCTURED_MULTIPLE}, not {case.M} x {case.K}")
        if case.N % DENSE_MULTIPLE:
            return Support(f"N must be a multiple of {DENSE_MULTIPLE}, not {case.N}: pad X to whole groups of columns")
        if max(case.M * case.K, case.K * case.N, case.M * case.N) > INT32_MAX:
            return Support("a matrix exceeds 2^31 - 1 elements")
        return YES

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        """Check that the weight is 2:4, compress it, plan, search the fastest algorithm.

        Raises:
            UserError: the weight is not 2:4, or no binding is installed.
            VendorError: cuSPARSELt refuses (see ``kernels._cuda.errors``).
        """
        where = handles.resolve(device)
        if 0 in (case.M, case.K, case.N):
            return ZeroPlan(case, where)
        found = bindings.cusparselt()
        if isinstance(found, str):
            raise UserError(f"{self.name}: {found}", 6)
        with step("convert"):
            # cuSPARSELt compresses whatever it is given; a group of more than two values would silently lose some.
            convert.nm_operand(matrix, 2, 4, case.dtype, where)
            # Adding zero turns -0.0 into 0.0, which some compressors count as a stored value.
            weight = convert.stored_as_dense(matrix, case.dtype, where).add_(0.0)
            handles.synchronize(where)
        return StructuredPlan(found, case, weight, step)


KERNELS = [NmCusparselt()]
