"""A ``Bench`` for the device of this process, with what its records share: device, environment, ceilings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sparsity_roofline.bench.failures import first_line
from sparsity_roofline.bench.measure import Bench
from sparsity_roofline.bench.redact import redact
from sparsity_roofline.bench.rows import Evidence
from sparsity_roofline.bench.timing.protocol import Regime, Stopping
from sparsity_roofline.kernels.protocol import Device, Kernel
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.matrix import Matrix

Tell = Callable[[str, str], None]
"""Takes ``progress`` or ``note``, and a text."""


def begin(
    device: Device,
    kernels: Mapping[str, Kernel],
    load: Callable[[int, str], Matrix],
    *,
    timer: str | None = None,
    regime: Regime | None = None,
    stopping: Stopping | None = None,
    calibrate: bool = False,
    fresh: bool = False,
    run_id: str = "",
    tell: Tell = lambda kind, text: None,
) -> tuple[Bench, dict[str, Any]]:
    """The bench, and the environment its records refer to by hash.

    Args:
        kernels: by name.
        load: see ``Bench``.
        timer: by name; the device's default without one.
        calibrate: measure this machine's ceilings where none are kept.
        fresh: there is no record yet, so that kept ceilings of a busy CPU may be measured anew.
        tell: hears how calibration goes.

    Raises:
        UserError: no such device here, or no such timer.
    """
    from sparsity_roofline.bench import calibrate as calibration
    from sparsity_roofline.bench import environment
    from sparsity_roofline.bench.timing import timer_for
    from sparsity_roofline.model import hardware

    name = environment.device_name(device)
    facts = environment.environment(device)
    match = hardware.match(name, facts["device"]["memory_bytes"]) if device == "cuda" else None
    measured = None
    try:
        measured = calibration.measured_ceilings(
            device,
            calibrate_if_missing=calibrate,
            replace_busy=calibrate and fresh,
            progress=lambda line: tell("progress", redact(line)),
        )
    except (UserError, OSError, RuntimeError) as error:
        tell("note", f"no measured ceilings: {redact(first_line(error))}")
    if measured is not None and (why := calibration.from_busy_machine(measured)):
        tell("note", f"ceilings may be too low: {why}; run 'sparsity-roofline hardware calibrate' when it is idle")
    evidence = Evidence(
        run_id=run_id,
        device=device,
        device_name=name,
        environment=environment.environment_hash(facts),
        datasheet=hardware.datasheet(match) if match else None,
        measured=measured,
        threads=_threads() if device == "cpu" else None,
    )
    bench = Bench(kernels, load, evidence, timer_for(device, timer), regime or Regime(), stopping or Stopping())
    return bench, facts


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())
