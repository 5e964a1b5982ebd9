"""The views of a C-arm's range on a grid, for a search that begins without an initial pose.

Directions have about the same angle to their neighbours: where a view is tilted towards the head or feet, fewer steps go round.
Rotations of the image are kept apart, because an image can be rotated instead of rendering the CT again.
"""

import math
from dataclasses import dataclass

from fluoro_reg.carm.aim import aim_points
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform

DISTANCE_RATIO = 1.2  # of neighbouring distances from the source; a view in between is 10 % too large or too small


@dataclass(frozen=True, slots=True)
class ViewGrid:
    """Views of every direction, distance and aim (`camera_from_patient`), and the rotations of the image in degrees.

    Neighbouring directions and rotations are `step_deg` apart at most; 0: they are single views.
    """

    camera_from_patient: RigidTransform
    roll_deg: tuple[float, ...]
    step_deg: float = 0.0

    @property
    def n_comparisons(self) -> int:
        """Views times rotations."""
        return len(self.camera_from_patient.translation) * len(self.roll_deg)


def view_grid(volume: CTVolume, carm: CarmRange, step_deg: float) -> ViewGrid:
    """Return the grid of views that covers a range.

    Args:
        volume: The CT, in which the C-arm is aimed at the skeleton.
        carm: The range; of a normal distribution, two standard deviations.
        step_deg: The angle between neighbouring directions and rotations of the image.
    """
    poses = [
        view_pose(aim, primary, secondary, 0.0, distance)
        for aim in aim_points(volume)
        for distance in _distances(*carm.interval("source_to_object_mm"))
        for primary, secondary in _directions(carm, step_deg)
    ]
    return ViewGrid(RigidTransform.stack(poses), _steps(*carm.interval("roll_deg"), step_deg), step_deg)


def count_comparisons(n_aims: int, carm: CarmRange, step_deg: float) -> int:
    """Return `n_comparisons` of `view_grid` with a number of aims, without making its poses."""
    n_views = n_aims * len(_distances(*carm.interval("source_to_object_mm"))) * len(_directions(carm, step_deg))
    return n_views * len(_steps(*carm.interval("roll_deg"), step_deg))


def _directions(carm: CarmRange, step_deg: float) -> list[tuple[float, float]]:
    directions = []
    for view in carm.views:
        offset = 180.0 if view == "PA" else 0.0
        for secondary in _steps(*carm.interval("secondary_deg"), step_deg):
            around = max(math.cos(math.radians(secondary)), 1e-3)
            directions += [(p + offset, secondary) for p in _steps(*carm.interval("primary_deg"), step_deg / around)]
    return directions


def _distances(low: float, high: float) -> tuple[float, ...]:
    count = max(1, math.ceil(math.log(high / low) / math.log(DISTANCE_RATIO) - 1e-9))
    ratio = (high / low) ** (1 / count)
    return tuple(low * ratio ** (k + 0.5) for k in range(count))


def _steps(low: float, high: float, step: float) -> tuple[float, ...]:
    """Return the centres of equal intervals that are not longer than `step`; a full turn has no end to repeat."""
    count = max(1, math.ceil((high - low) / step - 1e-9))
    return tuple(low + (high - low) * (k + 0.5) / count for k in range(count))
