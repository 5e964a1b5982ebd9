"""Where the C-arm may stand: the range of views of an operation, from a `carm.yaml`, and poses drawn from it.

A regressor is trained for such a range, and cases are simulated in it.

The angles are those of `fluoro_reg.carm.pose_sampling.view_pose`, the shifts move what the C-arm looks at. A pair of
numbers is (mean, standard deviation) of a normal, as in DiffPose, or (low, high) of an even range, as in xvr. What they took:

DiffPose, DeepFluoro: normal, (0, 11.5), (0, 5.7), (0, 14.3) degrees and standard deviations of 70, 50 and 90 mm.
xvr, pelvis: even, 45, 45 and 15 degrees to either side, 150 mm, at 450 to 1000 mm from the source of 1020.

What lies beyond the range is unknown to the network, and it will not say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.dimensions import DETECTOR_MM, SOURCE_TO_DETECTOR_MM
from fluoro_reg.carm.pose_sampling import ap_pose
from fluoro_reg.config import option
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3

_NORMAL_REACH = 3.0  # standard deviations: a C-arm has stops
_FURTHER = 0.2  # no view has less than this share of the middle distance from the source


@dataclass(frozen=True, slots=True)
class CarmRange:
    """A C-arm and the views it may take. Pairs: (low, high), or (mean, standard deviation)."""

    distribution: str = option("uniform", "how views are spread over the range", choices=("uniform", "normal"))
    views: tuple[str, ...] = option(("AP", "PA"), "source in front of (AP) or behind (PA) the patient", choices=("AP", "PA"))
    primary_deg: tuple[float, float] = option(
        (-45.0, 45.0), "orbit about the long axis, to the patient's left", unit="deg", minimum=-180, maximum=180
    )
    secondary_deg: tuple[float, float] = option((-15.0, 15.0), "tilt to the head", unit="deg", minimum=-90, maximum=90)
    roll_deg: tuple[float, float] = option((-10.0, 10.0), "turn of the image", unit="deg", minimum=-180, maximum=180)
    left_mm: tuple[float, float] = option(
        (-20.0, 20.0), "aim, from the middle of the skeleton to the patient's left", unit="mm", minimum=-1000, maximum=1000
    )
    back_mm: tuple[float, float] = option((-20.0, 20.0), "the same to the back", unit="mm", minimum=-1000, maximum=1000)
    up_mm: tuple[float, float] = option((-20.0, 20.0), "the same to the head", unit="mm", minimum=-1000, maximum=1000)
    source_to_object_mm: tuple[float, float] = option(
        (650.0, 750.0), "distance of the aim from the source", unit="mm", minimum=1, maximum=3000
    )
    source_to_detector_mm: float = option(
        SOURCE_TO_DETECTOR_MM, "distance of the detector from the source", unit="mm", minimum=10, maximum=5000
    )
    detector_mm: float = option(DETECTOR_MM, "width and height of the detector", unit="mm", minimum=10, maximum=2000)

    def __post_init__(self) -> None:
        if not self.views:
            raise InputError("the C-arm's range names no view; give views: [AP], [PA] or both")
        low = [name for name in _PAIRS if self.distribution == "uniform" and getattr(self, name)[0] > getattr(self, name)[1]]
        if low:
            raise InputError(f"the C-arm's range: {low[0]} must run from low to high, got {list(getattr(self, low[0]))}")
        sds = [name for name in _PAIRS if self.distribution == "normal" and getattr(self, name)[1] < 0]
        if sds:
            raise InputError(f"the C-arm's range: the standard deviation of {sds[0]} must not be negative")

    def camera(self, size_px: int) -> CameraIntrinsics:
        """A square image of the whole detector."""
        focal, middle = self.source_to_detector_mm * size_px / self.detector_mm, (size_px - 1) / 2
        return CameraIntrinsics(size_px, size_px, focal, focal, middle, middle, self.source_to_detector_mm)

    def middle(self, aim_patient: Float[Tensor, "3"]) -> RigidTransform:
        """The view in the middle of the range, of the first kind named."""
        numbers = {name: torch.tensor([self._middle(name)], dtype=torch.float64) for name in _PAIRS}
        return _views(numbers, self._turns([0]), aim_patient)[0]

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        """Random `camera_from_patient`; float64, on the CPU."""
        numbers = {name: self._draw(name, count, generator) for name in _PAIRS}
        nearest = _FURTHER * self._middle("source_to_object_mm")
        numbers["source_to_object_mm"] = numbers["source_to_object_mm"].clamp_min(nearest)
        kinds = torch.randint(len(self.views), (count,), generator=generator).tolist()
        return _views(numbers, self._turns(kinds), aim_patient)

    def _turns(self, kinds: Sequence[int]) -> Float[Tensor, "batch"]:
        return torch.tensor([180.0 if self.views[kind] == "PA" else 0.0 for kind in kinds], dtype=torch.float64)

    def _middle(self, name: str) -> float:
        first, second = getattr(self, name)
        return first if self.distribution == "normal" else (first + second) / 2

    def _draw(self, name: str, count: int, generator: torch.Generator) -> Float[Tensor, "batch"]:
        first, second = getattr(self, name)
        if self.distribution == "uniform":
            return first + (second - first) * torch.rand(count, generator=generator, dtype=torch.float64)
        normal = torch.randn(count, generator=generator, dtype=torch.float64)
        return first + second * normal.clamp(-_NORMAL_REACH, _NORMAL_REACH)


_PAIRS = ("primary_deg", "secondary_deg", "roll_deg", "left_mm", "back_mm", "up_mm", "source_to_object_mm")


def _views(
    numbers: dict[str, Float[Tensor, "batch"]], turned_deg: Float[Tensor, "batch"], aim_patient: Float[Tensor, "3"]
) -> RigidTransform:
    """`view_pose` for a batch."""
    about_long_axis = _rotations(2, numbers["primary_deg"] + turned_deg)
    patient_from_orbit = about_long_axis @ _rotations(0, -numbers["secondary_deg"])
    frontal = ap_pose(torch.zeros(3, dtype=torch.float64), 1.0).rotation
    rotation = _rotations(2, numbers["roll_deg"]) @ frontal @ patient_from_orbit.mT
    centre = aim_patient.double() + torch.stack([numbers["left_mm"], numbers["back_mm"], numbers["up_mm"]], dim=-1)
    translation = -(rotation @ centre[..., None]).squeeze(-1)
    translation[:, 2] += numbers["source_to_object_mm"]
    return RigidTransform(rotation, translation)


def _rotations(axis: int, degrees: Float[Tensor, "batch"]) -> Float[Tensor, "batch 3 3"]:
    vectors = torch.zeros(*degrees.shape, 3, dtype=torch.float64)
    vectors[..., axis] = torch.deg2rad(degrees)
    return so3.exp(vectors)
