"""Does the wheel hold every file of the four folders and the package? hatchling can drop linked folders silently."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

FOLDERS = ("kernels", "bench", "model", "validation")


def main(wheel: str) -> int:
    """Compare; print what differs; 0 if nothing does."""
    tracked = subprocess.run(["git", "ls-files", *FOLDERS, "src"], check=True, capture_output=True, text=True).stdout
    links = {f"src/sparsity_roofline/{name}" for name in FOLDERS}
    expected = {
        line.removeprefix("src/") if line.startswith("src/") else f"sparsity_roofline/{line}"
        for line in tracked.splitlines()
        if line not in links and Path(line).exists()
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    for name in sorted(expected - found):
        sys.stderr.write(f"missing from the wheel: {name}\n")
    for name in sorted(found - expected):
        sys.stderr.write(f"in the wheel but not tracked: {name}\n")
    sys.stdout.write(f"{Path(wheel).name}: {len(found)} files, {len(expected)} tracked\n")
    return int(found != expected)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
