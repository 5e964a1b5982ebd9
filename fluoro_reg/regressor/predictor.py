"""`PosePredictor`: an X-ray of any camera to a pose, its covariance, and the poses that are worth trying.

The network knows one camera. An image of another is resampled to it by `K_image K_train^-1`: both see along the same rays from
the same source, so nothing is approximated, whatever the crop, the pixels' shape or the principal point. What the image does
not show is masked, as collimated parts were in training.

From the front and from the back a body casts nearly mirrored shadows (`behind`): that is where single-view methods fail without
a word. So the network may be shown the mirror image as well, and what it makes of that is the pose for a view from behind.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.networks.image_input import input_of
from fluoro_reg.networks.opposite_view import opposite_view, opposite_view_covariance
from fluoro_reg.regressor.checkpoint import load_regressor
from fluoro_reg.regressor.network import PoseRegressor, patient_covariance
from fluoro_reg.xray.image import XrayImage


@dataclass(frozen=True, slots=True)
class PosePrediction:
    """A pose, float64, and the covariance of its twist [mm, rad] about `pivot` (patient mm), as `retract` takes it."""

    camera_from_patient: RigidTransform
    covariance: Float[Tensor, "6 6"]
    pivot: Float[Tensor, "3"]

    def neighbours(self, spread: float) -> RigidTransform:
        """Six poses, `spread` standard deviations to either side along the widest three axes of the covariance."""
        values, axes = torch.linalg.eigh(self._scaled_covariance())
        steps = spread * (axes * values.clamp_min(0).sqrt())[:, -3:].T * self._units()
        return retract(self.camera_from_patient, torch.cat([steps, -steps]), self.pivot)

    def opposite_view(self) -> "PosePrediction":
        """The view from the other side, as `behind.opposite_view` has it."""
        pose = opposite_view(self.camera_from_patient, self.pivot)
        covariance = opposite_view_covariance(self.camera_from_patient, self.covariance)
        return PosePrediction(pose, covariance, self.pivot)

    def _scaled_covariance(self) -> Float[Tensor, "6 6"]:
        """Turns counted by what they move 100 mm from the pivot, so that axes of mm and rad can be ranked."""
        units = self._units()
        return self.covariance / (units[:, None] * units)

    def _units(self) -> Float[Tensor, "6"]:
        return torch.tensor([1.0, 1.0, 1.0, 0.01, 0.01, 0.01], dtype=torch.float64)


@dataclass(slots=True)
class PosePredictor:
    """A trained network in use. Not for use from two threads at once."""

    network: PoseRegressor
    device: torch.device

    @staticmethod
    def load(path: Path | str, volume: CTVolume, device: str = "cpu") -> "PosePredictor":
        """`device` is `cpu` or `cuda`, as `resolve_device` gives it.

        Raises:
            InputError: as `load_regressor`.
        """
        network = load_regressor(path, volume)
        return PosePredictor(network.to(device), torch.device(device))

    @torch.inference_mode()
    def predict(self, image: XrayImage, behind: bool = False) -> tuple[PosePrediction, ...]:
        """The pose of one preprocessed X-ray and, with `behind`, its pose if it was taken from the other side.

        Raises:
            InputError: the image is not attenuation, or shows next to nothing of what the network sees.
        """
        reference = self.network.reference
        images = input_of(image, reference.intrinsics, "the network", "give a start instead")
        estimate = self.network(torch.cat([images, images.flip(-1)] if behind else [images]).to(self.device))
        poses = _orthonormal(estimate.camera_from_patient.to("cpu", torch.float64))
        covariances = patient_covariance(estimate).cpu()
        front, *mirrored = (PosePrediction(poses[n], covariances[n], reference.pivot) for n in range(len(covariances)))
        return front, *(prediction.opposite_view() for prediction in mirrored)


def _orthonormal(transform: RigidTransform) -> RigidTransform:
    """float32 rotations are off by 1e-7, which a product of many in float64 would keep."""
    u, _, vh = torch.linalg.svd(transform.rotation)
    return RigidTransform(u @ vh, transform.translation)
