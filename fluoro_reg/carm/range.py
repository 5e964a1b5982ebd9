"""The range of C-arm views in an operation, read from a `carm.yaml`, and random poses within it.

A regressor is trained for such a range, and cases are simulated within it. For a view outside its range, a network's output is
wrong, and nothing in it shows that.

The angles are those of `fluoro_reg.carm.view_pose.view_pose`; the shifts move the point at which the C-arm is aimed. A pair
of numbers is (mean, standard deviation) of a normal distribution, as in DiffPose, or (low, high) of a uniform one, as in xvr.
Published values:

DiffPose, DeepFluoro: normal, (0, 11.5), (0, 5.7), (0, 14.3) degrees and standard deviations of 70, 50 and 90 mm.
xvr, pelvis: uniform, 45, 45 and 15 degrees to either side, 150 mm, at 450 to 1000 mm from the source with the detector at 1020.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.dimensions import DETECTOR_MM, SOURCE_TO_DETECTOR_MM
from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.config import from_mapping, load_yaml, option
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3
from fluoro_reg.resources import config_folder

_NORMAL_LIMIT_SD = 3.0  # a C-arm has mechanical stops
ALONG_BODY_DEG = 45.0  # a view with a greater tilt is along the body rather than across it
_MINIMUM_DISTANCE = 0.2  # from the source, as a fraction of the distance in the middle of the range


@dataclass(frozen=True, slots=True)
class CarmRange:
    """A C-arm and the distribution of its views. Pairs are (low, high) or (mean, standard deviation)."""

    distribution: str = option("uniform", "how views are distributed over the range", choices=("uniform", "normal"))
    views: tuple[str, ...] = option(("AP", "PA"), "source in front of (AP) or behind (PA) the patient", choices=("AP", "PA"))
    primary_deg: tuple[float, float] = option(
        (-45.0, 45.0), "orbit about the long axis, to the patient's left", unit="deg", minimum=-180, maximum=180
    )
    secondary_deg: tuple[float, float] = option((-15.0, 15.0), "tilt towards the head", unit="deg", minimum=-90, maximum=90)
    roll_deg: tuple[float, float] = option((-10.0, 10.0), "rotation of the image", unit="deg", minimum=-180, maximum=180)
    left_mm: tuple[float, float] = option(
        (-20.0, 20.0), "aim, from the centre of the skeleton to the patient's left", unit="mm", minimum=-1000, maximum=1000
    )
    back_mm: tuple[float, float] = option((-20.0, 20.0), "the same, towards the back", unit="mm", minimum=-1000, maximum=1000)
    up_mm: tuple[float, float] = option((-20.0, 20.0), "the same, towards the head", unit="mm", minimum=-1000, maximum=1000)
    source_to_object_mm: tuple[float, float] = option(
        (650.0, 750.0), "distance of the aim from the source", unit="mm", minimum=1, maximum=3000
    )
    source_to_detector_mm: float = option(
        SOURCE_TO_DETECTOR_MM, "distance of the detector from the source", unit="mm", minimum=10, maximum=5000
    )
    detector_mm: float = option(DETECTOR_MM, "width and height of the detector", unit="mm", minimum=10, maximum=2000)

    def __post_init__(self) -> None:
        if not self.views:
            raise InputError("the C-arm's range has no views; give views: [AP], [PA] or both")
        reversed_pairs = [
            name for name in _PAIRS if self.distribution == "uniform" and getattr(self, name)[0] > getattr(self, name)[1]
        ]
        if reversed_pairs:
            name = reversed_pairs[0]
            raise InputError(f"the C-arm's range: {name} must run from low to high, got {list(getattr(self, name))}")
        negative_sds = [name for name in _PAIRS if self.distribution == "normal" and getattr(self, name)[1] < 0]
        if negative_sds:
            raise InputError(f"the C-arm's range: the standard deviation of {negative_sds[0]} must not be negative")

    def camera(self, size_px: int) -> CameraIntrinsics:
        """Return the camera of a square image of the whole detector."""
        focal, centre = self.source_to_detector_mm * size_px / self.detector_mm, (size_px - 1) / 2
        return CameraIntrinsics(size_px, size_px, focal, focal, centre, centre, self.source_to_detector_mm)

    def interval(self, name: str) -> tuple[float, float]:
        """Return the lowest and highest value of one pair; of a normal distribution, two standard deviations to either side."""
        first, second = getattr(self, name)
        return (first, second) if self.distribution == "uniform" else (first - 2 * second, first + 2 * second)

    @property
    def is_along_body(self) -> bool:
        """Whether it has views from head or feet, whose rays leave any CT through its ends."""
        return max(abs(limit) for limit in self.interval("secondary_deg")) > ALONG_BODY_DEG

    def central_view(self, aim_patient: Float[Tensor, "3"]) -> RigidTransform:
        """Return `camera_from_patient` of the view in the middle of the range, for the first of `views`."""
        parameters = {name: torch.tensor([self.middle(name)], dtype=torch.float64) for name in _PAIRS}
        return _views(parameters, self._primary_offsets_deg([0]), aim_patient)[0]

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        """Return a batch of `count` random `camera_from_patient`, float64, on the CPU."""
        parameters = {name: self._sample(name, count, generator) for name in _PAIRS}
        nearest = _MINIMUM_DISTANCE * self.middle("source_to_object_mm")
        parameters["source_to_object_mm"] = parameters["source_to_object_mm"].clamp_min(nearest)
        view_indices = torch.randint(len(self.views), (count,), generator=generator).tolist()
        return _views(parameters, self._primary_offsets_deg(view_indices), aim_patient)

    def _primary_offsets_deg(self, view_indices: Sequence[int]) -> Float[Tensor, "batch"]:
        return torch.tensor([180.0 if self.views[index] == "PA" else 0.0 for index in view_indices], dtype=torch.float64)

    def middle(self, name: str) -> float:
        """Return the middle of one pair."""
        first, second = getattr(self, name)
        return first if self.distribution == "normal" else (first + second) / 2

    def _sample(self, name: str, count: int, generator: torch.Generator) -> Float[Tensor, "batch"]:
        first, second = getattr(self, name)
        if self.distribution == "uniform":
            return first + (second - first) * torch.rand(count, generator=generator, dtype=torch.float64)
        normal = torch.randn(count, generator=generator, dtype=torch.float64)
        return first + second * normal.clamp(-_NORMAL_LIMIT_SD, _NORMAL_LIMIT_SD)


_PAIRS = ("primary_deg", "secondary_deg", "roll_deg", "left_mm", "back_mm", "up_mm", "source_to_object_mm")


def _views(
    parameters: dict[str, Float[Tensor, "batch"]], primary_offsets_deg: Float[Tensor, "batch"], aim_patient: Float[Tensor, "3"]
) -> RigidTransform:
    """Return what `view_pose` computes, for a batch."""
    about_long_axis = _rotations(2, parameters["primary_deg"] + primary_offsets_deg)
    patient_from_orbit = about_long_axis @ _rotations(0, -parameters["secondary_deg"])
    frontal = ap_pose(torch.zeros(3, dtype=torch.float64), 1.0).rotation
    rotation = _rotations(2, parameters["roll_deg"]) @ frontal @ patient_from_orbit.mT
    centre = aim_patient.double() + torch.stack([parameters["left_mm"], parameters["back_mm"], parameters["up_mm"]], dim=-1)
    translation = -(rotation @ centre[..., None]).squeeze(-1)
    translation[:, 2] += parameters["source_to_object_mm"]
    return RigidTransform(rotation, translation)


def _rotations(axis: int, degrees: Float[Tensor, "batch"]) -> Float[Tensor, "batch 3 3"]:
    vectors = torch.zeros(*degrees.shape, 3, dtype=torch.float64)
    vectors[..., axis] = torch.deg2rad(degrees)
    return so3.exp(vectors)


def load_range(name: str) -> CarmRange:
    """Return the range with a name (`range_names`), or from the path of a YAML file.

    Raises:
        InputError: There is no such range, or the file is not a range.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in range_names():
            known = ", ".join(range_names())
            raise InputError(f"there is no range of views '{name}'; choose one of {known}, or give the path of a YAML file")
        path = config_folder() / "views" / f"{name}.yaml"
    return from_mapping(CarmRange, load_yaml(path), path.name)


def range_names() -> tuple[str, ...]:
    """Return the names of the installed ranges."""
    return tuple(path.stem for path in sorted((config_folder() / "views").glob("*.yaml")))
