"""Writing the cases of a data set: 16-bit images, and random initial poses that do not depend on what else is exported."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt16

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.config import option
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.datasets.projective import DatasetView
from fluoro_reg.formats.cases import RegistrationCase, write_case
from fluoro_reg.formats.nifti import ExportedCT
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.xray.image import Intensity

_FULL_SCALE = 65535


@dataclass(frozen=True, slots=True)
class InitialPoseOptions:
    """Options of the random initial poses."""

    start_mm: tuple[float, float] = option((10.0, 25.0), "band of the initial pose's mTRE", unit="mm", minimum=0, maximum=200)
    seed: int = option(0, "seed; the same seed gives the same initial poses", minimum=0)


def random_initial_pose(
    name: str,
    camera_from_patient: RigidTransform,
    landmarks_patient: Float[torch.Tensor, "n 3"],
    pivot_patient: Float[torch.Tensor, "3"],
    options: InitialPoseOptions,
) -> RigidTransform:
    """Return a random initial pose of a case, which depends on the seed and the case's name only.

    Args:
        name: Name of the case.
        camera_from_patient: The true pose.
        landmarks_patient: Target points in patient mm.
        pivot_patient: The point that the pose is rotated about, patient mm.
        options: Band of mTRE, from which the error is sampled uniformly, and seed.

    Raises:
        InputError: The lower bound of the band is above its upper bound.
    """
    low, high = options.start_mm
    if low > high:
        raise InputError(f"the band of the initial mTRE must be [low, high] with low <= high, got {low} to {high} mm")
    generator = torch.Generator().manual_seed(zlib.crc32(f"{options.seed} {name}".encode()))
    start_mm = low + (high - low) * torch.rand(1, generator=generator).item()
    return perturb_to_mtre(camera_from_patient, landmarks_patient, start_mm, pivot_patient, generator)


def write_dataset_case(
    folder: Path,
    view: DatasetView,
    intensity: Intensity,
    ct: ExportedCT,
    landmarks_patient: Float[np.ndarray, "n 3"],
    options: InitialPoseOptions,
) -> Path:
    """Write a case folder with a random initial pose, and return it.

    Raises:
        InputError: The lower bound of the band is above its upper bound.
    """
    landmarks = torch.from_numpy(landmarks_patient)
    case = RegistrationCase(
        folder=folder,
        ct=ct.path,
        image=folder / "image.png",
        intensity=intensity,
        intrinsics=view.intrinsics,
        initial=random_initial_pose(folder.name, view.camera_from_patient, landmarks, ct.centre_patient, options),
        truth=view.camera_from_patient,
        landmarks_patient=landmarks,
    )
    write_case(case, _to_16_bit(view.pixels))
    return folder


def _to_16_bit(pixels: Float32[np.ndarray, "height width"]) -> UInt16[np.ndarray, "height width"]:
    """Scale to the full range of 16 bits and keep 0, so that values stay proportional to photons or to attenuation."""
    positive = np.clip(pixels, 0, None)
    return np.round(positive * (_FULL_SCALE / max(float(positive.max()), 1e-12))).astype(np.uint16)
