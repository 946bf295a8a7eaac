"""The shape of the house: which way imports point, the four linked folders without __init__.py, links between pages."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("model", "kernels", "bench", "validation")


def imports(path: Path) -> Iterator[str]:
    """Absolute module names that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    forbidden = FOLDERS[FOLDERS.index(folder) + 1 :]
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "sparsity_roofline" and len(parts) > 1:
                assert parts[1] not in (*forbidden, "cli", "commands", "api"), f"{path} imports {name}"


@pytest.mark.parametrize("folder", ["model", "validation"])
def test_no_tensors_where_none_belong(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert not {"torch", "triton", "cupy"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_are_linked_and_bare(folder: str) -> None:
    # A kernels/__init__.py at the root would shadow the Hugging Face package of that name.
    assert not (ROOT / folder / "__init__.py").exists()
    link = ROOT / "src" / "sparsity_roofline" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("../..") / folder
    spec = importlib.util.find_spec(folder)
    assert spec is None or spec.origin is None or "site-packages" in spec.origin


def test_committed_results_hold_no_paths() -> None:
    """Committed results carry no host, user or path (CONTRIBUTING.md: rules of evidence)."""
    for path in (ROOT / "results").rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        found = re.search(r'"(?:/|~/)[A-Za-z][^"]*"', text)
        assert found is None, f"{path} holds a path: {found}"


PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("kernels/*.md"), *ROOT.glob("results/**/README.md")]
)


def headings(page: Path) -> set[str]:
    """What a link to a part of the page can name: its headings, as GitHub makes anchors of them."""
    found = re.findall(r"^#+ (.+?)\s*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, part = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{link}: no such file"
        assert not part or part in headings(target), f"{link}: no such heading"


def test_every_page_is_linked() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    links = set(re.findall(r"\]\((?:docs/)?([^)#/]+)", texts))
    assert {page.name for page in ROOT.glob("docs/*.md")} <= links
