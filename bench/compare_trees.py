"""Git revisions as folders: each side of a comparison gets a worktree of its own, which is taken away at the end."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsity_roofline.model.errors import UserError

HERE = "."
"""Stands for the working tree as it is, changes included."""


def git(root: Path, *arguments: str) -> str:
    """Output of a git command.

    Raises:
        UserError: no git (exit code 6), or what git said.
    """
    try:
        done = subprocess.run(
            ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError("git is not on the PATH: install it, or compare run folders", 6) from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"git {arguments[0]}: {lines[0] if lines else f'exit code {done.returncode}'}")
    return done.stdout.strip()


def top(where: Path) -> Path:
    """The root of the checkout that holds ``where``.

    Raises:
        UserError: not a checkout.
    """
    return Path(git(where.resolve(), "rev-parse", "--show-toplevel"))


def resolve(root: Path, revision: str) -> str:
    """The commit a revision stands for.

    Raises:
        UserError: there is none.
    """
    if revision.startswith("-"):
        raise UserError(f"{revision!r} is no revision")
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except UserError as error:
        if error.exit_code == 6:
            raise
        raise UserError(f"git knows no revision {revision!r} in {root.name}: give a commit, branch or tag") from None


@contextmanager
def worktrees(root: Path, revisions: list[str]) -> Iterator[list[Path]]:
    """A folder for each revision, ``.`` being the working tree itself.

    Raises:
        UserError: an unknown revision, or git cannot make a worktree.
    """
    commits = [revision if revision == HERE else resolve(root, revision) for revision in revisions]
    made: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="sparsity-roofline-") as folder:
        try:
            out = []
            for number, commit in enumerate(commits):
                if commit == HERE:
                    out.append(root)
                    continue
                tree = Path(folder) / f"{number}-{commit[:12]}"
                git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
                made.append(tree)
                out.append(tree)
            yield out
        finally:
            for tree in made:
                git(root, "worktree", "remove", "--force", str(tree))
