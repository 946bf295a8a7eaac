# ruff: noqa: T201 - a command, which prints
"""The long kill test: a run is killed at random moments until it is done; no case may be lost or doubled.

    python tests/hardening/kill.py --runs 20
    python tests/hardening/kill.py --runs 5 --how local:2        shared among two Dask workers

Each run is started, killed with SIGKILL after a random time, and taken up with --resume, again and again. Prints how
many runs and kills there were and where they fell, and exits with 1 if a record was lost, doubled or changed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FAKES = f"{HERE.parent / 'bench/run/_fakes.py'}:KERNELS"
SUITE = """
seed = 3
dtypes = ["fp32"]
[timing]
minimum = 3
maximum = 3
seconds = 0.01
[[entries]]
networks = ["transformer"]
layers = ["self_attention_q"]
patterns = ["unstructured"]
target_sparsity = [0.9]
columns = [1, 2, 3, 4, 5, 6, 7, 8]
kernels = ["csr.fake_slow", "csr.fake_refusing"]
dense = ["dense.fake"]
"""
JOBS = 24


def command(folder: Path, suite: Path, how: str, resume: bool) -> list[str]:
    """The command line of one sitting."""
    words = [sys.executable, "-c", "from sparsity_roofline.cli import entry\nif __name__ == '__main__': entry()"]
    words += ["measure", "--suite", str(suite), "--kernel", FAKES, "--device", "cpu", "--no-calibrate"]
    words += ["--out", str(folder)] + (["--resume"] if resume else []) + (["--cluster", how] if how else [])
    return words


def one_run(folder: Path, suite: Path, how: str, rng: random.Random, most: int) -> tuple[Counter[str], list[str]]:
    """Kill until it is done or ``most`` kills were made, then let it finish. Where kills fell, and what went wrong."""
    places: Counter[str] = Counter()
    wrong: list[str] = []
    log = folder / "records.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "FAKE_SLOW_S": "0.01", "OMP_NUM_THREADS": "1"}
    kept = b""
    for turn in range(most + 1):
        begun = folder.exists() and any(folder.iterdir())
        process = subprocess.Popen(
            command(folder, suite, how, begun),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        if turn < most:
            wait(rng, log, process)
        try:
            out, _ = process.communicate(timeout=180 if turn == most else 0.0)
            if process.returncode:
                wrong.append(f"exit {process.returncode}: {out.decode(errors='replace').strip().splitlines()[-1:]}")
            ended = True
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            ended = False
        now = log.read_bytes() if log.exists() else b""
        whole = kept[: kept.rfind(b"\n") + 1]
        if not now.startswith(whole):
            wrong.append("a finished record was changed or lost")
        kept = now
        if ended:
            break
        places[where(folder, now)] += 1
    keys = [(r["case"], r["kernel"]) for r in map(json.loads, kept.splitlines())]
    if len(keys) != len(set(keys)):
        wrong.append(f"{len(keys) - len(set(keys))} records doubled")
    if len(set(keys)) != JOBS:
        wrong.append(f"{JOBS - len(set(keys))} records lost")
    return places, wrong


def wait(rng: random.Random, log: Path, process: subprocess.Popen[bytes]) -> None:
    """Leave a sitting alone for a while: one time in four any time, else until some more records and a moment."""
    began = time.monotonic()
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0.0, 3.0))
        return
    lines = count(log) + rng.choice((0, 1, 1, 2, 3, 5, 8, JOBS))
    while process.poll() is None and count(log) < min(lines, JOBS) and time.monotonic() - began < 60:
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, 0.05 if rng.random() < 0.7 else 0.5))


def count(log: Path) -> int:
    """Whole lines."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


def where(folder: Path, log: bytes) -> str:
    """The part of a run that a kill fell into."""
    if not (folder / "run.json").exists():
        return "before the folder was begun"
    lines = log.count(b"\n")
    if not lines:
        return "before the first record"
    if log and not log.endswith(b"\n"):
        return "within a line"
    return "after the last record" if lines >= JOBS else "between records"


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kills", type=int, default=8, help="of one run at most")
    parser.add_argument("--how", default="", metavar="CLUSTER", help="--cluster of the run [none: one device]")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="printed, to repeat")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    places: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SPARSITY_ROOFLINE_HOME"] = f"{scratch}/home"
        suite = Path(scratch) / "suite.toml"
        suite.write_text(SUITE)
        for number in range(given.runs):
            fell, bad = one_run(Path(scratch) / f"run{number}", suite, given.how, rng, given.kills)
            places += fell
            wrong += [f"run {number}: {text}" for text in bad]
    print(f"seed {given.seed}: {given.runs} runs of {JOBS} jobs, {sum(places.values())} kills, {len(wrong)} findings")
    for place, count in places.most_common():
        print(f"  {count:5d} {place}")
    for text in wrong:
        print(f"  FINDING {text}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
