"""Conversion of a grid of Hounsfield units to a `CTVolume`. Every reader and the phantom use it.

It contains the checks that do not depend on a file format (finite values, a reasonable size, a plausible spacing), the
fingerprint, and the warnings that matter to a user: clipped metal, a body that extends beyond the field of view, values that
are not HU. The HU are converted to attenuation in place and not kept.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Float32

from fluoro_reg.ct.attenuation import AIR_HU, attenuation_from_hu
from fluoro_reg.ct.calibration import calibrate
from fluoro_reg.ct.hu_thresholds import (
    AIR_OR_LUNG_MAXIMUM_HU,
    BODY_MINIMUM_HU,
    CLIPPED_HU,
    MAXIMUM_HU,
    NO_BONE_MAXIMUM_HU,
    PADDING_MAXIMUM_HU,
)
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

MAX_VOXELS = 2**29  # 512 x 512 x 2048: 2 GiB as float32, and voxel indices stay within 32 bits
MIN_VOXELS_PER_AXIS = 3
_PLAUSIBLE_VOXEL_MM = (0.01, 50.0)
_TRUNCATED_FRACTION = 0.02
_DEFAULTS = ((1.0, 1.0, 1.0, 1.0), (-1.0, -1.0, 1.0, 1.0))


def check_size(shape: Sequence[int], where: str) -> None:
    """Reject grids that are not a volume or are too large. Call it before pixels are decoded, as a guard against zip bombs.

    `where` names the grid in error messages.

    Raises:
        InputError: The shape is not that of a CT volume.
    """
    size = " x ".join(str(n) for n in shape)
    if len(shape) != 3:
        raise InputError(f"{where} has {len(shape)} dimensions ({size}); give one CT volume with 3 dimensions")
    if min(shape) < MIN_VOXELS_PER_AXIS:
        raise InputError(
            f"{where} is {size} voxels, which is not a volume; give at least {MIN_VOXELS_PER_AXIS} along each axis"
        )
    if np.prod([float(n) for n in shape]) > MAX_VOXELS:
        raise InputError(f"{where} is {size} voxels, more than {MAX_VOXELS} in total; crop it or resample it to larger voxels")


def check_affine(patient_from_voxel: Float[np.ndarray, "4 4"], where: str) -> None:
    """Reject a geometry with NaN, a singular matrix, or voxels whose size cannot be in millimetres.

    Raises:
        InputError: The affine is not the geometry of a CT.
    """
    advice = "export the CT again with its geometry"
    linear = patient_from_voxel[:3, :3]
    if not np.isfinite(patient_from_voxel).all() or not np.allclose(patient_from_voxel[3], [0, 0, 0, 1]):
        raise InputError(f"the geometry of {where} is not finite; {advice}")
    steps = np.linalg.norm(linear, axis=0)
    if steps.min() == 0 or abs(np.linalg.det(linear / steps)) < 1e-3:
        raise InputError(f"the geometry of {where} is singular (its axes do not span space); {advice}")
    low, high = _PLAUSIBLE_VOXEL_MM
    if steps.min() < low or steps.max() > high:
        sizes = " x ".join(f"{step:.4g}" for step in steps)
        raise InputError(f"the voxels of {where} measure {sizes} mm, outside {low} to {high} mm; check the unit, or {advice}")


def volume_from_hu(
    hu: Float32[np.ndarray, "slices rows columns"],
    patient_from_voxel: Float[np.ndarray, "4 4"],
    where: str = "the CT",
    warnings: Sequence[str] = (),
    is_calibrated: bool = True,
) -> CTVolume:
    """Convert HU to a `CTVolume`.

    Args:
        hu: HU [k, j, i]. The array is overwritten with the attenuation.
        patient_from_voxel: Maps (i, j, k, 1) to patient mm.
        where: Name of the CT in error messages.
        warnings: Warnings of the reader, to which those of this function are added.
        is_calibrated: Whether the values claim to be HU. Others are mapped to HU by the levels of air and tissue.

    Raises:
        InputError: The size, the geometry or the values are not those of a CT in HU.
    """
    check_size(hu.shape, where)
    check_affine(patient_from_voxel, where)
    if not np.isfinite(hu).all():
        fraction = 1 - np.isfinite(hu).mean()
        raise InputError(f"{fraction:.2%} of {where}'s voxels are NaN or infinite; replace them by air (-1000 HU)")
    value_warnings = [] if is_calibrated else calibrate(hu)
    hu[hu < PADDING_MAXIMUM_HU] = AIR_HU
    hu_range = (float(hu.min()), float(hu.max()))
    if hu_range[1] > MAXIMUM_HU:
        raise InputError(
            f"{where} reaches {hu_range[1]:.0f} HU, which no material does: negative values were stored or declared as "
            "unsigned (PixelRepresentation), or the rescaling is wrong; export it again"
        )
    value_warnings += _value_warnings(*hu_range)
    all_warnings = (
        *warnings,
        *value_warnings,
        *_geometry_warnings(patient_from_voxel),
        *_density_warnings(hu, hu_range[1]),
        *_truncation_warnings(hu),
    )
    fingerprint = _fingerprint(hu, patient_from_voxel)
    with ThreadPoolExecutor() as pool:  # interpolation releases the GIL
        list(pool.map(_to_attenuation, hu))
    if not hu.any():
        raise InputError(
            f"{where} contains nothing denser than air (HU {hu_range[0]:.0f} to {hu_range[1]:.0f}); give a CT in HU"
        )
    matrix = torch.from_numpy(np.asarray(patient_from_voxel, dtype=np.float64).copy())
    return CTVolume(torch.from_numpy(np.ascontiguousarray(hu)), matrix, fingerprint, hu_range, all_warnings, not value_warnings)


def _to_attenuation(plane: Float32[np.ndarray, "rows columns"]) -> None:
    plane[...] = attenuation_from_hu(plane)


def _fingerprint(hu: Float32[np.ndarray, "slices rows columns"], patient_from_voxel: Float[np.ndarray, "4 4"]) -> str:
    """Return the SHA-256 over the shape, the geometry to 1e-4 mm and the HU to 0.01; adding 0 turns -0 into 0."""
    digest = hashlib.sha256(np.asarray(hu.shape, dtype="<i8").tobytes())
    digest.update((np.round(patient_from_voxel, 4) + 0.0).astype("<f8").tobytes())
    for plane in hu:
        digest.update((np.round(plane, 2) + np.float32(0)).astype("<f4").tobytes())
    return digest.hexdigest()


def _value_warnings(low: float, high: float) -> list[str]:
    """Return what speaks against the values being HU; they have to show air and bone."""
    if low >= 0 and high <= 1.5:
        return [f"all values lie in {low:.3g} to {high:.3g}: these cannot be HU; is the CT normalised, or a mask?"]
    if low > AIR_OR_LUNG_MAXIMUM_HU:
        return [f"the minimum is {low:.0f}, so there is no air (-1000 HU); is the CT in HU?"]
    if high < NO_BONE_MAXIMUM_HU:
        return [f"the maximum is {high:.0f} HU, so there is no bone; is the CT in HU?"]
    return []


def _geometry_warnings(patient_from_voxel: Float[np.ndarray, "4 4"]) -> list[str]:
    """Recognise what programs write for an array without a geometry: the identity in LPS or in RAS."""
    if not any(np.allclose(patient_from_voxel, np.diag(signs), atol=1e-6) for signs in _DEFAULTS):
        return []
    return [
        "voxels of exactly 1 mm along the patient's axes, with the first at the origin, are what programs write for an array "
        "without geometry; check that this is the geometry of the CT"
    ]


def _density_warnings(hu: Float32[np.ndarray, "slices rows columns"], high: float) -> list[str]:
    if CLIPPED_HU[0] <= high <= CLIPPED_HU[1] and np.count_nonzero(hu == high) > 1:
        return [f"dense objects are clipped at {high:.0f} HU"]
    return [f"metal or other very dense objects: up to {high:.0f} HU"] if high > CLIPPED_HU[1] else []


def _truncation_warnings(hu: Float32[np.ndarray, "slices rows columns"]) -> list[str]:
    faces = {"first column": hu[:, :, 0], "last column": hu[:, :, -1], "first row": hu[:, 0], "last row": hu[:, -1]}
    cut = [name for name, face in faces.items() if np.mean(face > BODY_MINIMUM_HU) > _TRUNCATED_FRACTION]
    if not cut or hu.min() > AIR_OR_LUNG_MAXIMUM_HU:
        return []
    return [f"the body extends beyond the field of view at the {', '.join(cut)}: X-rays through it lack tissue"]
