"""`CTVolume`: what the renderer needs of a CT, and nothing that identifies a person."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CTVolume:
    """Linear attenuation on a grid.

    `attenuation` [k, j, i] in 1/mm, float32, 0 in air and outside. `patient_from_voxel` maps (i, j, k, 1) to patient mm,
    float64; a sheared matrix (gantry tilt) is as good as any. `fingerprint` is a SHA-256 over geometry and HU. `hu_range` is
    what was read.
    """

    attenuation: Float[Tensor, "slices rows columns"]
    patient_from_voxel: Float[Tensor, "4 4"]
    fingerprint: str = ""
    hu_range: tuple[float, float] = (0.0, 0.0)
    warnings: tuple[str, ...] = field(default=())

    @property
    def shape_ijk(self) -> tuple[int, int, int]:
        """Voxels along (i, j, k)."""
        slices, rows, columns = self.attenuation.shape
        return columns, rows, slices

    @property
    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Lengths of the steps along (i, j, k)."""
        si, sj, sk = torch.linalg.vector_norm(self.patient_from_voxel[:3, :3], dim=0).tolist()
        return si, sj, sk

    @property
    def centre_patient(self) -> Float[Tensor, "3"]:
        """The centre of the grid in patient mm: the usual pivot."""
        middle = (torch.tensor(self.shape_ijk, dtype=torch.float64) - 1) / 2
        return self.patient_from_voxel[:3, :3] @ middle + self.patient_from_voxel[:3, 3]

    def points_patient(self, points_voxel: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Voxel indices (i, j, k) as patient mm."""
        return points_voxel @ self.patient_from_voxel[:3, :3].T + self.patient_from_voxel[:3, 3]

    def downsampled(self, factors_ijk: tuple[int, int, int]) -> "CTVolume":
        """Means over blocks of voxels (air beyond the end), with the geometry that belongs to them; for coarse scales."""
        if factors_ijk == (1, 1, 1):
            return self
        factors = factors_ijk[::-1]  # the memory's order
        padding = [p for n, f in zip(self.shape_ijk, factors_ijk, strict=True) for p in (0, -n % f)]
        padded = torch.nn.functional.pad(self.attenuation, padding)
        pooled = torch.nn.functional.avg_pool3d(padded[None, None], factors)[0, 0].contiguous()
        scale = torch.tensor(factors_ijk, dtype=torch.float64)
        coarse = torch.eye(4, dtype=torch.float64)
        coarse[:3, :3] = torch.diag(scale)
        coarse[:3, 3] = (scale - 1) / 2
        return CTVolume(pooled, self.patient_from_voxel @ coarse, self.fingerprint, self.hu_range, self.warnings)
