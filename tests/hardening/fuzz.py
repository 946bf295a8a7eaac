# ruff: noqa: T201 - a command, which prints
"""The long fuzz: damaged files of every kind, in processes that may not take more than a bound of memory and time.

    python tests/hardening/fuzz.py --seconds 60                      every target, by random damage
    python tests/hardening/fuzz.py --seconds 60 --engine atheris     guided by coverage (pip install atheris)

Prints how many files were tried, read and refused for each target, the most memory a target took, and every finding
with the file that shows it (kept under --keep). Exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE)]

SECONDS_EACH = 10
MEMORY_BYTES = 1 << 29
"""Of arrays and objects at once, for files of a few kilobytes (16.8 M rows may be declared by a small file: 128 MiB of
row offsets, and checking them takes as much again)."""
ADDRESS_BYTES = 24 << 30


def main() -> int:
    """Parse, fuzz each target in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each target")
    parser.add_argument("--target", action="append", help="only these (repeatable)")
    parser.add_argument("--engine", choices=["random", "atheris"], default="random")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="printed, to repeat")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for the files of findings")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child, given.seconds, given.seed, given.engine, given.keep)
    from _targets import TARGETS

    print(f"engine {given.engine}, seed {given.seed}, {given.seconds:g} s each")
    print(f"{'target':<16} {'tried':>9} {'read':>8} {'refused':>9} {'peak MiB':>9}  findings")
    worst = 0
    for name in given.target or TARGETS:
        worst = max(worst, parent(name, given))
    return worst


def parent(name: str, given: argparse.Namespace) -> int:
    """Run one target's process again and again until its time is over: a finding may end it."""
    found: set[str] = set()
    tried = read = refused = peak = 0
    end = time.monotonic() + given.seconds
    turn = 0
    while (left := end - time.monotonic()) > 0 and turn < 50:
        with tempfile.TemporaryDirectory() as scratch:
            words = ["--child", name, "--seconds", str(left), "--seed", str(given.seed + 1000 * turn)]
            words += ["--engine", given.engine, "--keep", str(given.keep)]
            done = subprocess.run(
                [sys.executable, __file__, *words],
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, "TMPDIR": scratch},
            )
            turn += 1
            said = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("report ")]
            if said:
                tried, read, refused = tried + said[-1]["tried"], read + said[-1]["read"], refused + said[-1]["refused"]
                peak = max(peak, said[-1]["peak"])
                found |= set(said[-1]["found"])
            elif match := re.search(r"stat::number_of_executed_units: (\d+)", done.stderr):
                tried += int(match[1])
            if done.returncode and not said:
                kept = keep(given.keep, name, Path(scratch))
                lines = done.stderr.strip().splitlines() or ["nothing"]
                found.add(f"ended with {done.returncode}: {lines[-1][:150]} [{kept}]")
    print(f"{name:<16} {tried:>9} {read:>8} {refused:>9} {peak / 2**20:>9.0f}  {len(found)}", flush=True)
    for text in sorted(found):
        print(f"    {text}")
    return int(bool(found))


def keep(folder: Path, name: str, scratch: Path) -> str:
    """The file that the process was at when it ended."""
    last = scratch / "last"
    if not last.exists():
        return "no file"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name.replace(' ', '-')}-{int(time.time() * 1000)}"
    shutil.copy(last, target)
    return str(target)


def child(name: str, seconds: float, seed: int, engine: str, folder: Path) -> int:
    """Fuzz one target here."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scratch = Path(tempfile.gettempdir())
    os.environ["SPARSITY_ROOFLINE_HOME"] = str(scratch / "home")
    if engine == "atheris":
        return guided(name, seconds, scratch)
    from _mutate import mutate
    from _targets import TARGETS

    target = TARGETS[name]
    seeds = target.seeds()
    rng = random.Random(f"{seed} {name}")
    counts = {"tried": 0, "read": 0, "refused": 0, "peak": 0}
    found: set[str] = set()
    for data in seeds:  # a good file must be read, or the target says nothing; some seeds are refused on purpose
        attempt(name, data, scratch, counts, found, folder)
    if not counts["read"]:
        found.add("no good file is read")
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(found) < 20:
        data = mutate(rng.choice(seeds), seeds, rng)
        attempt(name, data, scratch, counts, found, folder)
    print("report " + json.dumps({**counts, "found": sorted(found)}))
    return int(bool(found))


def attempt(name: str, data: bytes, scratch: Path, counts: dict[str, int], found: set[str], folder: Path) -> None:
    """One file under the bounds of time and memory."""
    from _targets import TARGETS, guarded

    (scratch / "last").write_bytes(data)
    work = scratch / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    tracemalloc.start(1)
    counts["tried"] += 1
    problem = ""
    try:
        with alarm(SECONDS_EACH):
            counts[guarded(TARGETS[name].read, work, data)] += 1
    except BaseException as error:
        where = [f for f in traceback.extract_tb(error.__traceback__) if "sparsity_roofline" in f.filename]
        place = f"{Path(where[-1].filename).name}:{where[-1].lineno}" if where else "?"
        problem = f"{type(error).__name__} at {place}: {str(error).splitlines()[0][:120] if str(error) else ''}"
        if isinstance(error, KeyboardInterrupt):
            raise
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    counts["peak"] = max(counts["peak"], peak)
    if peak > MEMORY_BYTES:
        problem = problem or f"took {peak / 2**20:.0f} MiB for a file of {len(data)} bytes"
    if problem and not any(text.startswith(problem.partition(":")[0]) for text in found):
        found.add(f"{problem} [{keep(folder, name, scratch)}]")


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise ``TimeoutError`` in what takes longer."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"no answer after {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def guided(name: str, seconds: float, scratch: Path) -> int:
    """Atheris: libFuzzer's mutations, kept where they reach new code of the readers."""
    import atheris
    import torch  # noqa: F401 - before instrumenting, and not instrumented

    with atheris.instrument_imports(include=["sparsity_roofline.bench", "sparsity_roofline.model"]):
        import sparsity_roofline.bench.folder
        import sparsity_roofline.bench.frames
        import sparsity_roofline.bench.matrices.files
        import sparsity_roofline.bench.matrices.opening
        import sparsity_roofline.bench.store
        import sparsity_roofline.bench.suites.load  # noqa: F401
    from _targets import TARGETS, guarded

    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, data in enumerate(TARGETS[name].seeds()):
        (corpus / str(number)).write_bytes(data)
    work = scratch / "work"

    def one(data: bytes) -> None:
        (scratch / "last").write_bytes(data)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        guarded(TARGETS[name].read, work, data)

    options = [f"-max_total_time={int(seconds)}", f"-timeout={SECONDS_EACH}", "-rss_limit_mb=3000", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", f"-artifact_prefix={scratch}/", str(corpus)], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
