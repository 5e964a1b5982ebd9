"""The numbers of a volume file as they are stored, before anything is known of their meaning: HU of a CT, or labels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32


@dataclass(frozen=True, slots=True)
class RawGrid:
    """Numbers [k, j, i] on a regular grid; `patient_from_voxel` maps (i, j, k, 1) to patient mm."""

    values: Float32[np.ndarray, "slices rows columns"]
    patient_from_voxel: Float[np.ndarray, "4 4"]
    warnings: tuple[str, ...] = ()
