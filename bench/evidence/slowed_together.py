"""Three kernels of known slowness in one process: what ``evidence.gate`` measures.

``dense.slowed.3``, ``.5`` and ``.10`` are ``dense.slowed`` with a percentage of their own, which they plant where
SPARSITY_ROOFLINE_SLOWED_PERCENT is not 0. Planted is a little more work than the percentage of time in the name: what a
kernel does once is not repeated.
"""

from __future__ import annotations

from sparsity_roofline.bench.evidence.slowed import DenseSlowed, planted_percent
from sparsity_roofline.kernels import convert
from sparsity_roofline.kernels.protocol import Device, Prepared, Step, no_step
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.matrix import Matrix

WORK = {3: 3.5, 5: 5.5, 10: 11.0}
"""Percent of time in the name -> percent of work planted; whole steps of 200 along K."""


class DenseSlowedBy(DenseSlowed):
    """``dense.slowed`` with a percentage of its own."""

    def __init__(self, percent: int) -> None:
        self.name = f"dense.slowed.{percent}"
        self._work = WORK[percent]

    def prepare(self, matrix: Matrix, case: Case, device: Device, step: Step = no_step) -> Prepared:
        from sparsity_roofline.bench.evidence.slowed import _PreparedDense

        with step("convert"):
            weight = convert.dense_operand(matrix, case.dtype, device)
            return _PreparedDense(weight, case, self._work if planted_percent() else 0.0)


KERNELS = [DenseSlowedBy(percent) for percent in WORK]
