"""``profile``: why is this kernel slow?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparsity_roofline.commands._render import console, print_json, print_table, seconds
from sparsity_roofline.model.errors import UserError

if TYPE_CHECKING:
    from sparsity_roofline.bench.profile.analyse import Profile


@click.command("profile")
@click.argument("shape", metavar="MxKxN")
@click.option("--kernel", required=True, metavar="NAME", help="A kernel by name, or one of your own: module:name.")
@click.option("--pattern", default="unstructured", show_default=True, help="Of the weight: block64, 2:4, dense, ...")
@click.option("--sparsity", type=click.FloatRange(0.0, 1.0, max_open=True), default=0.9, show_default=True)
@click.option("--dtype", default="fp16", show_default=True)
@click.option(
    "--collection", metavar="URI", help="Take a real weight: its collection, with --match; only N of MxKxN counts."
)
@click.option("--match", metavar="GLOB", help="Name of the matrix in --collection; the first that matches.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--hardware", metavar="NAME|FILE.toml", help="Ceilings, where the GPU is not in the table.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Keep the counters here (profile.ncu-rep)."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    shape: str,
    kernel: str,
    pattern: str,
    sparsity: float,
    dtype: str,
    collection: str | None,
    match: str | None,
    seed: int,
    hardware: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Count one launch with Nsight Compute and say which assumption of the prediction broke, largest first.

    Needs an NVIDIA GPU. Without Nsight Compute, or without the permission to count, it says what is missing and gives
    what timing and the trace tell (docs/profile.md).

    \b
    Examples:
      sparsity-roofline profile 4096x4096x2048 --kernel bsr.triton --pattern block64 --sparsity 0.75
      sparsity-roofline profile 4096x4096x16 --kernel my_kernels.py:MyKernel --dtype bf16 --out profiles/mine
      sparsity-roofline profile 1x1x256 --kernel csr.triton --collection dlmc.tar.gz --match '*ffn_conv1*'
    """
    from sparsity_roofline.bench.environment import pick_device
    from sparsity_roofline.bench.profile.analyse import profile

    target = _target(shape, kernel, pattern, sparsity, dtype, collection, match, seed)
    if pick_device() != "cuda":
        raise UserError(
            "profile needs an NVIDIA GPU and a CUDA build of PyTorch: sparsity-roofline doctor says more", 6
        )
    found = profile(target, out, ceilings=_known(hardware) if hardware else None)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)


def _target(
    shape: str,
    kernel: str,
    pattern: str,
    sparsity: float,
    dtype: str,
    collection: str | None,
    match: str | None,
    seed: int,
) -> Any:
    from sparsity_roofline.bench.profile.target import Target
    from sparsity_roofline.kernels.registry import load_kernels
    from sparsity_roofline.model.dtype import dtype as lookup
    from sparsity_roofline.model.expect import parse_shape

    M, K, N = parse_shape(shape)
    lookup(dtype)
    name = kernel
    extra: tuple[str, ...] = ()
    if ":" in kernel or kernel.endswith(".py"):
        known = set(load_kernels())
        extra = (kernel,)
        own = [found for found in load_kernels(extra) if found not in known]
        if len(own) != 1:
            raise UserError(f"--kernel {kernel}: holds {len(own)} kernels ({', '.join(own)}): write module:name")
        name = own[0]
    found = load_kernels(extra)
    if name not in found:
        raise UserError(f"no kernel {name!r}: see `sparsity-roofline kernels list`")
    if collection is not None:
        return Target(collection, _first(collection, match, seed), N, dtype, name, seed=seed, extra_kernels=extra)
    if match is not None:
        raise UserError("--match names a matrix of a collection: give --collection too")
    uri = f"shapes:{M}x{K}"
    if found[name].format == "dense" or pattern == "dense":
        return Target(uri, f"{M}x{K}", N, dtype, name, seed=seed, extra_kernels=extra)
    levels = () if ":" in pattern else (sparsity,)
    return Target(
        uri, _only(uri, pattern, levels, seed), N, dtype, name, (pattern,), levels, seed=seed, extra_kernels=extra
    )


def _only(uri: str, pattern: str, levels: tuple[float, ...], seed: int) -> str:
    """Name of the one matrix that pruning a single shape gives."""
    from sparsity_roofline.bench.matrices import open_collection

    infos = open_collection(uri, prune=(pattern,), sparsities=levels, seed=seed).infos()
    if not infos:
        raise UserError(f"{pattern} at this sparsity leaves nothing of {uri.removeprefix('shapes:')}: lower --sparsity")
    return infos[0].name


