"""Writing cases: CTs as NIfTI, images in 16 bit, and starts that stay the same whatever else is exported."""

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

_WHITE = 65535


@dataclass(frozen=True, slots=True)
class InitialPoseOptions:
    """Where registrations begin."""

    start_mm: tuple[float, float] = option((10.0, 25.0), "band of the start's mTRE", unit="mm", minimum=0, maximum=200)
    seed: int = option(0, "gives the same starts again", minimum=0)


def random_initial_pose(
    name: str,
    camera_from_patient: RigidTransform,
    landmarks_patient: Float[torch.Tensor, "n 3"],
    pivot_patient: Float[torch.Tensor, "3"],
    options: InitialPoseOptions,
) -> RigidTransform:
    """The start of the case of this name: off the true pose by an mTRE from the band, drawn from the seed and the name alone.

    Raises:
        InputError: the band of starts runs from more to less.
    """
    low, high = options.start_mm
    if low > high:
        raise InputError(f"the start's band must run from less to more mTRE, got {low} to {high} mm")
    generator = torch.Generator().manual_seed(zlib.crc32(f"{options.seed} {name}".encode()))
    start_mm = low + (high - low) * torch.rand(1, generator=generator).item()
    return perturb_to_mtre(camera_from_patient, landmarks_patient, start_mm, pivot_patient, generator)


def write_view(
    folder: Path,
    view: DatasetView,
    intensity: Intensity,
    ct: ExportedCT,
    landmarks_patient: Float[np.ndarray, "n 3"],
    options: InitialPoseOptions,
) -> Path:
    """Writes one case.

    Raises:
        InputError: the band of starts runs from more to less.
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
    write_case(case, _sixteen_bit(view.pixels))
    return folder


def _sixteen_bit(pixels: Float32[np.ndarray, "height width"]) -> UInt16[np.ndarray, "height width"]:
    """The whole range, with 0 where it was: what is proportional to photons or to attenuation stays so."""
    positive = np.clip(pixels, 0, None)
    return np.round(positive * (_WHITE / max(float(positive.max()), 1e-12))).astype(np.uint16)
