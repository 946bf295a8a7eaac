"""A tour of the Python API, cell by cell: predict, prune, measure on this machine, validate."""

# %% Predict: no GPU needed, any GPU of the table
from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import sparsity_roofline as sr

table = sr.predict(
    "4096x4096x2048", pattern=["block64", "2:4", "unstructured"], sparsity=[0.5, 0.9], dtype="fp16", device="h100"
)
sys.stdout.write(table[["pattern", "density", "sol_dense_us", "sol_us", "bound", "speedup"]].to_string() + "\n")

# %% Prune a weight of your own, keep it, predict it with its real counts
weight = np.random.default_rng(0).standard_normal((256, 512), dtype=np.float32)
pruned = sr.prune(weight, "block16x16", 0.9, name="my-layer")
folder = Path(tempfile.mkdtemp())
sr.write_matrix(pruned, folder / "my-layer.npz")
mine = sr.predict(sr.read_matrix(folder / "my-layer.npz"), N=[16, 256], dtype="fp16", device="a100")
sys.stdout.write(mine[["matrix", "N", "nnz", "sol_us", "speedup"]].to_string() + "\n")

# %% Measure on this machine: a few seconds' worth of the main suite
summary = sr.measure("main", out=folder / "run", device="cpu", select=["csr.scipy", "dense.torch"], budget_s=25)
records = sr.read_records(summary.folder)
sys.stdout.write(records[["matrix", "N", "kernel", "status", "time_ns"]].head().to_string() + "\n")

# %% Validate: did the prediction hold?
validation = sr.validate(summary.folder, folder / "report")
columns = ["kernel", "sparsity", "predicted_speedup", "measured_speedup", "f_dense", "f_sparse", "parity"]
sys.stdout.write(validation.pairs[columns].to_string() + "\n")
sys.stdout.write("\n".join(str(path.relative_to(folder)) for path in validation.written) + "\n")
