"""Label maps: segmentations in which every voxel holds the number of what it belongs to, 0 for nothing.

A segmentation is often made on another grid than the CT: cropped, resampled to other voxels, or with other axes. Its numbers
must not be mixed, so that each voxel of the CT takes the number of the nearest voxel of the segmentation.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from fluoro_reg.ct.dicom.files import has_dicom_prefix, looks_like_dicom
from fluoro_reg.ct.hounsfield import check_affine, check_size
from fluoro_reg.ct.raw_grid import RawGrid
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.ct.volume_files import VOLUME_FORMATS, holds_volume, is_volume_file, read_grid
from fluoro_reg.errors import InputError

_WHOLE_TOLERANCE = 1e-3
_MAXIMUM_LABEL = 1_000_000


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Labels [k, j, i]; `patient_from_voxel` maps (i, j, k, 1) to patient mm, float64."""

    labels: Int32[Tensor, "slices rows columns"]
    patient_from_voxel: Float[Tensor, "4 4"]

    def on_grid_of(self, ct: CTVolume) -> Int32[Tensor, "slices rows columns"]:
        """The label of every voxel of a CT: that of the nearest voxel, and 0 outside the label map.

        Raises:
            InputError: No labelled voxel lies within the CT.
        """
        same = self.labels.shape == ct.attenuation.shape and torch.allclose(
            self.patient_from_voxel, ct.patient_from_voxel, atol=1e-3
        )
        found = self.labels if same else self._resampled(ct)
        if not bool((found > 0).any()):
            low, high = (point.tolist() for point in self._bounds())
            box = " and ".join("(" + ", ".join(f"{value:.0f}" for value in corner) + ")" for corner in (low, high))
            raise InputError(
                f"no label lies within the CT: the label map's box has the corners {box} mm in patient coordinates; give the "
                "segmentation of this CT"
            )
        return found

    def _resampled(self, ct: CTVolume) -> Int32[Tensor, "slices rows columns"]:
        label_from_voxel = torch.linalg.inv(self.patient_from_voxel) @ ct.patient_from_voxel
        i, j = (torch.arange(n, dtype=torch.float64) for n in ct.shape_ijk[:2])
        plane = label_from_voxel[:3, 0] * i[:, None] + label_from_voxel[:3, 1] * j[:, None, None] + label_from_voxel[:3, 3]
        size = torch.tensor(self.labels.shape[::-1])
        planes = []
        for k in range(ct.shape_ijk[2]):
            nearest = (plane + k * label_from_voxel[:3, 2]).round().long()
            inside = ((nearest >= 0) & (nearest < size)).all(-1)
            column, row, page = nearest.clamp_min(0).minimum(size - 1).unbind(-1)
            planes.append(torch.where(inside, self.labels[page, row, column], 0))
        return torch.stack(planes).to(torch.int32)

    def _bounds(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        last = torch.tensor(self.labels.shape[::-1], dtype=torch.float64) - 1
        corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3) * last
        points = corners @ self.patient_from_voxel[:3, :3].T + self.patient_from_voxel[:3, 3]
        return points.amin(0), points.amax(0)


def read_label_map(path: str | os.PathLike[str]) -> LabelMap:
    """Read a segmentation from NIfTI, NRRD, MetaImage or DICOM SEG.

    Raises:
        InputError: The file cannot be read, its geometry is not known, or it does not hold whole numbers from 0.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no segmentation at '{path.name or path}'; check the path")
    grid, where = _read_grid(path), f"'{path.name}'"
    check_size(grid.values.shape, where)
    check_affine(grid.patient_from_voxel, where)
    whole = np.round(grid.values)
    is_labels = np.isfinite(grid.values).all() and float(np.abs(grid.values - whole).max()) <= _WHOLE_TOLERANCE
    if not is_labels or whole.min() < 0 or whole.max() > _MAXIMUM_LABEL:
        raise InputError(f"{where} does not hold labels (whole numbers from 0); give a segmentation, not a CT or probabilities")
    return LabelMap(
        torch.from_numpy(whole.astype(np.int32)), torch.from_numpy(np.asarray(grid.patient_from_voxel, dtype=np.float64).copy())
    )


def _read_grid(path: Path) -> RawGrid:
    if has_dicom_prefix(path) or (looks_like_dicom(path) and not holds_volume(path)):
        from fluoro_reg.ct.dicom.segmentation import read_dicom_segmentation  # imported here, as pydicom takes a moment

        return read_dicom_segmentation(path)
    if not (is_volume_file(path) or holds_volume(path)):
        raise InputError(f"'{path.name}' is not a readable segmentation; give {VOLUME_FORMATS}, or a DICOM SEG")
    return read_grid(path)
