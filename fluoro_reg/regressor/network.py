"""`PoseRegressor`: a backbone with two outputs, a pose and its uncertainty.

The uncertainty is a Gaussian of the error twist, given by a Cholesky factor of its inverse covariance. It is computed from the
backbone's features but sends no gradient back to them: a network that may trade error against uncertainty raises the
uncertainty instead of improving the pose (A. Stirn et al., "Faithful heteroscedastic regression with neural networks", AISTATS
2023). The twist is in camera axes, where depth, which an X-ray hardly shows, is an axis of its own.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.config import option
from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.networks.seen_views import SeenViews
from fluoro_reg.regressor.backbones import BACKBONES
from fluoro_reg.regressor.heads import HEADS

_FACTOR_SIZE = 21
# Standard deviations of an untrained network: translations as a fraction of half the field of view, rotations in rad.
_INITIAL_SD_FRACTION, _INITIAL_SD_RAD = 0.25, 0.2


@dataclass(frozen=True, slots=True)
class RegressorOptions:
    """Settings of the network."""

    backbone: str = option(
        "small", "network that computes the features; monai-... need the extra 'training'", choices=tuple(BACKBONES)
    )
    head: str = option(
        "rotation-6d", "how features become a pose; se3-log is for rotations below 180 degrees", choices=tuple(sorted(HEADS))
    )
    image_px: int = option(64, "width and height of the input image", unit="px", minimum=32, maximum=512)


@dataclass(frozen=True, slots=True)
class PoseEstimate:
    """Poses with uncertainties.

    Attributes:
        camera_from_patient: the estimated poses.
        factor: lower triangular L, where L L^T is the inverse covariance of the `camera_twist` (mm, rad) from each estimate to
            the true pose.
    """

    camera_from_patient: RigidTransform
    factor: Float[Tensor, "batch 6 6"]


class PoseRegressor(nn.Module):
    """The network. Its inputs are images of the camera `reference.intrinsics`, standardised by `standardise`.

    `seen` are the views that it has been trained on, if they are known.
    """

    def __init__(self, options: RegressorOptions, reference: ReferenceView) -> None:
        super().__init__()
        self.options, self.reference = options, reference
        self.seen: SeenViews | None = None
        self.backbone, features = BACKBONES[options.backbone]()
        self.head = HEADS[options.head]()
        self.pose_numbers = nn.Linear(features, self.head.size)  # a name in weights files, as is the next
        self.factor_numbers = nn.Linear(features, _FACTOR_SIZE)
        for layer in (self.pose_numbers, self.factor_numbers):
            nn.init.normal_(layer.weight, std=0.1 * features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Float[Tensor, "batch 1 height width"], reference: ReferenceView | None = None) -> PoseEstimate:
        """Estimate poses relative to the network's own reference view, or to that of another CT."""
        reference = reference or self.reference
        features = self.backbone(images).float()
        with torch.autocast(features.device.type, enabled=False):  # 16 bits are not precise enough for a pose
            pose = self.head.pose(self.pose_numbers(features), reference)
            return PoseEstimate(pose, self._factor(self.factor_numbers(features.detach()), reference))

    def _factor(self, outputs: Float[Tensor, "batch 21"], reference: ReferenceView) -> Float[Tensor, "batch 6 6"]:
        row, column = torch.tril_indices(6, 6, device=outputs.device)
        lower = outputs.new_zeros(len(outputs), 6, 6)
        lower[:, row, column] = outputs
        diagonal = lower.diagonal(dim1=-2, dim2=-1)
        lower = lower.tril(-1) + torch.diag_embed(torch.exp(diagonal.clamp(-8, 8)))
        sd_mm = _INITIAL_SD_FRACTION * reference.half_field_of_view_mm
        return torch.cat([lower[:, :3] / sd_mm, lower[:, 3:] / _INITIAL_SD_RAD], dim=1)


def camera_twist(estimated: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "*batch 6"]:
    """Return the twist about `pivot` from an estimate to the true pose [mm, rad], in the estimate's camera axes."""
    return rotate_twist(estimated.rotation, se3.local(estimated, truth, pivot))


def rotate_twist(rotation: Float[Tensor, "*#batch 3 3"], twist: Float[Tensor, "*#batch 6"]) -> Float[Tensor, "*batch 6"]:
    """Express a twist in rotated axes with the same origin."""
    return (rotation @ twist.unflatten(-1, (2, 3)).mT).mT.flatten(-2)


def patient_covariance(estimate: PoseEstimate) -> Float[Tensor, "batch 6 6"]:
    """Return the covariance of the twist in patient axes about the pivot, as `retract` takes it; float64."""
    rotation = estimate.camera_from_patient.rotation.double()
    camera_from_patient = torch.zeros(*rotation.shape[:-2], 6, 6, dtype=torch.float64, device=rotation.device)
    camera_from_patient[..., :3, :3] = camera_from_patient[..., 3:, 3:] = rotation
    identity = torch.eye(6, dtype=torch.float64, device=rotation.device)
    root = torch.linalg.solve_triangular(estimate.factor.double().mT, identity, upper=True)
    patient_root = camera_from_patient.mT @ root
    return patient_root @ patient_root.mT
