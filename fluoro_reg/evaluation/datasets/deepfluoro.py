"""Export of DeepFluoro: 366 fluoroscopic images of six cadaveric pelves, with CTs and true poses.

R. B. Grupp et al., "Automatic annotation of hip anatomy in fluoroscopy for robust and efficient 2D/3D registration", IJCARS 15
(2020) 759; data doi:10.7281/T1/IFSXNV, the full-resolution file `ipcai_2020_full_res_data.h5`, whose layout its authors
document (hdf5_layouts/Readme.md of rg2/DeepFluoroLabeling-IPCAI2020).

A point in CT coordinates (LPS, mm) projects to its pixel by K E inv(C). C is the view's `cam-to-pelvis-vol`; the frame that it
calls camera is a world frame, which E, `extrinsic`, maps to the X-ray source. This is checked for every view: the landmarks of
the CT must project to the file's `gt-landmarks`. Images are transmitted intensities. They are rotated by 180 degrees if
`rot-180-for-up` is set, cropped by the collimator's border, and mirrored (`projective`).

The true poses are those of the pelvis. The femurs in the same CT have moved since; `femurs = False` replaces them with muscle.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fluoro_reg.config import option, section
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.datasets.export import InitialPoseOptions, write_dataset_case
from fluoro_reg.evaluation.datasets.hdf5 import open_hdf5, read_array, read_group
from fluoro_reg.evaluation.datasets.projective import DatasetView, convert_view, project_points
from fluoro_reg.formats.folders import create_empty_folder
from fluoro_reg.formats.nifti import ExportedCT, write_ct
from fluoro_reg.progress import Progress
from fluoro_reg.xray.image import Intensity

SPECIMENS = ("17-1882", "18-1109", "18-0725", "18-2799", "18-2800", "17-1905")  # 1 to 6 in publications
DOUBTFUL_VIEWS = {"17-1882": ("003", "050"), "18-2799": ("002", "004")}  # excluded from the evaluation of xvr
_FEMURS, _MUSCLE_HU = (5, 6), 50.0
_MAXIMUM_LANDMARK_ERROR_PX = 5.0


@dataclass(frozen=True, slots=True)
class DeepFluoroOptions:
    """Options of the export."""

    specimens: tuple[str, ...] = option(SPECIMENS, "specimens, named as in the file", choices=SPECIMENS)
    doubtful: bool = option(True, "keep the four views with a doubtful true pose; report it with any results")
    femurs: bool = option(True, "keep the femurs, at their position in the CT")
    border_px: int = option(50, "width of the border to crop, which shows the collimator", unit="px", minimum=0)
    start: InitialPoseOptions = section(InitialPoseOptions)


@dataclass(frozen=True, slots=True)
class _Camera:
    """The camera of all views; `camera_from_world` is the file's extrinsic, `spacing_mm` is (column, row)."""

    intrinsic: Float[np.ndarray, "3 3"]
    camera_from_world: Float[np.ndarray, "4 4"]
    size: tuple[int, int]
    spacing_mm: tuple[float, float]


def cases_from_deepfluoro(
    file: Path | str, out_folder: Path | str, options: DeepFluoroOptions | None = None, progress: Progress | None = None
) -> list[Path]:
    """Write a case folder `<specimen>_<view>` for each view and a `ct_<specimen>.nii` for each specimen into a new folder.

    Args:
        file: The full-resolution HDF5 file.
        out_folder: The folder to write, new or empty.
        options: What to export.
        progress: Called after each case.

    Returns:
        The case folders.

    Raises:
        InputError: The file is incomplete or another one (the message names the missing part), an optional dependency is not
            installed, or the folder is not empty.
    """
    options = options or DeepFluoroOptions()
    written: list[Path] = []
    with open_hdf5(file) as data:
        camera = _camera(data)
        views = {name: _view_names(data, name, options.doubtful) for name in options.specimens}
        folder, total = create_empty_folder(out_folder), sum(map(len, views.values()))
        for specimen, names in views.items():
            group = read_group(data, specimen)
            landmarks = _landmarks(group)
            ct = _write_ct(group, folder / f"ct_{specimen}.nii", options.femurs)
            for name in names:
                view = _view(read_group(group, f"projections/{name}"), camera, landmarks, f"view {specimen}/{name}")
                points = np.stack(list(landmarks.values()))
                case, cut = folder / f"{specimen}_{name}", view.without_border(options.border_px)
                written.append(write_dataset_case(case, cut, Intensity.TRANSMITTED, ct, points, options.start))
                if progress is not None:
                    progress(len(written), total)
    return written


