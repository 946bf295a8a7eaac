"""The table of devices, ``hardware.csv``: every figure with unit, source and date; and finding a device in it."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sparsity_roofline.model.ceilings import SPARSE, Ceilings, CeilingsKind
from sparsity_roofline.model.errors import UserError

__all__ = ["Ceilings", "CeilingsKind", "Row", "datasheet", "match", "names", "rows"]

GIB = 1024**3


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        gpu, quantity, unit: what it is; base units (FLOP/s, OP/s, B/s, B, Hz, count).
        value: the figure.
        with_sparsity: ``yes`` if the zeros of a 2:4 weight count as work, ``no``, or ``na`` for what is no peak.
        source, source_status: where it was read; published, derived, measured or not verified.
        adopted: ISO date the row entered the table.
    """

    gpu: str
    quantity: str
    unit: str
    value: float
    with_sparsity: str
    source: str
    source_status: str
    adopted: str


# A bare chip name means the module form with the most memory of those in the table.
_SHORT = {"v100": "V100-SXM2", "a100": "A100-SXM4-80GB", "h100": "H100-SXM5-80GB"}

# What drivers report, and memory in GiB where the name alone does not settle the part. Anchored: a name with anything
# more ("Ti", "Laptop GPU", "MIG 1g.10gb", "NVL") is another part with other ceilings.
_REPORTED: tuple[tuple[str, str, float | None], ...] = (
    (r"(tesla )?v100-sxm[23](-(16|32)gb)?(-ls)?", "V100-SXM2", None),
    (r"(tesla )?v100-pcie(-(16|32)gb)?", "V100-PCIe", None),
    (r"(tesla )?t4", "T4", None),
    (r"a100-sxm4?-40gb", "A100-SXM4-40GB", 40),
    (r"a100-sxm4?-80gb", "A100-SXM4-80GB", 80),
    (r"a100-pcie-40gb", "A100-PCIe-40GB", 40),
    (r"a100(-pcie-80gb| 80gb pcie)", "A100-PCIe-80GB", 80),
    (r"h100( 80gb hbm3|-sxm5?(-80gb)?)", "H100-SXM5-80GB", 80),
    (r"h100 pcie", "H100-PCIe-80GB", 80),
    (r"h200", "H200-SXM-141GB", 141),
    (r"b200", "B200-HGX", None),
    (r"l4", "L4", None),
    (r"l40s", "L40S", None),
    (r"geforce rtx 3090", "RTX-3090", None),
    (r"geforce rtx 4090", "RTX-4090", None),
    (r"geforce rtx 5080", "RTX-5080", None),
    (r"geforce rtx 5090", "RTX-5090", None),
    (r"instinct mi250x?( / mi250)?", "MI250X-GCD", None),
    (r"instinct mi300x( oam)?", "MI300X", None),
)


@cache
def rows() -> tuple[Row, ...]:
    """Every row of the table, in its order."""
    text = files("sparsity_roofline.model").joinpath("hardware.csv").read_text(encoding="utf-8")
    return tuple(Row(value=float(line.pop("value")), **line) for line in csv.DictReader(text.splitlines()))


@cache
def _table() -> dict[str, dict[str, float]]:
    """Quantity -> value by device; peaks that count zeros have the suffix ``@2:4``."""
    table: dict[str, dict[str, float]] = {}
    for row in rows():
        suffix = SPARSE if row.with_sparsity == "yes" else ""
        table.setdefault(row.gpu, {})[row.quantity + suffix] = row.value
    return table


def names() -> list[str]:
    """Devices of the table, in its order."""
    return list(_table())


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+\d*[a-z]*|\d+[a-z]*", name.lower())


def resolve(name: str) -> str:
    """The table's name for what a user typed: any case, any separators, parts left out where that is unambiguous.

    ``h100``, ``a100`` and ``v100`` alone mean the SXM module (with 80 GB where there are two).

    Raises:
        UserError: no device or more than one fits; the message lists the candidates.
    """
    words = _words(name)
    joined = "".join(words)
    exact = [gpu for gpu in _table() if "".join(_words(gpu)) == joined]
    if exact:
        return exact[0]
    if joined in _SHORT:
        return _SHORT[joined]
    found = [gpu for gpu in _table() if words and _fits(words, _words(gpu))]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"device {name!r} is ambiguous: choose one of {', '.join(found)}")
    raise UserError(f"unknown device {name!r}: choose one of {', '.join(_table())}")


def _fits(asked: list[str], have: list[str]) -> bool:
    """Every word asked for begins a word of the name, in order; the first word in full ('l4' is not 'l40s')."""
    rest = list(have)
    for position, word in enumerate(asked):
        while rest and not (rest[0] == word if position == 0 else rest[0].startswith(word)):
            rest.pop(0)
        if not rest:
            return False
        rest.pop(0)
    return True


def datasheet(name: str) -> Ceilings:
    """The printed ceilings of a device of the table.

    Args:
        name: as in ``names()``, or an alias (see ``resolve``).

    Raises:
        UserError: an unknown or ambiguous name.
    """
    gpu = resolve(name)
    figures = _table()[gpu]
    return Ceilings(
        device=gpu,
        kind="datasheet",
        peaks={q: v for q, v in figures.items() if q.removesuffix(SPARSE).endswith(("_flops", "_ops"))},
        dram_bandwidth=figures["dram_bandwidth"],
        l2_bytes=figures["l2_bytes"],
        sm_count=int(figures["sm_count"]),
        boost_clock_hz=figures["boost_clock"],
    )


def match(cuda_device_name: str, total_memory: int | None = None) -> str | None:
    """The table's name for a device as its driver reports it, or None if the table does not hold that very part.

    Args:
        cuda_device_name: for example ``NVIDIA H100 80GB HBM3``.
        total_memory: bytes, where known: a part whose memory is more than 15 % off the table's is another part.
    """
    text = re.sub(r"\s+", " ", cuda_device_name.strip().lower())
    text = re.sub(r"^(nvidia|amd) ", "", text)
    for pattern, gpu, gib in _REPORTED:
        if re.fullmatch(pattern, text):
            # Vendors' GB lie between 1e9 and 2**30 bytes, less what firmware keeps.
            if gib and total_memory and not 0.85 * gib * 1e9 <= total_memory <= 1.05 * gib * GIB:
                return None
            return gpu
    return None
