"""Named settings of the simulated machine, each with its own imaging problem, and the instruments that they show.

Some variants differ from image to image: the collimator and the couch are drawn for each case, and so is the side on which the
beam passes the body. The other variants draw nothing, so that a seed gives the same cases whatever variants exist.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.dimensions import SOURCE_TO_OBJECT_MM
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.simulation.body import body_box
from fluoro_reg.simulation.metal import Cylinder, k_wire, screw
from fluoro_reg.simulation.options import SimulationOptions

_OPEN_BEAM = SimulationOptions(exposure=0.5, air_signal=2.0)
VARIANTS = {
    "standard": SimulationOptions(),
    "noisy": SimulationOptions(photons=400, electronic_noise=0.006),
    "mismatch": SimulationOptions(peak_kv=95, scatter_fraction=0.45, gamma=0.6, heel=0.3, vignetting=0.3),
    "collimated": SimulationOptions(collimator="circle", collimator_opening=0.95, gamma=0.8),
    "instruments": SimulationOptions(gamma=0.8),
    "open-beam": _OPEN_BEAM,
    "open-below": _OPEN_BEAM,
    "leaking": SimulationOptions(
        collimator="rectangle",
        collimator_opening=0.75,
        collimator_leak=0.01,
        collimator_edge_mm=3.0,
        collimator_tilt_deg=12,
    ),
    "couch": SimulationOptions(couch_width_mm=260),
    "attenuation": SimulationOptions(polarity="attenuation"),
}
TRUNCATED = "truncated"  # the standard machine, but only a part of the CT is registered
CASE_VARIANTS = (*VARIANTS, TRUNCATED)
_VARIANTS_WITH_TOOLS = ("instruments",)
# The part of the image's width or height beyond the body in a view without tilt and shift. A tilt shows more of a flat end.
_OPEN_FRACTION = {"open-beam": (0.2, 0.35), "open-below": (0.25, 0.4)}


def options_for_variant(variant: str, generator: torch.Generator) -> SimulationOptions:
    """Return the settings of one case or recording, with a collimator or a couch that is drawn for it."""
    options = VARIANTS.get(variant, SimulationOptions())

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand(1, generator=generator).item()

    if variant == "leaking":
        return replace(
            options,
            collimator="rectangle" if uniform(0, 1) < 0.5 else "circle",
            collimator_opening=uniform(0.65, 0.85),
            collimator_aspect=uniform(0.8, 1.1),
            collimator_leak=uniform(0.005, 0.02),
            collimator_edge_mm=uniform(2, 5),
            collimator_tilt_deg=uniform(-25, 25),
            collimator_centre=(uniform(-0.1, 0.1), uniform(-0.1, 0.1)),
        )
    if variant == "couch":
        return replace(
            options,
            couch_width_mm=uniform(200, 340),
            couch_shift_mm=uniform(-40, 40),
            couch_end_mm=uniform(0, 400),
            couch_turn_deg=uniform(-4, 4),
        )
    return options


def aim_for_variant(
    variant: str, volume: CTVolume, aim_patient: Float[Tensor, "3"], camera: CameraIntrinsics, generator: torch.Generator
) -> Float[Tensor, "3"]:
    """Return the aim of a view, in patient mm, moved so that the beam passes the body on one side for `open-...` variants.

    `open-beam` has the body's left or right side in the image, and `open-below` the lower end of the CT. Beyond it, 20 to 40 %
    of the image is air in a view without tilt.
    """
    if variant not in _OPEN_FRACTION:
        return aim_patient
    low, high = _OPEN_FRACTION[variant]
    open_fraction = low + (high - low) * torch.rand(1, generator=generator).item()
    size = torch.tensor([camera.width / camera.fx, camera.height / camera.fy]) * SOURCE_TO_OBJECT_MM
    aim, (field_x, field_z) = aim_patient.clone(), size.tolist()
    if variant == "open-below":
        aim[2] = body_box(volume)[0][2] + (0.5 - open_fraction) * field_z
        return aim
    z = aim[2].item()
    right, left = body_box(volume, (z - field_z / 2, z + field_z / 2))
    inwards = (0.5 - open_fraction) * field_x
    aim[0] = left[0] - inwards if torch.rand(1, generator=generator).item() < 0.5 else right[0] + inwards
    return aim


def tools_for_variant(variant: str, targets_patient: Float[Tensor, "n 3"], generator: torch.Generator) -> tuple[Cylinder, ...]:
    """Return two K-wires and a screw that end at random target points, or nothing for a variant without instruments."""
    if variant not in _VARIANTS_WITH_TOOLS:
        return ()
    tips = targets_patient[torch.randperm(len(targets_patient), generator=generator)[:3]].double()
    return (*k_wire(tips[0], generator), *k_wire(tips[1], generator), *screw(tips[2], generator))
