"""A manifest: a TOML file that says what the files of any directory are.

It gives each file its network, layer, pattern, sparsity and N, row by row or by a rule over file names, so that a
release in a layout nobody foresaw is read without new code. Keys; all but a path, glob or regex may be left out::

    name = "paper"                     # label of the collection, by default the manifest's file name
    root = "matrices"                  # directory or tar archive, relative to the manifest; by default beside it
    csv = "rows.csv"                   # more rows, one per line; the columns are the keys of [[matrix]]

    [defaults]                         # for every row and rule that does not say otherwise
    network = "resnet50"
    method = "global magnitude"

    [columns_per_image]                # layer -> N of one image
    "layer1.0.conv1" = 3136

    [[matrix]]                         # one row
    path = "conv1.npz"                 # relative to root
    name = "resnet50/conv1"            # by default the path without suffix
    network = "resnet50"
    layer = "conv1"
    method = "magnitude"
    pattern = "block16x16"             # checked when the file is read; by default unstructured
    sparsity = 0.9                     # the target (also: target_sparsity)
    columns_per_image = 12544
    rows = 64                          # rows, cols, nnz and sha256 are checked when the file is read
    cols = 147
    nnz = 941
    sha256 = "..."
    tensor = "conv1.weight"            # of a checkpoint that holds several
    layout = "KxM"                     # the file holds the transpose; by default "MxK"
    synthetic = false
    format = ""                        # format and dtype are accepted and not needed: the file tells
    dtype = ""

    [[rule]]                           # every file that matches is a row; the first rule that matches it wins
    glob = "**/*.smtx"                 # relative to root; by default every file
    regex = '(?P<network>\\w+)/(?P<pattern>\\w+)/sparsity(?P<sparsity>\\d+)/(?P<layer>.+)\\.smtx'
    pattern = "unstructured"           # any key of [[matrix]] but path, name and tensor: what the regex does not say
    [rule.map.sparsity]                # what a matched text stands for
    "87" = 0.875
    [rule.map.pattern]
    "unstr" = "unstructured"

A regex must match the whole relative path; its named groups are keys of ``[[matrix]]``.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsity_roofline.bench.matrices.files import without_suffix
from sparsity_roofline.bench.matrices.listed import Entry, Listed
from sparsity_roofline.bench.matrices.source import is_tar, unpacked
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.pattern import Pattern

_TEXT = {"network", "layer", "method", "pattern", "sha256", "tensor", "layout", "format", "dtype"}
_WHOLE = {"rows", "cols", "nnz", "columns_per_image"}
_SHARED = _TEXT | _WHOLE | {"sparsity", "target_sparsity", "synthetic"}
_ROW = _SHARED | {"path", "name"}
_RULE = (_SHARED - {"tensor"}) | {"glob", "regex", "map"}
_TOP = {"name", "root", "csv", "defaults", "columns_per_image", "matrix", "rule"}


def open_manifest(path: Path, seed: int = 0) -> Listed:
    """The collection a manifest describes. Files that a row names but the disk lacks are listed as absent.

    Raises:
        UserError: not TOML, an unknown key, a value of the wrong kind, a rule that matches nothing: with the place.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a readable manifest: {error}") from None
    _known(path, "the top level", data, _TOP)
    root = path.parent / str(data.get("root", "."))
    if is_tar(root):
        root = unpacked(root)
    if not root.is_dir():
        raise UserError(f"{path}: root {root} is neither a directory nor a tar archive")
    defaults = _table(path, data, "defaults")
    _known(path, "[defaults]", defaults, _SHARED)
    columns = _table(path, data, "columns_per_image")
    for layer, pixels in columns.items():
        if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 0:
            raise UserError(f"{path}: [columns_per_image]: {layer} = {pixels!r}: expected a whole number of 0 or more")
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, row in enumerate(_tables(path, data, "matrix"), 1):
        _known(path, f"[[matrix]] {number}", row, _ROW)
        rows.append((f"[[matrix]] {number}", row))
    if "csv" in data:
        rows.extend(_csv_rows(path, path.parent / str(data["csv"])))
    for number, rule in enumerate(_tables(path, data, "rule"), 1):
        _known(path, f"[[rule]] {number}", rule, _RULE)
        taken = {str(row.get("path")) for _, row in rows}
        rows.extend(_rule_rows(path, f"[[rule]] {number}", rule, root, taken))
    if not rows:
        raise UserError(f"{path}: no [[matrix]], no [[rule]] and no csv: nothing to read")
    entries = [_entry(path, place, {**defaults, **row}, root, columns) for place, row in rows]
    return Listed(str(data.get("name", path.stem)), f"manifest:{path.resolve()}", entries, seed)


