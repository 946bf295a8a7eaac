"""Figures: valid files, the same bytes each time, and the roofs the records imply."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from sparsity_roofline.validation import plots, style
from sparsity_roofline.validation.frame import add_ceilings, normalise
from sparsity_roofline.validation.join import join
from sparsity_roofline.validation.roofs import roofs

from ._records import BANDWIDTH, PEAK, frame, record, sweep

RECORDS = sweep()
PAIRS = join(RECORDS)
ROWS = add_ceilings(normalise(RECORDS), None)

FIGURES: dict[str, Callable[[bool], Figure]] = {
    "parity": lambda empty: plots.parity_plot(PAIRS.iloc[:0] if empty else PAIRS),
    "bounds": lambda empty: plots.parity_plot(PAIRS.iloc[:0] if empty else PAIRS, colour_by="bounds"),
    "roofline": lambda empty: plots.roofline_plot(ROWS.iloc[:0] if empty else ROWS),
    "fraction": lambda empty: plots.fraction_plot(PAIRS.iloc[:0] if empty else PAIRS),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("empty", [False, True])
def test_files_are_valid(name: str, empty: bool, tmp_path: Path) -> None:
    made = FIGURES[name](empty)
    png = style.save(made, tmp_path / "a.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    svg = style.save(made, tmp_path / "a.svg")
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert len(png) > (1000 if empty else 20000)


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_figure_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    first, second = (style.save(FIGURES[name](False), tmp_path / f"{i}.svg").read_bytes() for i in range(2))
    assert first == second
    assert b"<dc:date>" not in first
    assert b"Matplotlib v" not in first


def test_the_users_own_style_is_left_alone(tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 3.0, "svg.hashsalt": "mine"}):
        odd = style.save(plots.fraction_plot(PAIRS), tmp_path / "odd.svg").read_bytes()
        assert mpl.rcParams["font.size"] == 3.0
    assert odd == style.save(plots.fraction_plot(PAIRS), tmp_path / "own.svg").read_bytes()


def test_every_kernel_is_in_the_legend_and_every_pair_is_drawn() -> None:
    made = plots.parity_plot(PAIRS)
    named = {text.get_text() for text in made.legends[0].get_texts()}
    assert set(PAIRS["kernel"]) <= named
    drawn = sum(len(c.get_offsets()) for c in made.axes[1].collections if hasattr(c, "get_sizes"))  # type: ignore[attr-defined]
    assert drawn == len(PAIRS)


def test_hollow_and_ringed_points_are_explained_only_where_they_occur() -> None:
    def words(pairs: object) -> set[str]:
        return {text.get_text() for text in plots.parity_plot(pairs).legends[0].get_texts()}  # type: ignore[arg-type]

    flagged = PAIRS.assign(violation=True, below_floor=True)
    assert {"below launch floor", "beats the bound"} <= words(flagged)
    assert not {"below launch floor", "beats the bound"} & words(PAIRS)


def test_more_kernels_than_colours_still_draw() -> None:
    rows = [record("dense"), *(record("csr", kernel=f"csr.k{i:02}", time_us=9000.0 + i) for i in range(17))]
    made = plots.parity_plot(join(frame(*rows)))
    assert len(made.legends[0].get_texts()) == 18


def test_a_crowd_is_split_by_format_and_dtype(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Beyond ``MANY`` pairs: a panel each, marks as an image in the SVG, and what lies below the floor left out."""
    monkeypatch.setattr(plots, "MANY", 3)
    crowd = PAIRS.assign(below_floor=[i % 4 == 0 for i in range(len(PAIRS))])
    fig = plots.parity_plot(crowd)
    kept = crowd[~crowd["below_floor"]]
    titles = {ax.get_title() for ax in fig.axes}
    for (form, dtype), part in kept.groupby(["format", "dtype"]):
        assert f"{form}, {dtype}: {len(part)} pairs" in titles
    assert f"{crowd['below_floor'].sum()} pairs below the launch floor not drawn" in fig.get_suptitle()
    first, second = (style.save(plots.parity_plot(crowd), tmp_path / f"{i}.svg").read_bytes() for i in range(2))
    assert first == second
    assert b"<image" in first


def test_one_pair_draws() -> None:
    pairs = join(frame(record("dense"), record("csr")))
    for made in (plots.parity_plot(pairs), plots.fraction_plot(pairs)):
        made.canvas.draw()


def test_only_dense_records_still_make_a_roofline() -> None:
    made = plots.roofline_plot(add_ceilings(normalise(frame(record("dense"))), None))
    assert "dense.cublas" in {text.get_text() for text in made.legends[0].get_texts()}


def test_roofs_come_back_from_the_records() -> None:
    found = {(roof.kind, roof.dtype): roof for roof in roofs(ROWS)}
    assert set(found) == {("datasheet", "fp16"), ("measured", "fp16")}
    for kind, scale in (("datasheet", 1.0), ("measured", 0.8)):
        roof = found[kind, "fp16"]
        assert roof.bandwidth == pytest.approx(BANDWIDTH * scale)
        assert roof.peaks == pytest.approx({u: PEAK[u] * scale for u in ("tensor", "cuda")})


def test_attainable_is_the_lower_of_slope_and_peak() -> None:
    import numpy as np

    roof = next(r for r in roofs(ROWS) if r.kind == "datasheet")
    np.testing.assert_allclose(roof.attainable(np.array([1.0, 10.0, 100.0, 1000.0]), "cuda"), [1e12, 1e13, 1e13, 1e13])


def test_importing_the_report_does_not_load_matplotlib_or_torch() -> None:
    code = (
        "import sys, sparsity_roofline.validation.report, sparsity_roofline.validation.plots as p;"
        "assert p; bad = {'matplotlib', 'torch', 'scipy.stats'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
