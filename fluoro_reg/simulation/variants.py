"""What may go wrong with a simulated X-ray, by name; and what simulated cases and recordings share."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.simulation.metal import Cylinder, k_wire, screw
from fluoro_reg.simulation.simulator import SimulationOptions

Progress = Callable[[int, int], None]

VARIANTS = {
    "standard": SimulationOptions(),
    "noisy": SimulationOptions(photons=400, electronic_noise=0.006),
    "mismatch": SimulationOptions(peak_kv=95, scatter_fraction=0.45, gamma=0.6, heel=0.3, vignetting=0.3),
    "collimated": SimulationOptions(collimator="circle", collimator_opening=0.95, gamma=0.8),
    "instruments": SimulationOptions(gamma=0.8),
}
TRUNCATED = "truncated"  # the standard machine, but what is registered is a part of the CT
CASE_VARIANTS = (*VARIANTS, TRUNCATED)
_WITH_TOOLS = ("instruments",)


def tools_of(variant: str, targets_patient: Float[Tensor, "n 3"], generator: torch.Generator) -> tuple[Cylinder, ...]:
    """Two wires and a screw that end at target points, in the variants that have instruments."""
    if variant not in _WITH_TOOLS:
        return ()
    tips = targets_patient[torch.randperm(len(targets_patient), generator=generator)[:3]].double()
    return (*k_wire(tips[0], generator), *k_wire(tips[1], generator), *screw(tips[2], generator))


def new_folder(out_folder: Path | str) -> Path:
    """The folder, made.

    Raises:
        InputError: it holds something already.
    """
    folder = Path(out_folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder.name} holds something already; give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