def _entry(path: Path, place: str, row: dict[str, Any], root: Path, columns: Mapping[str, Any]) -> Entry:
    def bad(key: str, wanted: str) -> UserError:
        return UserError(f"{path}: {place}: {key} = {row[key]!r}: {wanted}")

    # An empty cell of a CSV file says nothing.
    row = {key: value for key, value in row.items() if value != ""}
    for key in _TEXT & row.keys():
        if not isinstance(row[key], str):
            raise bad(key, "expected text")
    numbers: dict[str, int | None] = {}
    for key in _WHOLE:
        value = row.get(key)
        if value is not None and (isinstance(value, bool) or not re.fullmatch(r"\d{1,18}", str(value))):
            raise bad(key, "expected a whole number of 0 or more")
        numbers[key] = None if value is None else int(value)
    if not isinstance(row.get("path"), str):
        raise UserError(f"{path}: {place}: no path")
    if row.get("layout", "MxK") not in ("MxK", "KxM"):
        raise bad("layout", "expected MxK or KxM")
    sparsity_key = "target_sparsity" if "target_sparsity" in row else "sparsity"
    sparsity = None
    if sparsity_key in row:
        try:
            sparsity = float(row[sparsity_key])
        except (TypeError, ValueError):
            raise bad(sparsity_key, "expected a number") from None
        if not 0.0 <= sparsity <= 1.0:
            raise bad(sparsity_key, "expected a share between 0 and 1; [rule.map.sparsity] translates other notations")
    try:
        pattern = Pattern.parse(row["pattern"]) if "pattern" in row else None
    except UserError as error:
        raise UserError(f"{path}: {place}: {error}") from None
    layer = row.get("layer")
    per_image = numbers["columns_per_image"]
    if per_image is None and layer is not None and layer in columns:
        per_image = columns[layer]
    synthetic = row.get("synthetic", False)
    if str(synthetic).lower() not in ("true", "false"):
        raise bad("synthetic", "expected true or false")
    return Entry(
        name=str(row.get("name") or without_suffix(Path(row["path"])).as_posix()),
        path=root / row["path"],
        tensor=row.get("tensor"),
        transpose=row.get("layout") == "KxM",
        sha256=row.get("sha256"),
        rows=numbers["rows"],
        cols=numbers["cols"],
        nnz=numbers["nnz"],
        pattern=pattern,
        network=row.get("network"),
        layer=layer,
        method=row.get("method"),
        sparsity=sparsity,
        columns_per_image=per_image,
        synthetic=str(synthetic).lower() == "true",
    )


def _rule_rows(
    path: Path, place: str, rule: dict[str, Any], root: Path, taken: set[str]
) -> list[tuple[str, dict[str, Any]]]:
    """A row for each file below ``root`` that the rule matches and nobody has taken."""
    shared = {key: value for key, value in rule.items() if key in _SHARED}
    maps = rule.get("map", {})
    if not isinstance(maps, dict) or not all(isinstance(table, dict) for table in maps.values()):
        raise UserError(f"{path}: {place}: map holds one table for each group, as [rule.map.sparsity]")
    try:
        regex = re.compile(str(rule.get("regex", "(?s:.*)")))
        found = sorted(file for file in root.glob(str(rule.get("glob", "**/*"))) if file.is_file())
    except (re.error, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: {place}: {error}") from None
    if unknown := set(regex.groupindex) - _ROW:
        raise UserError(f"{path}: {place}: unknown group {min(unknown)!r}: choose from {', '.join(sorted(_ROW))}")
    rows = []
    for file in found:
        name = file.relative_to(root).as_posix()
        match = regex.fullmatch(name)
        if match is None or name in taken or file.resolve() == path.resolve():
            continue
        groups = {key: text for key, text in match.groupdict().items() if text is not None}
        groups = {key: maps.get(key, {}).get(text, text) for key, text in groups.items()}
        rows.append((f"{place}, {name}", {**shared, **groups, "path": name}))
    if not rows:
        raise UserError(f"{path}: {place}: matches none of the {len(found)} files that its glob finds below {root}")
    return rows


def _csv_rows(path: Path, file: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        with file.open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text)
            _known(path, file.name, dict.fromkeys(reader.fieldnames or ()), _ROW)
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"{file}:{reader.line_num}: more or fewer cells than the first line has")
                rows.append((f"{file.name}:{reader.line_num}", dict(row)))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: csv {file}: {error}") from None


def _known(path: Path, place: str, table: Mapping[str, Any], keys: set[str]) -> None:
    if unknown := set(table) - keys:
        raise UserError(f"{path}: {place}: unknown key {min(unknown)!r}: choose from {', '.join(sorted(keys))}")


def _table(path: Path, data: dict[str, Any], key: str) -> dict[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, dict):
        raise UserError(f"{path}: {key} should be a table: [{key}]")
    return table


def _tables(path: Path, data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    tables = data.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UserError(f"{path}: {key} should be a list of tables: [[{key}]]")
    return tables