def _camera(data: Any) -> _Camera:
    group = read_group(data, "proj-params")
    rows, columns = (int(read_array(group, name, ())) for name in ("num-rows", "num-cols"))
    across, down = (float(read_array(group, f"pixel-{name}-spacing", ())) for name in ("col", "row"))
    return _Camera(
        read_array(group, "intrinsic", (3, 3)), read_array(group, "extrinsic", (4, 4)), (rows, columns), (across, down)
    )


def _view_names(data: Any, specimen: str, doubtful: bool) -> list[str]:
    excluded = () if doubtful else DOUBTFUL_VIEWS.get(specimen, ())
    return [name for name in sorted(read_group(data, f"{specimen}/projections")) if name not in excluded]


def _landmarks(specimen: Any) -> dict[str, Float[np.ndarray, "3"]]:
    """Return the named landmarks of the CT, LPS mm."""
    group = read_group(specimen, "vol-landmarks")
    if not len(group):
        raise InputError(
            f"{group.name} in the data set has no landmarks, so errors cannot be measured; download the file again"
        )
    return {name: read_array(group, name, (3,)) for name in sorted(group)}


def _write_ct(specimen: Any, path: Path, femurs: bool) -> ExportedCT:
    group = read_group(specimen, "vol")
    hu = read_array(group, "pixels", (None, None, None), np.float32)
    if not femurs:
        labels = read_array(specimen, "vol-seg/image/pixels", hu.shape, np.uint8)
        hu[np.isin(labels, _FEMURS)] = _MUSCLE_HU
    patient_from_voxel = np.eye(4)
    patient_from_voxel[:3, :3] = read_array(group, "dir-mat", (3, 3)) * read_array(group, "spacing", (3,))
    patient_from_voxel[:3, 3] = read_array(group, "origin", (3,))
    return write_ct(path, hu.transpose(2, 1, 0), patient_from_voxel)


def _view(group: Any, camera: _Camera, landmarks: dict[str, Float[np.ndarray, "3"]], where: str) -> DatasetView:
    patient_from_world = read_array(group, "gt-poses/cam-to-pelvis-vol", (4, 4))
    camera_from_patient = camera.camera_from_world @ np.linalg.inv(patient_from_world)
    _check_landmarks(read_group(group, "gt-landmarks"), camera, camera_from_patient, landmarks, where)
    return convert_view(
        read_array(group, "image/pixels", camera.size, np.float32),
        camera.intrinsic,
        camera_from_patient,
        camera.spacing_mm,
        where,
        upside_down=bool(read_array(group, "rot-180-for-up", ())),
    )


def _check_landmarks(
    group: Any,
    camera: _Camera,
    camera_from_patient: Float[np.ndarray, "4 4"],
    landmarks: dict[str, Float[np.ndarray, "3"]],
    where: str,
) -> None:
    """Check that the median landmark projects to its annotated pixel; with wrong poses or axes, hardly any landmark would."""
    common = [name for name in landmarks if name in group]
    if not common:
        raise InputError(
            f"{where} has no annotation of the CT's landmarks, so its pose cannot be checked; download the file again"
        )
    annotated = np.stack([read_array(group, name, (2,)) for name in common])
    pixels = project_points(np.stack([landmarks[name] for name in common]), camera.intrinsic, camera_from_patient)
    error_px = float(np.median(np.linalg.norm(pixels - annotated, axis=1)))
    if error_px > _MAXIMUM_LANDMARK_ERROR_PX:
        raise InputError(
            f"the CT's landmarks project {error_px:.0f} px away from those of {where}, so the poses are not those of the "
            "published file; download it again"
        )
