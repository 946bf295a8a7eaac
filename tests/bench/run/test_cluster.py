"""A run over several places that answer at once: the same records as on one device, whoever is lost when."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sparsity_roofline.bench.cluster import MOST_LOSSES, Lost
from sparsity_roofline.bench.cluster_local import Gpu, HostFleet, choose
from sparsity_roofline.bench.pinned import Pinned, sole_use
from sparsity_roofline.bench.run import Event, run
from sparsity_roofline.bench.station import Station
from sparsity_roofline.bench.store import read_records
from sparsity_roofline.model.errors import UserError

COLUMNS = [1, 2, 3, 4, 5, 6]


@pytest.fixture
def plan(plan_of):
    return plan_of(["csr.fake_a", "csr.fake_z", "csr.fake_refusing"], columns=COLUMNS)


@pytest.fixture
def pinned_child(fake_child, monkeypatch: pytest.MonkeyPatch):
    """A worker that says which device it was pinned to."""

    class Pinned(fake_child):
        names: ClassVar[dict[str, str]] = {}
        pins: ClassVar[list[str]] = []

        def __init__(self, environment=None) -> None:
            super().__init__()
            self.uuid = (environment or {})["CUDA_VISIBLE_DEVICES"]
            self.pins.append(self.uuid)

        def end(self) -> None:
            pass

        def send(self, message: dict[str, Any]) -> None:
            super().send(message)
            answer = self._answers[-1]
            if isinstance(answer, dict) and answer["kind"] == "ready":
                answer["device_name"] = self.names.get(self.uuid, "Fake CPU")
                answer["environment"] = {"device": {"uuid_hash": f"hash-{self.uuid}"}}
                answer["environment_hash"] = f"env-{self.uuid}"
            elif isinstance(answer, dict):
                answer["record"]["environment"] = f"env-{self.uuid}"

    monkeypatch.setattr("sparsity_roofline.bench.station.Child", Pinned)
    return Pinned


class Losable(Station):
    """Loses its host when ``lose`` says so."""

    lose: Callable[[Any], bool] = staticmethod(lambda job: False)

    def measure(self, job):
        if self.lose(job):
            raise Lost("the host is gone")
        return super().measure(job)


class FakeFleet:
    """Places as told: a list of UUIDs at each call."""

    def __init__(self, *waves: list[str], lose: dict[str, Callable[[Any], bool]] | None = None, patience=0.0) -> None:
        self.size = len(waves[0])
        self.patience_s = patience
        self.waves = list(waves)
        self.lose = lose or {}

    def arrivals(self, first, kernels, timeout):
        wave = self.waves.pop(0) if self.waves else []

        def make(uuid):
            def place(tell):
                station = Losable(first, kernels, timeout, tell, {"CUDA_VISIBLE_DEVICES": uuid}, uuid)
                station.lose = self.lose.get(uuid, station.lose)
                return station

            return place

        return [make(uuid) for uuid in wave]

    def close(self) -> None: ...


def after(count: int) -> Callable[[Any], bool]:
    """Lose the place with the job after so many."""
    seen: list[Any] = []

    def lose(job: Any) -> bool:
        seen.append(job)
        return len(seen) > count

    return lose


def check(folder: Path, plan) -> None:
    """Every job once, and no comparison across devices."""
    records = read_records(folder)
    assert sorted(zip(records.case, records.kernel, strict=True)) == sorted(job.key for job in plan.jobs)
    timed = records[records.status != "error"]
    assert (timed.groupby(["M", "K", "N", "dtype"]).environment.nunique() == 1).all()
    assert read_records(folder / "records.parquet").equals(records)


def test_two_devices_make_the_records_of_one(plan, pinned_child, tmp_path: Path) -> None:
    events: list[Event] = []
    summary = run(plan, tmp_path / "run", fleet=FakeFleet(["A", "B"]), on_event=events.append)
    check(tmp_path / "run", plan)
    assert (summary.exit_code, summary.left, summary.done) == (0, 0, len(plan.jobs))
    assert summary.counts == {"ok": 18, "unsupported": 6}
    counts = Counter(read_records(tmp_path / "run").environment)
    assert counts.keys() == {"env-A", "env-B"}
    assert sorted(pinned_child.pins) == ["A", "B"]
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    assert meta["workers"] == 2
    hashes = {json.loads(p.read_text())["hash"] for p in (tmp_path / "run").glob("environment*.json")}
    assert hashes == {"env-A", "env-B"}
    assert [e.done for e in events if e.kind == "finished"] == list(range(1, len(plan.jobs) + 1))
    assert any("expected 2.00 times as fast" in e.text for e in events)


@pytest.mark.parametrize("count", range(9))
def test_a_lost_place_is_made_up_for(plan, pinned_child, tmp_path: Path, count: int) -> None:
    summary = run(plan, tmp_path / "run", fleet=FakeFleet(["A", "B"], lose={"B": after(count)}))
    check(tmp_path / "run", plan)
    assert summary.left == 0
    assert any("B is out: the host is gone" in note for note in summary.notes)
    if count % 3:  # in the middle of a comparison
        assert any("records of a device that is gone are measured again" in note for note in summary.notes)


def test_a_device_that_comes_back_goes_on_where_it_was(plan, pinned_child, tmp_path: Path) -> None:
    fifth = after(4)
    lost: list[Any] = []

    def once(job: Any) -> bool:
        if lost or not fifth(job):
            return False
        lost.append(job)
        return True

    fleet = FakeFleet(["A"], [], ["A"], lose={"A": once}, patience=30.0)
    summary = run(plan, tmp_path / "run", fleet=fleet)
    check(tmp_path / "run", plan)
    assert not any("measured again" in note for note in summary.notes), "its own records were thrown away"


def test_no_place_left_is_one_line_and_resumes(plan, pinned_child, tmp_path: Path) -> None:
    fleet = FakeFleet(["A", "B"], lose={"A": after(4), "B": after(2)})
    with pytest.raises(UserError, match="the host is gone; go on with --resume") as error:
        run(plan, tmp_path / "run", fleet=fleet)
    assert error.value.exit_code == 6
    before = len(read_records(tmp_path / "run"))
    assert before >= 4
    run(plan, tmp_path / "run", fleet=FakeFleet(["A", "B"]), resume=True)
    check(tmp_path / "run", plan)


def test_resumed_on_other_devices_no_comparison_is_mixed(plan, pinned_child, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run(plan, tmp_path / "run", fleet=FakeFleet(["A"], lose={"A": after(4)}))
    summary = run(plan, tmp_path / "run", fleet=FakeFleet(["C", "D"]), resume=True)
    check(tmp_path / "run", plan)
    assert set(read_records(tmp_path / "run").environment) == {"env-A", "env-C", "env-D"}
    assert any("measured again" in note for note in summary.notes)


def test_a_case_that_takes_its_places_down_is_recorded(plan, pinned_child, tmp_path: Path) -> None:
    bad = next(job for job in plan.jobs if job.kernel == "csr.fake_a" and job.case.N == 3)
    lose = dict.fromkeys("ABCDE", lambda job: job.key == bad.key)
    fleet = FakeFleet(["A", "B"], [], ["C"], ["D"], ["E"], lose=lose, patience=30.0)
    run(plan, tmp_path / "run", fleet=fleet)
    check(tmp_path / "run", plan)
    row = read_records(tmp_path / "run").query("status == 'error'")
    assert list(zip(row.case, row.kernel, strict=True)) == [bad.key]
    assert row.reason.item() == f"its worker was lost {MOST_LOSSES} times while this case ran"


def test_places_that_cannot_start_are_left_out(plan, pinned_child, tmp_path: Path) -> None:
    class Refusing(FakeFleet):
        def arrivals(self, *given):
            makes = super().arrivals(*given)

            def refuse(tell):
                place = makes[0](tell)

                def begin() -> None:
                    raise UserError("another run measures on this GPU", 6)

                place.begin = begin
                return place

            return [refuse, *makes[1:]] if makes else []

    summary = run(plan, tmp_path / "run", fleet=Refusing(["A", "B"]))
    check(tmp_path / "run", plan)
    assert any("A is out: another run measures on this GPU" in note for note in summary.notes)
    with pytest.raises(UserError, match="another run measures on this GPU"):
        run(plan, tmp_path / "none", fleet=Refusing(["A"]))


def test_another_kind_of_device_is_left_out(plan, pinned_child, tmp_path: Path) -> None:
    pinned_child.names["B"] = "NVIDIA A100"
    summary = run(plan, tmp_path / "run", fleet=FakeFleet(["A"], ["B"]))
    check(tmp_path / "run", plan)
    assert set(read_records(tmp_path / "run").device) == {"Fake CPU"}
    assert summary.left == 0


def test_late_places_take_part(plan_of, pinned_child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(["csr.fake_a"], columns=list(range(1, 31)))
    monkeypatch.setattr("sparsity_roofline.bench.cluster._POLL_S", 0.005)
    import time

    def slow(job) -> bool:
        time.sleep(0.02)
        return False

    fleet = FakeFleet(["A"], [], ["B"], lose={"A": slow, "B": slow})
    run(plan, tmp_path / "run", fleet=fleet)
    check(tmp_path / "run", plan)
    counts = Counter(read_records(tmp_path / "run").environment)
    assert counts["env-B"] > 15


def test_interrupt_and_resume(plan, pinned_child, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.kind == "finished" and event.done == 5:
            raise KeyboardInterrupt

    summary = run(plan, tmp_path / "run", fleet=FakeFleet(["A", "B"]), on_event=stop)
    assert (summary.exit_code, summary.done) == (130, 5)
    assert len(read_records(tmp_path / "run" / "records.parquet")) == 5
    run(plan, tmp_path / "run", fleet=FakeFleet(["A", "B"]), resume=True)
    check(tmp_path / "run", plan)


def test_budget_leaves_the_rest_for_resume(plan, pinned_child, tmp_path: Path, monkeypatch) -> None:
    import sparsity_roofline.bench.supervisor as module

    events: list[Event] = []
    real = module.Supervisor._spent
    monkeypatch.setattr(module.Supervisor, "_spent", lambda self, job: len(self._pending) < 12 or real(self, job))
    summary = run(plan, tmp_path / "run", fleet=FakeFleet(["A", "B"]), budget_s=1000, on_event=events.append)
    assert 0 < summary.left < 12
    assert any("budget of 1000 s spent" in note for note in summary.notes)
    monkeypatch.undo()
    assert summary.exit_code == 0


def test_a_full_disk_ends_all_of_it(plan, pinned_child, tmp_path: Path, monkeypatch) -> None:
    from sparsity_roofline.bench.folder import RunFolder

    real = RunFolder.append

    def full(self, record):
        if len(self.records) >= 4:
            raise UserError("no space left", 4)
        real(self, record)

    monkeypatch.setattr(RunFolder, "append", full)
    with pytest.raises(UserError, match="no space left"):
        run(plan, tmp_path / "run", fleet=FakeFleet(["A", "B"]))
    monkeypatch.setattr(RunFolder, "append", real)
    run(plan, tmp_path / "run", fleet=FakeFleet(["A", "B"]), resume=True)
    check(tmp_path / "run", plan)


# -- GPUs of a host

H100 = [Gpu(0, "GPU-0", "NVIDIA H100"), Gpu(1, "GPU-1", "NVIDIA H100"), Gpu(2, "GPU-2", "NVIDIA A100")]


def test_devices_are_chosen_by_number() -> None:
    assert choose("all", H100[:2]) == H100[:2]
    assert choose("1,0", H100) == [H100[1], H100[0]]
    for text, found, message in [
        ("all", [], "no NVIDIA GPU here"),
        ("0,0", H100, "the same GPU twice"),
        ("0,7", H100, "there is no GPU 7, only 0 to 2"),
        ("first", H100, "write all, or numbers"),
        ("", H100, "write all, or numbers"),
        ("-1", H100, "write all, or numbers"),
        ("all", H100, "2 is a NVIDIA A100: name those of one kind"),
    ]:
        with pytest.raises(UserError, match=message):
            choose(text, found)


def test_host_fleet_pins_by_uuid_and_holds_each_gpu(plan, pinned_child, tmp_path: Path) -> None:
    """The real fleet of a host, with workers that only say they are GPUs'."""
    run(plan, tmp_path / "run", fleet=HostFleet(H100[:2]))
    check(tmp_path / "run", plan)
    assert sorted(pinned_child.pins) == ["GPU-0", "GPU-1"]
    with sole_use("GPU-0"):
        summary = run(plan, tmp_path / "again", fleet=HostFleet(H100[:2]))
    assert any("GPU 0 is out: another run measures on this GPU" in note for note in summary.notes)
    assert set(read_records(tmp_path / "again").environment) == {"env-GPU-1"}
    with sole_use("GPU-0"), sole_use("GPU-1"):  # let go of by both
        pass


