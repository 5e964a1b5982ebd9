"""`CTVolume`: the attenuation and geometry of a CT. It contains nothing that identifies a patient."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CTVolume:
    """Linear attenuation on a regular grid.

    Attributes:
        attenuation: [k, j, i] in 1/mm, float32; 0 in air and outside the body.
        patient_from_voxel: Maps (i, j, k, 1) to patient mm, float64. It may be sheared, as with a tilted gantry.
        fingerprint: SHA-256 over geometry and HU.
        hu_range: Minimum and maximum HU that were read.
        warnings: Sentences for the user.
        is_hu: Whether the values are HU, by what the file states and by the air and bone that they show.
    """

    attenuation: Float[Tensor, "slices rows columns"]
    patient_from_voxel: Float[Tensor, "4 4"]
    fingerprint: str = ""
    hu_range: tuple[float, float] = (0.0, 0.0)
    warnings: tuple[str, ...] = field(default=())
    is_hu: bool = True

    @property
    def shape_ijk(self) -> tuple[int, int, int]:
        """Number of voxels along (i, j, k)."""
        slices, rows, columns = self.attenuation.shape
        return columns, rows, slices

    @property
    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Voxel size along (i, j, k), in mm."""
        si, sj, sk = torch.linalg.vector_norm(self.patient_from_voxel[:3, :3], dim=0).tolist()
        return si, sj, sk

    @property
    def centre_patient(self) -> Float[Tensor, "3"]:
        """Centre of the grid in patient mm, the usual pivot."""
        middle = (torch.tensor(self.shape_ijk, dtype=torch.float64) - 1) / 2
        return self.patient_from_voxel[:3, :3] @ middle + self.patient_from_voxel[:3, 3]

    def points_patient(self, points_voxel: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Convert voxel coordinates (i, j, k) to patient mm."""
        return points_voxel @ self.patient_from_voxel[:3, :3].T + self.patient_from_voxel[:3, 3]

    def downsampled(self, factors_ijk: tuple[int, int, int]) -> "CTVolume":
        """Return the means over blocks of voxels, padded with air, with the geometry of the blocks."""
        if factors_ijk == (1, 1, 1):
            return self
        factors = factors_ijk[::-1]  # memory order
        padding = [p for n, f in zip(self.shape_ijk, factors_ijk, strict=True) for p in (0, -n % f)]
        padded = torch.nn.functional.pad(self.attenuation, padding) if any(padding) else self.attenuation
        pooled = torch.nn.functional.avg_pool3d(padded[None, None], factors)[0, 0].contiguous()
        scale = torch.tensor(factors_ijk, dtype=torch.float64)
        coarse = torch.eye(4, dtype=torch.float64)
        coarse[:3, :3] = torch.diag(scale)
        coarse[:3, 3] = (scale - 1) / 2
        return replace(self, attenuation=pooled, patient_from_voxel=self.patient_from_voxel @ coarse)
