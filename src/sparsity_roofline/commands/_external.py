"""``validate --measurements``: options read, result printed."""

from __future__ import annotations

from pathlib import Path

from sparsity_roofline.commands._cases import parse_items
from sparsity_roofline.commands._render import console, print_json, print_table
from sparsity_roofline.model.errors import UserError


def validate_file(
    path: Path,
    out: Path | None,
    *,
    mapping: str | None,
    columns: tuple[str, ...],
    values: tuple[str, ...],
    device: str | None,
    cases: bool,
    calibrate: bool,
    as_json: bool,
) -> None:
    """Check the models against a file of latencies and print what came of it."""
    from sparsity_roofline.model.assumed import find
    from sparsity_roofline.validation.external import validate_measurements
    from sparsity_roofline.validation.external.mapping import ColumnMap, load
    from sparsity_roofline.validation.tables import number

    chosen = load(mapping) if mapping else None
    if columns or values:
        given = parse_items(columns, "--map"), parse_items(values, "--value")
        chosen = (chosen or ColumnMap()).with_items(*given)
    ceilings = None if device is None else find(device)
    found = validate_measurements(path, out, mapping=chosen, device=ceilings, cases=cases, calibrate=calibrate)
    if as_json:
        print_json(found.to_json())
        return
    models = [name.removeprefix("mape ") for name in found.summary.columns if name.startswith("mape ")]
    header = ["device", "dtype", "pattern", "stratum", "value", "rows", *(f"MAPE\n{name}" for name in models)]
    header += [f"meas/pred\n{name}" for name in models]
    keys = ["device", "dtype", "pattern", "stratum", "value", "n"]
    if found.summary.empty:
        raise UserError(
            f"{path.name}: no row has both a dense and a sparse time; --out FOLDER writes each side's error"
        )
    body = [
        [*(str(row[key]) for key in keys), *(f"{100 * row[f'mape {name}']:.0f} %" for name in models),
         *(number(float(row[f"bias {name}"])) for name in models)]
        for row in found.summary.to_dict("records")
    ]  # fmt: skip
    print_table(f"Speedup: {len(found.rows)} rows of {path.name}", header, body, range(5, len(header)))
    for message in found.messages:
        console().print(message, markup=False)
    for folder in sorted({file.parent for file in found.written}):
        names = ", ".join(file.name for file in found.written)
        console().print(f"wrote {folder}: {names}", markup=False, soft_wrap=True)