def test_fixed_clocks_are_held_per_device(plan_of, pinned_child, tmp_path: Path, monkeypatch) -> None:
    from contextlib import contextmanager
    from dataclasses import replace
    from types import SimpleNamespace

    held: list[str] = []

    @contextmanager
    def hold(uuid: str):
        held.append(f"+{uuid}")
        yield SimpleNamespace(mhz=1500.0)
        held.append(f"-{uuid}")

    monkeypatch.setattr("sparsity_roofline.bench.pinned.clocks.held", hold)
    plan = plan_of(["csr.fake_a"], columns=[1, 2])
    plan = replace(plan, suite=replace(plan.suite, regime=replace(plan.suite.regime, clocks="fixed")))
    summary = run(plan, tmp_path / "run", fleet=HostFleet(H100[:2]))
    assert sorted(held) == ["+GPU-0", "+GPU-1", "-GPU-0", "-GPU-1"]
    assert "GPU 1: the SM clock is locked at 1500 MHz until the run ends" in summary.notes


def test_a_pinned_station_lets_go_of_its_device_when_its_worker_cannot_start(plan, tmp_path: Path, monkeypatch) -> None:
    import sys

    from sparsity_roofline.bench.station import first_message

    monkeypatch.setattr(sys, "executable", "/bin/false")
    place = Pinned(first_message(plan, "run", False), {}, 1.0, lambda kind, what: None, "GPU-0", "GPU 0")
    with pytest.raises(UserError, match="cannot be started"):
        place.begin()
    place.stop()
    with sole_use("GPU-0"):
        pass


