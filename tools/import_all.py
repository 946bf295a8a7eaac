"""Import every module of the installed package; a stray import of a GPU library at module level fails here."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

import sparsity_roofline


def main() -> int:
    """Walk the package folder (its four parts are namespace folders, which pkgutil alone does not enter)."""
    root = Path(sparsity_roofline.__file__).parent
    if "site-packages" not in root.parts:
        sys.stderr.write(f"sparsity_roofline was imported from {root}, not from an installed wheel\n")
        return 1
    names = []
    for path in sorted(root.rglob("*.py")):
        parts = ["sparsity_roofline", *path.relative_to(root).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        if parts[-1] == "__main__":
            continue
        # Device code needs Triton, which a CPU-only installation does not have.
        device_code = parts[-1].startswith("_") and not {"kernels", "bench"}.isdisjoint(parts)
        if device_code and importlib.util.find_spec("triton") is None:
            continue
        # What only pytest loads needs pytest, an extra.
        tested = parts[-1] in ("pytest_plugin", "gpu_benchmark") or "regression" in parts
        if tested and importlib.util.find_spec("pytest") is None:
            continue
        importlib.import_module(".".join(parts))
        names.append(".".join(parts))
    sys.stdout.write(f"imported {len(names)} modules\n")
    assert pkgutil.resolve_name("sparsity_roofline:__version__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
