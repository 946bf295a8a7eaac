"""``doctor``: what this machine can and cannot do."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.markup import escape

from sparsity_roofline.commands._render import console, print_json

_MARK = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "missing": "[red]missing[/]"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--benchmark", is_flag=True, help="Run the program's own speed benchmarks and print their figures.")
@click.option("--collection", metavar="PATH", help="With --benchmark: a matrix archive or directory to read.")
def command(as_json: bool, benchmark: bool, collection: str | None) -> None:
    """Say what this machine can and cannot do: one line each, with the remedy.

    \b
    Examples:
      sparsity-roofline doctor
      sparsity-roofline doctor --json
      sparsity-roofline doctor --benchmark --collection dlmc.tar.gz
    """
    if benchmark:
        from sparsity_roofline.bench.perf.suite import benchmark as run_benchmark

        figures = run_benchmark(collection)
        if as_json:
            print_json([asdict(figure) for figure in figures])
        else:
            for figure in figures:
                click.echo(f"{figure.name}: {figure.value:.4g} {figure.unit}  ({figure.note})")
        return
    from sparsity_roofline.bench.doctor import diagnose

    findings = diagnose()
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    out = console()
    for finding in findings:
        line = f"{_MARK[finding.status]} [bold]{finding.name}[/]: {escape(finding.detail)}"
        out.print(line + (f" -> {escape(finding.remedy)}" if finding.remedy else ""), soft_wrap=True)