def _first(uri: str, match: str | None, seed: int) -> str:
    from fnmatch import fnmatchcase

    from sparsity_roofline.bench.matrices import open_collection

    for info in open_collection(uri, seed=seed).infos():
        if info.present and fnmatchcase(info.name, match or "*"):
            return info.name
    raise UserError(f"no matrix of {uri} has a name that matches {match!r}")


def _known(name: str) -> Any:
    from sparsity_roofline.model.assumed import find

    return find(name)


def _print(found: Profile) -> None:
    case, limits = found.case, found.limits
    out = console()

    def say(line: str) -> None:
        out.print(line, markup=False, soft_wrap=True)

    say(f"{found.target.kernel} on {case.M} x {case.K} x {case.N}, {case.pattern}, {case.dtype}, {found.device}")
    bound = "operations" if limits.compute_s > limits.memory_s else "bytes"
    say(
        f"{seconds(found.time_ns * 1e-9)} a call, {found.fraction:.0%} of the speed of light "
        f"({seconds(limits.sol_s)}, bound by {bound} on {limits.unit} units)"
    )
    if found.why:
        say(f"no counters: {found.why}")
    rows = list(_facts(found))
    print_table("", ("counted", "here", "the model's"), rows, (1, 2))
    if found.findings:
        print_table(
            "Which assumption broke (gains overlap, they do not multiply)",
            ("what", "seen", "without it", "speedup"),
            ((f.term, f.words, seconds(f.mended_s), f"{f.speedup:.2f}x") for f in found.findings),
            (2, 3),
        )
    elif found.counted:
        say("no assumption of the prediction broke by more than 3 %")
    for launch in found.launches:
        shown = {k: v for k, v in launch.items() if k not in ("name",)}
        say(f"{launch['name']}: " + ", ".join(f"{k} {v}" for k, v in shown.items()))
    if found.report:
        say(f"counters kept in {found.report}: open it with ncu-ui")


def _facts(found: Profile) -> Any:
    """Rows of what was counted beside what the model charges."""
    facts, limits = found.facts, found.limits
    t = found.time_ns * 1e-9
    if facts.dram is not None:
        yield "bytes through DRAM", f"{facts.dram / 1e6:.2f} MB", f"{limits.bytes / 1e6:.2f} MB"
        yield "DRAM bandwidth", f"{facts.dram / t / 1e12:.2f} TB/s", f"{limits.bandwidth / 1e12:.2f} TB/s"
    if facts.l2_to_sm is not None:
        most = "" if limits.l2_bandwidth is None else f"{limits.l2_bandwidth / 1e12:.1f} TB/s at most"
        yield "bytes from L2", f"{facts.l2_to_sm / 1e6:.2f} MB", ""
        yield "L2 bandwidth", f"{facts.l2_to_sm / t / 1e12:.2f} TB/s", most
    if facts.l2_hit is not None:
        yield "L2 hit rate", f"{facts.l2_hit:.0%}", ""
    if facts.operations:
        yield "tensor operations", f"{facts.operations / 1e9:.2f} G", f"{limits.flops / 1e9:.2f} G"
    yield "rate", f"{limits.flops / t / 1e12:.1f} TFLOP/s", f"{limits.peak / 1e12:.1f} TFLOP/s"
    for name, value in (
        ("tensor pipe", facts.tensor_use),
        ("FMA pipe", facts.fma_use),
        ("issue slots", facts.issue_use),
    ):
        if value is not None:
            yield f"{name} busy", f"{value:.0%}", ""
    if facts.occupancy is not None:
        limit = f"{facts.occupancy_limit:.0%} by {facts.limiter}" if facts.occupancy_limit is not None else ""
        yield "occupancy", f"{facts.occupancy:.0%}", limit
    if facts.waves is not None:
        yield "waves", f"{facts.waves:.2f}", ""
    if facts.balance is not None:
        yield "balance over multiprocessors", f"{facts.balance:.0%}", "100%"
    for name, count in (
        ("registers a thread", facts.registers), ("shared memory a block", facts.shared_bytes),
        ("threads a block", facts.threads), ("blocks", facts.blocks),
    ):  # fmt: skip
        if count is not None:
            yield name, f"{count}", ""
    if facts.spilled:
        yield "local memory traffic (spills)", f"{facts.spilled / 1e6:.2f} MB", "0"
