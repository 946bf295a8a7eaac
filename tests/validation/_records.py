"""Synthetic records with figures that can be worked out by hand. The arithmetic is this file's own, not the model's."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sparsity_roofline.model.record import Record

PEAK = {"tensor": 100e12, "cuda": 10e12, "cpu": 1e12}
BANDWIDTH = 1e12
L2 = 50e6
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
PAPER_UNIT = {"fp32": "cuda", "fp16": "tensor", "bf16": "tensor"}
UNIT = {"dense": "tensor", "csr": "cuda", "bsr": "tensor", "nm": "tensor"}


def record(
    format: str = "csr",
    *,
    M: int = 512,
    K: int = 4608,
    N: int = 2048,
    dtype: str = "fp16",
    density: float = 0.1,
    time_us: float | None = 100.0,
    width: float = 0.01,
    kernel: str | None = None,
    unit: str | None = None,
    status: str = "ok",
    used_columns: int | None = None,
    block: int = 16,
    device: str = "H100-SXM5-80GB",
    datasheet: bool = True,
    matrix: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One record as a dictionary: a csr, bsr, nm (2:4) or dense case timed at ``time_us`` +- ``width``."""
    cpu = unit == "cpu"
    unit = unit or (UNIT[format] if dtype != "fp32" else "cuda")
    b = BYTES[dtype]
    density = {"dense": 1.0, "nm": 0.5}.get(format, density)
    nnz = round(M * K * density)
    used = K if used_columns is None or format == "dense" else used_columns
    weight = {
        "dense": b * M * K,
        "csr": (b + 4) * nnz + 4 * (M + 1),
        "bsr": b * nnz + 4 * (nnz // block**2) + 4 * (M // block + 1),
        "nm": b * M * K / 2 + M * K / 8,
    }[format]
    flops = 2.0 * nnz * N
    full = weight + b * K * N + b * M * N
    least = weight + b * used * N + max(0.0, b * M * N - L2)
    sol = {}
    for kind, scale in (("datasheet", 1.0), ("measured", 0.8)):
        for preset, peak_unit, moved in (
            ("paper", "cpu" if cpu else PAPER_UNIT[dtype], full),
            ("unit", unit, full),
            ("bound", unit, least),
        ):
            compute, memory = flops / (PEAK[peak_unit] * scale) * 1e9, moved / (BANDWIDTH * scale) * 1e9
            sol[f"sol_{preset}_{kind}_ns"] = max(compute, memory)
            sol[f"bound_{preset}_{kind}"] = "compute" if compute >= memory else "memory"
            sol[f"flops_{preset}"], sol[f"bytes_{preset}"] = flops, float(moved)
    if not datasheet or cpu:
        sol.update({k: None for k in sol if k.endswith(("_datasheet_ns", "_datasheet"))})
    pattern = {"dense": "dense", "csr": "unstructured", "bsr": f"block{block}x{block}", "nm": "2:4"}[format]
    name = matrix or (f"{M}x{K}-{density:g}" if format != "dense" else f"{M}x{K}")
    timing: dict[str, Any] = {}
    if status == "ok" and time_us is not None:
        ns = time_us * 1e3
        timing = {
            "time_ns": ns, "time_ci_low_ns": ns * (1 - width), "time_ci_high_ns": ns * (1 + width),
            "time_min_ns": ns * 0.97, "time_p10_ns": ns * 0.98, "time_p90_ns": ns * 1.03, "span_ns": ns,
            "samples": 30, "kernels_per_call": 1, "stop_reason": "precise", "error_rms": 1e-4,
        }  # fmt: skip
    base: dict[str, Any] = {
        "status": status, "reason": "" if status == "ok" else "made to fail", "run_id": "run-1",
        "case": f"test|{name}|{M}x{K}x{N}|{pattern}|{format}|{dtype}", "collection": "test", "matrix": name,
        "network": "resnet50", "layer": f"layer{M}x{K}", "method": "magnitude", "M": M, "K": K, "N": N,
        "pattern": pattern, "format": format, "dtype": dtype, "nnz": nnz, "density": density, "used_columns": used,
        "target_sparsity": 1 - density, "block_rows": block if format == "bsr" else 0,
        "block_cols": block if format == "bsr" else 0, "kernel_unit": unit, "kernel_version": "1",
        "kernel": kernel or {"dense": "dense.torch" if cpu else "dense.cublas"}.get(format, f"{format}.triton"),
        "timer": "monotonic" if cpu else "cupti-kineto", "regime_l2": "cold-clean", "regime_clocks": "as-found",
        "device": "this cpu" if cpu else device, "environment": "env-1", "ceilings_measured": "calibration-1",
        "ceilings_datasheet": None if cpu or not datasheet else device, "threads": 2 if cpu else None,
    }  # fmt: skip
    return Record.from_dict({**base, **timing, **sol, **more}).to_dict()


def frame(*records: dict[str, Any]) -> pd.DataFrame:
    """The records as the table a run folder holds."""
    return pd.DataFrame(list(records)).drop(columns=["raw_samples_ns"])


def sweep(seed: int = 0) -> pd.DataFrame:
    """Three shapes, two N, four kernels, five sparsities with plausible fractions, some refused: enough to plot."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = []
    for M, K in ((512, 4608), (2048, 512), (4096, 4096)):
        for N in (2048, 16384):
            probe = record("dense", M=M, K=K, N=N, time_us=1.0)
            rows.append(record("dense", M=M, K=K, N=N, time_us=probe["sol_paper_datasheet_ns"] / 1e3 / 0.72))
            for density in (0.5, 0.25, 0.125, 0.0625, 0.03):
                for format, kernel, share, block in (
                    ("csr", "csr.cusparse", 0.2, 16), ("csr", "csr.triton", 0.45, 16),
                    ("bsr", "bsr.triton", 0.55, 32), ("bsr", "bsr.torch", 0.4, 64),
                ):  # fmt: skip
                    given = {"M": M, "K": K, "N": N, "density": density, "kernel": kernel, "block": block}
                    sol = record(format, time_us=1.0, **given)["sol_unit_datasheet_ns"] / 1e3
                    rows.append(record(format, time_us=sol / (share * rng.lognormal(0, 0.25)), **given))
            nm = record("nm", M=M, K=K, N=N, time_us=1.0)["sol_paper_datasheet_ns"] / 1e3
            rows.append(record("nm", M=M, K=K, N=N, kernel="nm.cusparselt", time_us=nm / 0.66))
            rows.append(record("nm", M=M, K=K, N=N, kernel="nm.triton", status="unsupported"))
    return frame(*rows)
