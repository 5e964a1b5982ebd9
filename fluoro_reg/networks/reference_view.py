"""The view that a network's output counts from."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform


@dataclass(frozen=True, slots=True)
class ReferenceView:
    """What a network's numbers count from: the middle of the range of views, a pivot (patient mm), the camera it has."""

    camera_from_patient: RigidTransform
    pivot: Float[Tensor, "3"]
    intrinsics: CameraIntrinsics

    @property
    def depth_mm(self) -> float:
        """The pivot's distance from the source along the optical axis."""
        return float(self.camera_from_patient.apply(self.pivot[None])[0, 2])

    def about(self, pivot: Float[Tensor, "3"]) -> "ReferenceView":
        """The same view of another patient, whose `pivot` (patient mm) lies where this one's does."""
        rotation = self.camera_from_patient.rotation
        at = self.camera_from_patient.apply(self.pivot[None])[0]
        return ReferenceView(RigidTransform(rotation, at - rotation @ pivot), pivot, self.intrinsics)

    @property
    def half_field_mm(self) -> float:
        """Half of what the camera sees at the pivot's depth."""
        return self.depth_mm * max(self.intrinsics.width / self.intrinsics.fx, self.intrinsics.height / self.intrinsics.fy) / 2
