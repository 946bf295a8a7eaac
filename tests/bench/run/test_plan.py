"""Plans: which cases a suite stands for, shared dense partners, order, refusals, and the sampling rule."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_roofline.bench.estimate import Correction, estimate, startup_s
from sparsity_roofline.bench.matrices.collection import MatrixInfo
from sparsity_roofline.bench.plan import make_plan, sample
from sparsity_roofline.bench.suites import load_suite
from sparsity_roofline.bench.suites.load import parse_suite
from sparsity_roofline.bench.timing.protocol import Stopping
from sparsity_roofline.kernels.protocol import YES, BaseKernel
from sparsity_roofline.model.case import Case
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import Pattern


class Anywhere(BaseKernel):
    """A kernel of a name that any device has."""

    devices = ("cuda", "cpu")

    def __init__(self, name: str) -> None:
        self.name, self.format = name, name.split(".")[0]  # type: ignore[assignment]

    def available(self, device):
        return YES


NAMES = [
    "dense.cublas", "dense.triton", "csr.cusparse", "csr.triton", "csr.torch", "bsr.cusparse", "bsr.triton",
    "bsr.torch", "nm.cusparselt", "nm.triton",
]  # fmt: skip
KERNELS = {name: Anywhere(name) for name in NAMES}


def plan(text: str, kernels=KERNELS, device="cpu", **more):
    return make_plan(parse_suite(text, "test"), kernels=kernels, device=device, **more)


ALL = """
dtypes = ["fp16", "fp32"]
[[entries]]
max_matrices = 2
batches = [1, 4]
tokens = [64]
kernels = ["*"]
"""


def test_formats_follow_patterns_and_dense_is_shared() -> None:
    cases = {job.case.key: job.case for job in plan(ALL).jobs}
    formats = {(c.pattern, c.format) for c in cases.values()}
    assert formats == {
        ("dense", "dense"), ("unstructured", "csr"), ("2:4", "nm"), ("block16x16", "bsr"), ("block32x32", "bsr"),
        ("block64x64", "bsr"),
    }  # fmt: skip
    shapes = [(c.M, c.K, c.N, c.dtype, c.layout) for c in cases.values()]
    dense = [(c.M, c.K, c.N, c.dtype, c.layout) for c in cases.values() if c.format == "dense"]
    assert len(dense) == len(set(dense))
    assert set(dense) == set(shapes)
    for case in cases.values():
        if case.format == "dense":
            assert case.matrix == f"dense/{case.M}x{case.K}"
            assert (case.nnz, case.used_columns, case.synthetic) == (case.M * case.K, case.K, True)
        elif case.format == "bsr":
            assert case.stored_blocks * case.block_rows * case.block_cols >= case.nnz
        assert not case.realised


def test_order_keeps_matrices_together_with_their_dense_partner_first() -> None:
    jobs = plan(ALL).jobs
    matrices = [key for key, _ in itertools.groupby(jobs, key=lambda job: (job.source, job.case.matrix))]
    assert len(matrices) == len(set(matrices))
    shapes = [key for key, _ in itertools.groupby(jobs, key=lambda job: (job.case.M, job.case.K))]
    assert len(shapes) == len(set(shapes))
    for _, group in itertools.groupby(jobs, key=lambda job: (job.case.M, job.case.K)):
        formats = [job.case.format == "dense" for job in group]
        assert formats == sorted(formats, reverse=True)
        assert formats[0]


def test_batches_tokens_columns_and_layouts() -> None:
    text = """
