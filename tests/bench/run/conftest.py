"""Small plans over the built-in layers and fake kernels, and a worker that answers without a process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sparsity_roofline.bench import rows
from sparsity_roofline.bench.plan import Plan, make_plan
from sparsity_roofline.bench.suites.load import parse_suite
from sparsity_roofline.kernels.protocol import Kernel
from sparsity_roofline.kernels.registry import load_kernels
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.ceilings import Ceilings
from sparsity_roofline.model.record import Record

FAKES = f"{Path(__file__).parent / '_fakes.py'}:KERNELS"

SUITE = """
seed = 3
dtypes = ["fp32"]
[timing]
minimum = 5
maximum = 5
seconds = 0.05
[[entries]]
networks = ["transformer"]
layers = ["self_attention_q"]
patterns = ["unstructured"]
target_sparsity = {sparsities}
columns = {columns}
kernels = {kernels}
dense = {dense}
"""

MakePlan = Callable[..., Plan]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "home"))


@cache
def _kernels() -> dict[str, Kernel]:
    return load_kernels([FAKES])


def build_plan(
    names: Sequence[str], columns: Sequence[int] = (8,), sparsities: Sequence[float] = (0.9,), dense: str = "dense.fake"
) -> Plan:
    """A plan over one 512 x 512 layer."""
    text = SUITE.format(
        sparsities=list(sparsities), columns=list(columns), kernels=json.dumps(list(names)), dense=json.dumps([dense])
    )
    return make_plan(parse_suite(text, "test"), kernels=_kernels(), device="cpu", extra_kernels=[FAKES])


@pytest.fixture(scope="session")
def plan_of() -> MakePlan:
    """``build_plan``."""
    return build_plan


CEILINGS = Ceilings("Fake CPU", "measured", {"fp32_flops": 1e11}, 1e10)


def ok_record(case: Case, kernel: str, evidence: rows.Evidence | None = None, time_ns: float = 1000.0) -> Record:
    """A record as a worker would send it for a good kernel."""
    evidence = evidence or rows.Evidence("run", "cpu", "Fake CPU", "env")
    record = rows.blank(case, kernel, evidence)
    record.status = "ok"
    record.error_rms = 1e-7
    record.timer, record.stop_reason = "monotonic", "samples"
    for name in ("time", "time_ci_low", "time_ci_high", "time_min", "time_p10", "time_p90", "span"):
        setattr(record, f"{name}_ns", time_ns)
    record.samples, record.kernels_per_call = 3, 1
    record.raw_samples_ns = [time_ns] * 3
    record.check()
    return record


class FakeChild:
    """Stands in for ``child.Child``: answers at once. ``script`` maps kernel names to an answer or an exception."""

    script: ClassVar[dict[str, Any]] = {}
    started: ClassVar[int] = 0
    jobs: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        type(self).started += 1
        self._answers: list[dict[str, Any] | BaseException] = []

    def send(self, message: dict[str, Any]) -> None:
        if "case" not in message:
            self._answers.append(
                {
                    "kind": "ready", "device_name": "Fake CPU", "environment": {"device": {}},
                    "environment_hash": "env", "datasheet": None, "measured": CEILINGS.to_json(), "threads": 2,
                }
            )  # fmt: skip
            return
        case = Case.from_dict(message["case"])
        type(self).jobs.append((case.key, message["kernel"]))
        answer = self.script.get(message["kernel"])
        if answer is not None:
            self._answers.append(answer)
        else:
            record = ok_record(case, message["kernel"])
            self._answers.append({"kind": "record", "record": record.to_dict(), "wall_s": 0.0, "lost": False})

    def receive(self, timeout_s: float) -> dict[str, Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def kill(self) -> None:
        pass


@pytest.fixture
def fake_child(monkeypatch: pytest.MonkeyPatch) -> type[FakeChild]:
    """The supervisor starts a fresh subclass of ``FakeChild``."""
    fresh = type("Fresh", (FakeChild,), {"script": {}, "started": 0, "jobs": []})
    monkeypatch.setattr("sparsity_roofline.bench.station.Child", fresh)
    return fresh


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    return ok_record
