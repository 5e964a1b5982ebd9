"""The reference view: the view from which a network's output is measured."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform


@dataclass(frozen=True, slots=True)
class ReferenceView:
    """The pose at the middle of the range of views, a pivot (mm, patient frame) and the camera of the training.

    `depth_mm` is the pivot's distance from the source along the optical axis.
    """

    camera_from_patient: RigidTransform
    pivot: Float[Tensor, "3"]
    intrinsics: CameraIntrinsics
    depth_mm: float = field(init=False, compare=False)  # once, since a GPU waits when it is asked for a value

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth_mm", float(self.camera_from_patient.apply(self.pivot[None])[0, 2]))

    def on(self, device: torch.device | str) -> "ReferenceView":
        """Return the view with float32 tensors on a device, for a network that is trained there."""
        pose = self.camera_from_patient.to(device, torch.float32)
        return ReferenceView(pose, self.pivot.to(device, torch.float32), self.intrinsics)

    def with_pivot(self, pivot: Float[Tensor, "3"]) -> "ReferenceView":
        """Return the same view of another patient, with `pivot` (mm, patient frame) instead of this one's."""
        rotation = self.camera_from_patient.rotation
        pivot_in_camera = self.camera_from_patient.apply(self.pivot[None])[0]
        return ReferenceView(RigidTransform(rotation, pivot_in_camera - rotation @ pivot), pivot, self.intrinsics)

    @property
    def half_field_of_view_mm(self) -> float:
        """Half the extent that the camera sees at the pivot's depth, along the longer side of the image."""
        return self.depth_mm * max(self.intrinsics.width / self.intrinsics.fx, self.intrinsics.height / self.intrinsics.fy) / 2

    def downsampling_factors(self, voxel_size_mm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return how many voxels along i, j and k to average so that they are as large as a pixel at the pivot's depth."""
        pixel_mm = self.depth_mm / self.intrinsics.fx
        i, j, k = (max(1, round(pixel_mm / size)) for size in voxel_size_mm)
        return i, j, k
