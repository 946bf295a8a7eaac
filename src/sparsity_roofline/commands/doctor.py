"""``doctor``: what this machine can and cannot do."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.markup import escape

from sparsity_roofline.commands._render import console, print_json
from sparsity_roofline.model.errors import UserError

INVALID_ENVIRONMENT = 4
_VERDICT = {"ok": "[green]ok[/]", "unknown": "[yellow]unknown[/]", "failed": "[red]failed[/]"}
_MARK = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "missing": "[red]missing[/]"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--selftest", is_flag=True, help="Show on the device that cold is cold; leave with 4 if it is not.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="With --selftest: which device [what there is].")
@click.option("--benchmark", is_flag=True, help="Run the program's own speed benchmarks and print their figures.")
@click.option("--collection", metavar="PATH", help="With --benchmark: a matrix archive or directory to read.")
def command(as_json: bool, selftest: bool, device: str | None, benchmark: bool, collection: str | None) -> int:
    """Say what this machine can and cannot do, one line each with the remedy, and what its numbers mean.

    \b
    Examples:
      sparsity-roofline doctor
      sparsity-roofline doctor --json
      sparsity-roofline doctor --selftest
      sparsity-roofline doctor --benchmark --collection dlmc.tar.gz
    """
    if selftest:
        return _selftest(device, as_json)
    if benchmark:
        from sparsity_roofline.bench.perf.suite import benchmark as run_benchmark

        figures = run_benchmark(collection)
        if as_json:
            print_json([asdict(figure) for figure in figures])
        else:
            for figure in figures:
                click.echo(f"{figure.name}: {figure.value:.4g} {figure.unit}  ({figure.note})")
        return 0
    from sparsity_roofline.bench.doctor import diagnose
    from sparsity_roofline.bench.environment import pick_device
    from sparsity_roofline.bench.meaning import meaning

    findings = diagnose()
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return 0
    out = console()
    for finding in findings:
        line = f"{_MARK[finding.status]} [bold]{finding.name}[/]: {escape(finding.detail)}"
        out.print(line + (f" -> {escape(finding.remedy)}" if finding.remedy else ""), soft_wrap=True)
    for heading, lines in meaning(pick_device(), findings):
        out.print(f"\n[bold]{heading}[/]")
        for line in lines:
            out.print(f"- {escape(line)}", soft_wrap=True)
    return 0


def _selftest(device: str | None, as_json: bool) -> int:
    from sparsity_roofline.bench.environment import pick_device
    from sparsity_roofline.bench.timing import selftest

    here = pick_device()
    if device == "cuda" and here != "cuda":
        raise UserError("no NVIDIA GPU here, or no CUDA build of PyTorch: `sparsity-roofline doctor` says which", 6)
    checks = selftest.selftest(device or here)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            console().print(f"{_VERDICT[check.verdict]} [bold]{check.name}[/]: {escape(check.detail)}", soft_wrap=True)
    return 0 if selftest.passed(checks) else INVALID_ENVIRONMENT
