"""`PosePredictor`: inference with a trained pose regressor, for X-rays of any camera.

The network was trained with one camera, and an image of another camera is resampled to it: a pixel u of the network shows what
the image shows at `K_image K_train^-1 u`. Both cameras look along the same rays from the same source, so this is exact whatever
the crop, the pixels' shape or the principal point. What the image does not cover is masked, as collimated parts were in
training.

The AP and the PA image of a body are nearly mirror images of each other (`fluoro_reg.networks.opposite_view`), and confusing
the two is a silent failure of single-view methods. The predictor can therefore also pass the mirror image to the network; the
result is the pose if the X-ray is an opposite view.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.networks import opposite_view as opposite
from fluoro_reg.networks.image_input import input_from_xray
from fluoro_reg.networks.seen_views import SeenViews
from fluoro_reg.regressor.checkpoint import load_regressor
from fluoro_reg.regressor.network import PoseRegressor, patient_covariance
from fluoro_reg.xray.image import XrayImage


@dataclass(frozen=True, slots=True)
class PosePrediction:
    """A pose, and the covariance of its twist [mm, rad] about `pivot` (mm, patient frame), as `retract` takes it; float64.

    `seen` are the views that the network has been trained on, if they are known.
    """

    camera_from_patient: RigidTransform
    covariance: Float[Tensor, "6 6"]
    pivot: Float[Tensor, "3"]
    seen: SeenViews | None = None

    def neighbours(self, spread: float) -> RigidTransform:
        """Return six poses, `spread` standard deviations to either side along the three widest axes of the covariance."""
        values, axes = torch.linalg.eigh(self._scaled_covariance())
        steps = spread * (axes * values.clamp_min(0).sqrt())[:, -3:].T * self._units()
        return retract(self.camera_from_patient, torch.cat([steps, -steps]), self.pivot)

    def opposite_view(self) -> "PosePrediction":
        """Return the prediction for the opposite view."""
        pose = opposite.opposite_view(self.camera_from_patient, self.pivot)
        covariance = opposite.opposite_view_covariance(self.camera_from_patient, self.covariance)
        return PosePrediction(pose, covariance, self.pivot, self.seen)

    def _scaled_covariance(self) -> Float[Tensor, "6 6"]:
        """Return the covariance with rotations as the displacement 100 mm from the pivot, so that all axes can be ranked."""
        units = self._units()
        return self.covariance / (units[:, None] * units)

    def _units(self) -> Float[Tensor, "6"]:
        return torch.tensor([1.0, 1.0, 1.0, 0.01, 0.01, 0.01], dtype=torch.float64)


@dataclass(slots=True)
class PosePredictor:
    """A trained network on a device. Not thread-safe."""

    network: PoseRegressor
    device: torch.device

    @staticmethod
    def load(path: Path | str, volume: CTVolume, device: str = "cpu") -> "PosePredictor":
        """Load the network for a CT; `device` is `cpu` or `cuda`, as `resolve_device` returns it.

        Raises:
            InputError: as `load_regressor`.
        """
        network = load_regressor(path, volume)
        return PosePredictor(network.to(device), torch.device(device))

    @torch.inference_mode()
    def predict(self, image: XrayImage, opposite_view: bool = False) -> tuple[PosePrediction, ...]:
        """Predict the pose of one preprocessed X-ray.

        Args:
            image: attenuation.
            opposite_view: whether to predict also the pose if the X-ray is an opposite view.

        Returns:
            One prediction, or two with `opposite_view`.

        Raises:
            InputError: the image covers too little of what the network sees.
        """
        reference = self.network.reference
        images = input_from_xray(image, reference.intrinsics, "the network", "give an initial pose instead")
        estimate = self.network(torch.cat([images, images.flip(-1)] if opposite_view else [images]).to(self.device))
        poses = _orthonormal(estimate.camera_from_patient.to("cpu", torch.float64))
        covariances = patient_covariance(estimate).cpu()
        direct, *mirrored = (
            PosePrediction(poses[n], covariances[n], reference.pivot, self.network.seen) for n in range(len(covariances))
        )
        return direct, *(prediction.opposite_view() for prediction in mirrored)


def _orthonormal(transform: RigidTransform) -> RigidTransform:
    """Make rotations orthonormal: float32 leaves an error of 1e-7, which would persist in products in float64."""
    u, _, vh = torch.linalg.svd(transform.rotation)
    return RigidTransform(u @ vh, transform.translation)
