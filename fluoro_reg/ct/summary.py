"""The summary of a CT that `fluoro-reg ct-info` prints. It contains nothing that identifies a patient."""

from itertools import permutations
from typing import Any

import numpy as np
from jaxtyping import Float64

from fluoro_reg.ct.volume import CTVolume

_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))  # directions of decreasing and increasing x, y, z of the patient (LPS)
_MAXIMUM_ANISOTROPY = 4.0


def summarise(volume: CTVolume) -> dict[str, Any]:
    """Return geometry, HU range, fingerprint and warnings, ready for JSON.

    Lengths are in mm along the voxel axes (i, j, k) = (column, row, slice).
    """
    linear = volume.patient_from_voxel[:3, :3].numpy()
    sizes = np.array(volume.voxel_size_mm)
    axes = linear / sizes
    nearest = _nearest_patient_axes(axes)
    return {
        "shape_ijk": list(volume.shape_ijk),
        "voxel_size_mm": _rounded(sizes),
        "extent_mm": _rounded(sizes * volume.shape_ijk),
        "orientation": "".join(_LETTERS[row][int(axes[row, column] > 0)] for column, row in enumerate(nearest)),
        "obliqueness_deg": _rounded(max(_degrees(abs(axes[row, column])) for column, row in enumerate(nearest))),
        "tilt_deg": _rounded(max(90.0 - _degrees(abs(axes[:, a] @ axes[:, b])) for a, b in ((0, 1), (0, 2), (1, 2)))),
        "centre_patient_mm": _rounded(volume.centre_patient.numpy()),
        "patient_from_voxel": _rounded(volume.patient_from_voxel.numpy(), 6),
        "hu_range": _rounded(np.array(volume.hu_range), 1),
        "air_share": _rounded((volume.attenuation == 0).double().mean().item(), 4),
        "fingerprint": volume.fingerprint,
        "warnings": [*volume.warnings, *_anisotropy_warnings(sizes)],
    }


def _nearest_patient_axes(axes: Float64[np.ndarray, "3 3"]) -> tuple[int, ...]:
    """Return for each voxel axis the patient axis that is nearest to it; each patient axis is used once."""
    return max(permutations(range(3)), key=lambda rows: sum(abs(axes[row, column]) for column, row in enumerate(rows)))


def _anisotropy_warnings(sizes: Float64[np.ndarray, "3"]) -> list[str]:
    ratio = float(sizes.max() / sizes.min())
    if ratio < _MAXIMUM_ANISOTROPY:
        return []
    return [f"coarse slices: steps of {sizes.max():.2f} mm, {ratio:.0f} times the pixel size; thinner slices register better"]


def _degrees(cosine: float) -> float:
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _rounded(value: Any, digits: int = 3) -> Any:
    return (np.round(value, digits) + 0.0).tolist()
