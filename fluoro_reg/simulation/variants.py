"""Named settings of the simulated machine, each with its own imaging problem, and the instruments that they show."""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.simulation.metal import Cylinder, k_wire, screw
from fluoro_reg.simulation.simulator import SimulationOptions

VARIANTS = {
    "standard": SimulationOptions(),
    "noisy": SimulationOptions(photons=400, electronic_noise=0.006),
    "mismatch": SimulationOptions(peak_kv=95, scatter_fraction=0.45, gamma=0.6, heel=0.3, vignetting=0.3),
    "collimated": SimulationOptions(collimator="circle", collimator_opening=0.95, gamma=0.8),
    "instruments": SimulationOptions(gamma=0.8),
}
TRUNCATED = "truncated"  # the standard machine, but only a part of the CT is registered
CASE_VARIANTS = (*VARIANTS, TRUNCATED)
_VARIANTS_WITH_TOOLS = ("instruments",)


def tools_for_variant(variant: str, targets_patient: Float[Tensor, "n 3"], generator: torch.Generator) -> tuple[Cylinder, ...]:
    """Return two K-wires and a screw that end at random target points, or nothing for a variant without instruments."""
    if variant not in _VARIANTS_WITH_TOOLS:
        return ()
    tips = targets_patient[torch.randperm(len(targets_patient), generator=generator)[:3]].double()
    return (*k_wire(tips[0], generator), *k_wire(tips[1], generator), *screw(tips[2], generator))
