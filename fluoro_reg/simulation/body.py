"""The extent of a patient's body within a CT, in patient mm."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.hu_thresholds import BODY_MINIMUM_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

_QUANTILE = 0.002  # voxels beyond it are ignored: they are hands, tubes, and the couch of the scanner
_MAXIMUM_SAMPLES = 4_000_000


def body_box(
    volume: CTVolume, along_body_mm: tuple[float, float] | None = None
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Return the lowest and the highest patient coordinates (mm) of the body, along x (left), y (back) and z (up).

    Args:
        volume: The CT.
        along_body_mm: The range of z, in patient mm, within which the body is measured. By default, the whole CT.

    Raises:
        InputError: There is no body there.
    """
    threshold = float(attenuation_from_hu(np.array([BODY_MINIMUM_HU], np.float32))[0])
    stride = max(1, round((volume.attenuation.numel() / _MAXIMUM_SAMPLES) ** (1 / 3)))
    voxels = stride * torch.nonzero(volume.attenuation[::stride, ::stride, ::stride] > threshold)
    points = volume.points_patient(voxels.flip(-1).double())
    if along_body_mm is not None:
        points = points[(points[:, 2] >= along_body_mm[0]) & (points[:, 2] <= along_body_mm[1])]
    if len(points) == 0:
        raise InputError("the CT contains no body at the height of the view; give a CT of the region of interest")
    low, high = (np.quantile(points.numpy(), quantile, axis=0) for quantile in (_QUANTILE, 1 - _QUANTILE))
    return torch.from_numpy(low), torch.from_numpy(high)
