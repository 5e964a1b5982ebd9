"""The views that a network has been trained on, and whether a pose is one of them.

A network's output for other views is wrong, and nothing in it shows that. Weights therefore carry their range of views, and a
pose outside of it is reported in words.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.carm.view_pose import view_angles_deg
from fluoro_reg.config import from_mapping
from fluoro_reg.geometry import RigidTransform

_SEEN_SD = 2.0  # poses within so many standard deviations of a view count as seen
_FACING_DEG = {"AP": 0.0, "PA": 180.0}
_MINIMUM_STEP, _ROUNDING = 1e-6, 1e-6
_SHIFTS = ("left_mm", "back_mm", "up_mm")
# What a `CarmRange` can hold.
_LIMITS = {
    "primary_deg": (-180.0, 180.0),
    "secondary_deg": (-90.0, 90.0),
    "roll_deg": (-180.0, 180.0),
    "source_to_object_mm": (1.0, 3000.0),
}


@dataclass(frozen=True, slots=True)
class SeenViews:
    """The range of the views on which `network` (in words, such as "the regressor") has been trained, about `pivot`."""

    network: str
    carm: CarmRange
    pivot: Float[Tensor, "3"]

    def problem(self, camera_from_patient: RigidTransform) -> str | None:
        """What of a pose is outside of the range, in words; None if nothing is."""
        primary, secondary, roll = view_angles_deg(camera_from_patient)
        values = {"secondary_deg": secondary, "roll_deg": roll, **self._aim(camera_from_patient)}
        outside = [text for name, value in values.items() if (text := self._outside(name, value)) is not None]
        facing = [self._outside("primary_deg", primary - _FACING_DEG[view]) for view in self.carm.views]
        if None not in facing:
            outside.insert(0, f"{facing[0]} of {' and '.join(self.carm.views)}")
        return "; ".join(outside) or None

    def warning(self, what: str, camera_from_patient: RigidTransform) -> str | None:
        """One sentence about a pose, which `what` names, that is outside of the range; None if it is inside."""
        if (problem := self.problem(camera_from_patient)) is None:
            return None
        return f"{what} is outside the views that {self.network} has been trained on: {problem}"

    def _aim(self, camera_from_patient: RigidTransform) -> dict[str, float]:
        """The shifts of the aim and its distance from the source, by their names in the range.

        Any point on the axis of the beam may be the aim. Where none is within the range, it is the one nearest to the pivot.
        """
        beam, centre = camera_from_patient.rotation[2], camera_from_patient.apply(self.pivot[None])[0]
        across = torch.cat([centre[:2], centre.new_zeros(1)])
        nearest = torch.cat([-camera_from_patient.rotation.mT @ across, centre[2:]]).numpy()
        step = torch.cat([beam, beam.new_ones(1)]).numpy()  # the change with each mm along the beam
        limits = np.array([self.carm.interval(name) for name in (*_SHIFTS, "source_to_object_mm")])
        free = np.abs(step) > _MINIMUM_STEP
        ends = np.sort((limits[free] - nearest[free, None]) / step[free, None], axis=1)
        begin, end = ends[:, 0].max(), ends[:, 1].min()
        along_mm = min(max(0.0, begin), end) if begin <= end else 0.0
        aim = nearest + along_mm * step
        return dict(zip((*_SHIFTS, "source_to_object_mm"), aim.tolist(), strict=True))

    def _outside(self, name: str, value: float) -> str | None:
        low, high = self.carm.interval(name)
        quantity, _, unit = name.rpartition("_")
        if unit == "deg":
            value = (low + high) / 2 + math.remainder(value - (low + high) / 2, 360.0)
        if low - _ROUNDING <= value <= high + _ROUNDING:
            return None
        return f"{quantity.replace('_', ' ')} {value:.0f} {unit}, not {low:.0f} to {high:.0f}"


def range_with_spread(
    carm: CarmRange, is_middle: bool, rotation_deg: float, translation_mm: float, depth_mm: float
) -> CarmRange:
    """Return the range of normally distributed poses around the views of a range, or around the view in its middle alone."""
    spreads = dict.fromkeys(("primary_deg", "secondary_deg", "roll_deg"), rotation_deg)
    spreads |= {**dict.fromkeys(_SHIFTS, translation_mm), "source_to_object_mm": depth_mm}
    limits: dict[str, Any] = {}
    for name, spread in spreads.items():
        low, high = (carm.middle(name),) * 2 if is_middle else carm.interval(name)
        least, most = _LIMITS.get(name, (-1000.0, 1000.0))
        limits[name] = (max(least, low - _SEEN_SD * spread), min(most, high + _SEEN_SD * spread))
    return replace(carm, distribution="uniform", views=carm.views[:1] if is_middle else carm.views, **limits)


def seen_views(content: Any, network: str, pivot: Float[Tensor, "3"], name: str) -> SeenViews | None:
    """Return the views that the weights file `name` states as a mapping; None if it states none.

    Raises:
        InputError: the mapping is not a range of views.
    """
    if not isinstance(content, Mapping):
        return None
    return SeenViews(network, from_mapping(CarmRange, dict(content), name), pivot)
