"""One way to open every collection, from a short address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sparsity_roofline.bench.matrices.builtin import builtin
from sparsity_roofline.bench.matrices.checkpoint import Checkpoint
from sparsity_roofline.bench.matrices.collection import Collection
from sparsity_roofline.bench.matrices.derived import Base, Pruned
from sparsity_roofline.bench.matrices.dlmc import Dlmc, is_dlmc
from sparsity_roofline.bench.matrices.files import kind_of, suffix_of
from sparsity_roofline.bench.matrices.listed import FOLDER_SUFFIXES, folder, single
from sparsity_roofline.bench.matrices.manifest import open_manifest
from sparsity_roofline.bench.matrices.network import network_layers
from sparsity_roofline.bench.matrices.shapes import SCHEMES, shape_layers
from sparsity_roofline.bench.matrices.source import DirectorySource, is_tar
from sparsity_roofline.bench.matrices.tensors import SAFETENSORS, TORCH
from sparsity_roofline.model.errors import UserError

_OPTIONS = "#prune="


def open_collection(
    uri: str, *, prune: Sequence[str] = (), sparsities: Sequence[float] = (), seed: int = 0
) -> Collection:
    """Open a collection of matrices.

    Args:
        uri: ``builtin``, ``network:NAME``, ``shapes:MxK,MxK``, ``uniform:MxK``, ``dlmc:PATH`` (directory or tar
            archive), ``manifest:FILE.toml``, ``checkpoint:FILE``, or a path alone, recognised by its content. The
            ``uri`` of an open collection opens the same one again, with its pruning and seed.
        prune: patterns such as ``block16x16`` or ``2:4``: instead of the collection's matrices, its layers pruned by
            magnitude to these patterns (of its weights, or of seeded ones where it holds patterns without values).
        sparsities: targets of the pruning; by default those of the collection's own matrices.
        seed: of every invented value and weight.

    Raises:
        UserError: an address that opens nothing, or a bad pattern or sparsity.
    """
    uri, prune, sparsities, seed = _with_options(uri, prune, sparsities, seed)
    collection: Base
    if uri == "builtin":
        collection = builtin(prune, sparsities, seed)
    else:
        collection = _open(uri, seed)
        if prune:
            collection = Pruned(collection, prune, sparsities, seed)
        elif sparsities:
            raise UserError("sparsities are targets for pruning: name the patterns too, for example block16x16")
    base = collection.uri
    if prune or sparsities or seed:
        targets = ",".join(f"{sparsity:g}" for sparsity in sparsities)
        collection.uri = f"{base}{_OPTIONS}{','.join(prune)};sparsities={targets};seed={seed}"
    return collection


def _open(uri: str, seed: int) -> Base:
    openers: dict[str, Callable[[Path, int], Base]] = {
        "dlmc": Dlmc,
        "manifest": open_manifest,
        "checkpoint": Checkpoint,
    }
    scheme, colon, rest = uri.partition(":")
    if colon and scheme in SCHEMES:
        return shape_layers(rest, seed, scheme)
    if colon and scheme == "network":
        return network_layers(rest, seed)
    if colon and scheme in openers:
        return openers[scheme](_existing(rest, uri), seed)
    return _recognised(_existing(uri, uri), seed)


def _recognised(path: Path, seed: int) -> Base:
    """Open a path by what it holds."""
    if path.is_dir():
        if (path / "manifest.toml").is_file():
            return open_manifest(path / "manifest.toml", seed)
        if is_dlmc(DirectorySource(path).names()):
            return Dlmc(path, seed)
        suffixes = {suffix_of(file) for file in path.iterdir()}
        if suffixes & set(SAFETENSORS + TORCH) and not suffixes & set(FOLDER_SUFFIXES):
            return Checkpoint(path, seed)
        return folder(path, seed)
    if path.suffix == ".toml":
        return open_manifest(path, seed)
    if suffix_of(path) != ".mtx.gz" and is_tar(path):
        return Dlmc(path, seed)
    if kind_of(path) == "tensors":
        return Checkpoint(path, seed)
    return single(path, seed)


def _existing(text: str, uri: str) -> Path:
    path = Path(text).expanduser()
    if not text or not path.exists():
        raise UserError(
            f"{uri or 'empty address'}: no such file or directory: "
            "write builtin, network:NAME, shapes:MxK, uniform:MxK, dlmc:PATH, manifest:FILE.toml, checkpoint:FILE "
            "or a path"
        )
    return path


def _with_options(
    uri: str, prune: Sequence[str], sparsities: Sequence[float], seed: int
) -> tuple[str, Sequence[str], Sequence[float], int]:
    """Split off what an open collection's ``uri`` says of pruning and seed; arguments win."""
    address, mark, text = uri.rpartition(_OPTIONS)
    if not mark:
        return uri, prune, sparsities, seed
    patterns, _, rest = text.partition(";sparsities=")
    targets, _, number = rest.partition(";seed=")
    try:
        return (
            address,
            prune or [p for p in patterns.split(",") if p],
            sparsities or [float(s) for s in targets.split(",") if s],
            seed or int(number),
        )
    except ValueError:
        raise UserError(f"{uri}: not the address of a pruned collection") from None