def test_both_kinds_of_fleet_are_one_too_many() -> None:
    from sparsity_roofline.bench.fleets import open_fleet

    with pytest.raises(UserError, match="choose one of them"), open_fleet("all", "local:2"):
        pass
    with pytest.raises(UserError, match="leave out --device cpu"), open_fleet("all", None, "cpu"):
        pass
    with open_fleet(None, None) as fleet:
        assert fleet is None


def test_a_budget_counts_every_device(plan_of) -> None:
    from sparsity_roofline.bench.estimate import startup_s
    from sparsity_roofline.bench.sampling import sample

    plan = plan_of(["csr.fake_a"], columns=list(range(1, 41)))
    room = sum(job.estimate_s for job in plan.jobs) / 4
    one, two = (sample(plan, startup_s("cpu") + room, devices) for devices in (1, 2))
    assert len(one.jobs) < len(two.jobs) < len(plan.jobs)
    assert sum(job.estimate_s for job in two.jobs) <= 2 * room


def test_the_api_shares_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sparsity_roofline as sr

    monkeypatch.setattr("sparsity_roofline.bench.cluster_local.gpus", list)
    with pytest.raises(UserError, match="no NVIDIA GPU here"):
        sr.measure("main", out=tmp_path / "run", devices="all")
    assert not (tmp_path / "run").exists()