[[entries]]
networks = ["resnet50"]
layers = ["final_dense"]
target_sparsity = [0.9]
patterns = ["unstructured"]
batches = [1, 7]
tokens = [99]
columns = [5, 7]
layouts = ["row-major", "token-major"]
kernels = ["csr.triton"]
dense = ["dense.cublas"]
"""
    jobs = [job for job in plan(text).jobs if job.case.format == "csr"]
    assert {(j.case.N, j.case.batch, j.case.layout) for j in jobs} == {
        (n, b, layout) for n, b in ((1, 1), (7, 7), (5, None)) for layout in ("row-major", "token-major")
    }
    # BaseKernel takes row-major only: the row is there, with the reason, and costs nothing
    for job in plan(text).jobs:
        assert bool(job.reason) == (job.case.layout == "token-major")
        assert (job.estimate_s == 0.0) == bool(job.reason)


def test_csr_of_block_matrices_only_if_asked() -> None:
    text = ALL.replace("kernels", 'prune = ["block32x32"]\nsparsities = [0.9]\nFORMATS\nkernels')
    both = plan(text.replace("FORMATS", 'formats = ["csr", "bsr", "nm"]'))
    assert {job.case.format for job in both.jobs} == {"dense", "csr", "bsr"}
    assert {job.case.format for job in plan(text.replace("FORMATS", "")).jobs} == {"dense", "bsr"}


def test_absent_kernels_and_matrices_are_notes_not_jobs() -> None:
    kernels = dict(KERNELS)
    kernels["csr.gpu"] = type("Gpu", (BaseKernel,), {"name": "csr.gpu", "format": "csr"})()
    del kernels["nm.triton"], kernels["nm.cusparselt"]
    made = plan(ALL, kernels)
    assert "csr.gpu" not in {job.kernel for job in made.jobs}
    assert any(note == "not made for cpu: csr.gpu" for note in made.notes)
    assert any("no kernel for nm" in note for note in made.notes)


def test_unique_shapes_and_strata() -> None:
    from sparsity_roofline.bench.expand import _chosen
    from sparsity_roofline.bench.suites.schema import Entry

    infos = [
        MatrixInfo(f"m{i}", 64, 64 + 64 * (i % 3), 100, network="n", target_sparsity=s)
        for s in (0.5, 0.9)
        for i in range(9)
    ]
    notes: list[str] = []
    assert len(_chosen(infos, Entry(unique_shapes=True), "e", notes)) == 6
    spread = _chosen(infos, Entry(max_matrices=3, target_sparsity=(0.9,)), "e", notes)
    assert [info.name for info in spread] == ["m0", "m3", "m6"]
    assert _chosen(infos, Entry(networks=("x*",)), "entry 7", notes) == []
    assert notes == ["entry 7: no matrix matches"]


def test_listed_but_absent_matrices_are_left_out(monkeypatch) -> None:
    class Gaps:
        label, uri = "gaps", "gaps"

        def infos(self):
            return [
                MatrixInfo("here", 32, 32, 100, Pattern.parse("unstructured"), target_sparsity=0.9),
                MatrixInfo("gone", 32, 32, 100, Pattern.parse("unstructured"), target_sparsity=0.9, present=False),
            ]

    monkeypatch.setattr("sparsity_roofline.bench.matrices.open_collection", lambda *a, **k: Gaps())
    made = plan("[[entries]]\ncolumns=[4]\nkernels=['csr.triton']", collection="gaps")
    assert {job.case.matrix for job in made.jobs} == {"here", "dense/32x32"}
    assert "entry 1: 1 matrices are listed but not there" in made.notes


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"device": "cuda", "text": "devices=['cpu']\n[[entries]]\nbatches=[1]"}, "made for cpu, not for cuda"),
        ({"text": "[[entries]]\nbatches=[1]\nnetworks=['none']"}, "leaves nothing to run on cpu: .*no matrix matches"),
        ({"text": ALL, "select": ["zzz.*"]}, "no kernel matches 'zzz"),
        ({"text": ALL, "collection": "/no/such"}, "/no/such"),
    ],
)
def test_refusals(change: dict, match: str) -> None:
    with pytest.raises(UserError, match=match):
        plan(change.pop("text"), **change)


def test_select_and_dtypes_narrow() -> None:
    made = plan(ALL, select=["csr.triton"], dtypes=["fp32"])
    assert {job.kernel for job in made.jobs} == {"dense.cublas", "dense.triton", "csr.triton"}
    assert {job.case.dtype for job in made.jobs} == {"fp32"}
    both = plan(ALL, select=["csr.triton", "dense.cublas"])
    assert {job.kernel for job in both.jobs} == {"dense.cublas", "csr.triton"}


def test_identity_is_of_what_was_asked() -> None:
    one = plan(ALL)
    assert one.identity == plan(ALL).identity
    assert one.identity == sample(one, startup_s("cpu") + 20).identity
    assert one.identity != plan(ALL, select=["csr.*"]).identity
    assert one.identity != plan("[timing]\nseconds = 0.1\n" + ALL.replace("dtypes", "#")).identity
    newer = dict(KERNELS)
    newer["csr.triton"] = Anywhere("csr.triton")
    newer["csr.triton"].version = "2"
    assert one.identity != plan(ALL, newer).identity


def test_timer_and_cache_state_are_part_of_what_was_asked() -> None:
    timed = "[timing]\ntimer = 'cuda-events'\nl2 = 'hot'\n" + ALL.replace("dtypes", "#")
    plain = ALL.replace("dtypes", "#")
    given = plan(timed, device="cuda")
    assert (given.timer, given.suite.regime.l2) == ("cuda-events", "hot")
    default = plan(plain, device="cuda")
    assert (default.timer, default.suite.regime.l2) == ("cupti-kineto", "cold-clean")
    assert plan(plain, device="cpu").timer == "monotonic"
    over = plan(timed, device="cuda", timer="cuda-graph", l2="cold-clean")
    assert (over.timer, over.suite.regime.l2) == ("cuda-graph", "cold-clean")
    assert sample(over, startup_s("cuda") + 20).timer == "cuda-graph"
    asked = [given, default, over, plan(plain, device="cuda", l2="hot"), plan(plain, device="cuda", timer="cuda-graph")]
    assert len({p.identity for p in asked}) == 4, "the last is what the third came to"
    assert asked[4].identity == over.identity


@pytest.mark.parametrize(("device", "timer"), [("cpu", "cuda-events"), ("cuda", "monotonic"), ("cuda", "sundial")])
def test_a_timer_the_device_has_not_is_refused(device: str, timer: str) -> None:
    with pytest.raises(UserError, match=f"no timer '{timer}' for {device}: choose "):
        plan(ALL, device=device, timer=timer)


def test_table_lists_each_case_once() -> None:
    made = plan(ALL)
    table = made.to_table()
    assert len(table) == len({job.case.key for job in made.jobs})
    assert table.estimate_s.sum() + startup_s("cpu") == pytest.approx(made.estimate_s)
    assert set(table["shape"].str.count("x")) == {2}


@settings(max_examples=30, deadline=None)
@given(budget=st.floats(startup_s("cpu") + 6, 400))
def test_sample_keeps_budget_partners_and_order(budget: float) -> None:
    whole = plan(ALL)
    part = sample(whole, budget)
    assert part.estimate_s <= budget
    places = [whole.jobs.index(job) for job in part.jobs]
    assert places == sorted(places)
    dense = {(c.M, c.K, c.N, c.dtype) for c in (job.case for job in part.jobs) if c.format == "dense"}
    assert {(job.case.M, job.case.K, job.case.N, job.case.dtype) for job in part.jobs} == dense
    chosen = {job.case.key for job in part.jobs}
    assert {job.key for job in whole.jobs if job.case.key in chosen} == {job.key for job in part.jobs}
    assert [job.key for job in sample(whole, budget).jobs] == [job.key for job in part.jobs]


def test_sample_visits_every_stratum_before_any_twice() -> None:
    whole = plan(ALL)

    def strata(made):
        return {
            (c.format, c.dtype, c.network, c.target_sparsity, c.batch)
            for c in (job.case for job in made.jobs)
            if c.format != "dense"
        }

    part = sample(whole, whole.estimate_s * 0.75)
    assert 0 < len(part.jobs) < len(whole.jobs)
    assert strata(part) == strata(whole)
    assert sample(whole, 1e9).jobs == whole.jobs
    with pytest.raises(UserError, match="too small for any case: give at least"):
        sample(whole, 1.0)


def test_estimate_grows_with_the_work_and_is_bounded_by_the_stopping_rule() -> None:
    def case(N: int, format: str = "csr") -> Case:
        return Case("c", "m", 512, 512, N, "unstructured", format, "fp32", nnz=26214, used_columns=512)  # type: ignore[arg-type]

    stopping = Stopping(minimum=20, maximum=40, seconds=0.5)
    each, first = estimate([case(1), case(1024), case(65536)], "cpu", stopping)
    assert each[0] < each[2]
    assert first[0] < first[1] < first[2]
    assert estimate([], "cpu", stopping) == ([], [])


def test_estimate_knows_the_copies_of_a_rotating_timer() -> None:
    """4096 x 4096 fp16 and N = 16: 33.8 MB a call, four copies until twice a cache of 64 MB is covered."""
    dense = Case("c", "w", 4096, 4096, 16, "dense", "dense", "fp16", 4096 * 4096, used_columns=4096)
    (plain,), _ = estimate([dense], "cuda", Stopping())
    (rotated,), _ = estimate([dense], "cuda", Stopping(), rotates=True)
    assert rotated - plain == pytest.approx(4 * (1.5e-3 + 0.2e-9 * 4096**2))
    text = '[timing]\ntimer = "cuda-graph"\nl2 = "{}"\n[[entries]]\nbatches = [1]\ntokens = [64]\nkernels = ["*"]\n'
    cold, hot = (plan(text.format(l2), device="cuda") for l2 in ("cold-clean", "hot"))
    assert cold.estimate_s > hot.estimate_s


def test_correction_prefers_the_kernels_own_ratio() -> None:
    correction = Correction()
    assert correction.factor("a") == 1.0
    for _ in range(5):
        correction.add("a", 1.0, 3.0)
    correction.add("b", 1.0, 1.0)
    assert correction.factor("a") == pytest.approx(3.0)
    assert correction.factor("b") == pytest.approx(16 / 6)


def test_packaged_suite_main_is_within_its_promise_on_a_cpu() -> None:
    from sparsity_roofline.kernels.registry import load_kernels

    made = make_plan(load_suite("main"), kernels=load_kernels(), device="cpu")
    assert made.estimate_s < 120
    assert {job.case.format for job in made.jobs} >= {"dense", "csr", "bsr"}


def test_dense_multiplies_the_unpruned_weight_where_one_is_known(tmp_path) -> None:
    """Of two layers of a shape the first whose weight is known; a layer that was pruned before does not count."""
    import numpy as np
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    whole = rng.standard_normal((64, 96)).astype(np.float32)
    other = rng.standard_normal((32, 96)).astype(np.float32)
    save_file({"a": whole * (rng.random((64, 96)) < 0.2), "b": whole, "c": other}, str(tmp_path / "net.safetensors"))
    text = """
    dtypes = ["fp32"]
    [[entries]]
    prune = ["unstructured"]
    sparsities = [0.95]
    layers = {layers}
    columns = [8]
    kernels = ["csr.triton"]
    dense = ["dense.cublas"]
    """
    for layers, weights in (
        ('["a", "b", "c"]', {(64, 96): "net/b@unstructured@0.95", (32, 96): "net/c@unstructured@0.95"}),
        ('["a"]', {(64, 96): "seeded"}),
    ):
        made = plan(text.format(layers=layers), collection=str(tmp_path / "net.safetensors"))
        dense = [job for job in made.jobs if job.case.format == "dense"]
        assert {(job.case.M, job.case.K): job.case.weight for job in dense} == weights
        for job in dense:
            assert (job.source < 0) == (job.case.weight == "seeded") == job.case.synthetic
        assert [job.case.format for job in made.jobs[:1]] == ["dense"]
