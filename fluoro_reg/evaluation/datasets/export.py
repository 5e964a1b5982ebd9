"""Writing cases: CTs as NIfTI, images in 16 bit, and starts that stay the same whatever else is exported."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt16

from fluoro_reg.config import option
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.cases import RegistrationCase, write_case
from fluoro_reg.evaluation.datasets.projective import View
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.geometry.pose_sampling import perturb_to_mtre
from fluoro_reg.xray.image import Intensity

Progress = Callable[[int, int], None]

_WHITE = 65535
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class StartOptions:
    """Where registrations begin."""

    start_mm: tuple[float, float] = option((10.0, 25.0), "band of the start's mTRE", unit="mm", minimum=0, maximum=200)
    seed: int = option(0, "gives the same starts again", minimum=0)


@dataclass(frozen=True, slots=True)
class ExportedCT:
    """A CT that was written: its file and the centre of its grid, about which starts are turned."""

    path: Path
    centre_patient: Float[torch.Tensor, "3"]


def new_folder(out_folder: Path | str) -> Path:
    """The folder, made if need be.

    Raises:
        InputError: it holds something already.
    """
    folder = Path(out_folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder.name} holds something already; give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_ct(
    path: Path, hu: Float32[np.ndarray, "columns rows slices"], patient_from_voxel: Float[np.ndarray, "4 4"]
) -> ExportedCT:
    """Writes HU [i, j, k], rounded to whole numbers, as NIfTI.

    Raises:
        InputError: nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise InputError('writing CTs needs nibabel: pip install "fluoro_reg[datasets]"') from error
    whole = np.clip(np.round(hu), -32768, 32767).astype(np.int16)
    image = nibabel.Nifti1Image(whole, _RAS_FROM_LPS @ patient_from_voxel)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    middle = (np.array(hu.shape) - 1) / 2
    centre = patient_from_voxel[:3, :3] @ middle + patient_from_voxel[:3, 3]
    return ExportedCT(path, torch.from_numpy(centre))


def drawn_start(
    name: str,
    camera_from_patient: RigidTransform,
    landmarks_patient: Float[torch.Tensor, "n 3"],
    pivot_patient: Float[torch.Tensor, "3"],
    options: StartOptions,
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
    view: View,
    intensity: Intensity,
    ct: ExportedCT,
    landmarks_patient: Float[np.ndarray, "n 3"],
    options: StartOptions,
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
        initial=drawn_start(folder.name, view.camera_from_patient, landmarks, ct.centre_patient, options),
        truth=view.camera_from_patient,
        landmarks_patient=landmarks,
    )
    write_case(case, _sixteen_bit(view.pixels))
    return folder


def _sixteen_bit(pixels: Float32[np.ndarray, "height width"]) -> UInt16[np.ndarray, "height width"]:
    """The whole range, with 0 where it was: what is proportional to photons or to attenuation stays so."""
    positive = np.clip(pixels, 0, None)
    return np.round(positive * (_WHITE / max(float(positive.max()), 1e-12))).astype(np.uint16)
