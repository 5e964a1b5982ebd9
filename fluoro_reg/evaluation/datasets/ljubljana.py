"""Export of Ljubljana: cerebral angiograms of ten patients in two views each, with 3-D DSA and true poses from markers.

U. Mitrovic, Z. Spiclin, B. Likar, F. Pernus, "3D-2D registration of cerebral angiograms: a method and evaluation on clinical
images", IEEE TMI 32(8), 2013. The file `ljubljana.h5` is the data set 3D-2D-GS-CA as packed by the author of DiffPose.

The file is not documented. The layout is inferred from its two public loaders (eigenvivek/DiffPose,
eigenvivek/DiffDRR-Datasets) and their published overlays: pixel ~ K E x with x in the file's world frame (mm), in which
`points` lie on vessels. Voxels are stored [x, y, z] with the first axis running against x, since both loaders reverse it.
`origin` is the centre of the voxel with the smallest coordinates. This is checked: the points must lie on denser voxels than
with the first axis reversed. `patient` in these cases is the world frame, whose axes are not known to be LPS.

The X-rays are subtracted images that show only vessels. The exported CT shows only vessels too: values below `vessels_above`
become air. A DSA is a difference of logarithms, linear in the thickness of the contrast medium. It is exported as attenuation
with background 0. Residues brighter than the background, which come from patient motion, are set to the background.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from fluoro_reg.config import option, section
from fluoro_reg.ct.attenuation import AIR_HU
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.datasets.export import InitialPoseOptions, write_dataset_case
from fluoro_reg.evaluation.datasets.hdf5 import open_hdf5, read_array, read_group
from fluoro_reg.evaluation.datasets.projective import DatasetView, convert_view
from fluoro_reg.formats.folders import create_empty_folder
from fluoro_reg.formats.nifti import ExportedCT, write_ct
from fluoro_reg.progress import Progress
from fluoro_reg.xray.image import Intensity

SUBJECTS = tuple(f"subject{n:02d}" for n in range(1, 11))
VIEWS = ("ap", "lat", "ap-max", "lat-max")


@dataclass(frozen=True, slots=True)
class LjubljanaOptions:
    """Options of the export."""

    subjects: tuple[str, ...] = option(SUBJECTS, "patients, named as in the file", choices=SUBJECTS)
    views: tuple[str, ...] = option(("ap", "lat"), "views; -max are the frames with maximum contrast filling", choices=VIEWS)
    vessels_above: float = option(1000.0, "minimum value of a vessel voxel", minimum=-1000, maximum=32767)
    start: InitialPoseOptions = section(InitialPoseOptions)


def cases_from_ljubljana(
    file: Path | str, out_folder: Path | str, options: LjubljanaOptions | None = None, progress: Progress | None = None
) -> list[Path]:
    """Write a case folder `<subject>_<view>` for each view and a `ct_<subject>.nii` for each patient into a new folder.

    Args:
        file: The file `ljubljana.h5`.
        out_folder: The folder to write, new or empty.
        options: What to export.
        progress: Called after each case.

    Returns:
        The case folders.

    Raises:
        InputError: The file is incomplete or has another layout (the message names the missing part), an optional dependency is
            not installed, or the folder is not empty.
    """
    options = options or LjubljanaOptions()
    written: list[Path] = []
    with open_hdf5(file) as data:
        groups = {subject: read_group(data, subject) for subject in options.subjects}
        folder, total = create_empty_folder(out_folder), len(groups) * len(options.views)
        for subject, group in groups.items():
            points = read_array(group, "points", (None, 3))
            ct = _write_ct(group, folder / f"ct_{subject}.nii", points, options.vessels_above)
            for name in options.views:
                view = _view(read_group(group, f"proj-{name}"), f"view {subject}/{name}")
                case = folder / f"{subject}_{name}"
                written.append(write_dataset_case(case, view, Intensity.ATTENUATION, ct, points, options.start))
                if progress is not None:
                    progress(len(written), total)
    return written


def _write_ct(subject: Any, path: Path, points: Float[np.ndarray, "n 3"], vessels_above: float) -> ExportedCT:
    group = read_group(subject, "volume")
    values = read_array(group, "pixels", (None, None, None), np.float32)[::-1]
    spacing, origin = read_array(group, "spacing", (3,)), read_array(group, "origin", (3,))
    _check_points(values, (points - origin) / spacing, subject.name)
    world_from_voxel = np.diag([*spacing, 1.0])
    world_from_voxel[:3, 3] = origin
    return write_ct(path, np.where(values >= vessels_above, values, np.float32(AIR_HU)), world_from_voxel)


def _check_points(values: Float32[np.ndarray, "x y z"], points_voxel: Float[np.ndarray, "n 3"], subject: str) -> None:
    nearest = np.clip(np.round(points_voxel).astype(int), 0, np.array(values.shape) - 1)
    x, y, z = nearest.T
    if np.mean(values[x, y, z]) <= np.mean(values[::-1][x, y, z]):
        raise InputError(
            f"the points of {subject[1:]} do not lie on the vessels of its volume, so the file has another layout; download "
            "the published file"
        )


def _view(group: Any, where: str) -> DatasetView:
    pixels = read_array(group, "pixels", (None, None), np.float32)
    return convert_view(
        np.median(pixels) - pixels,  # residues become negative and are written as 0
        read_array(group, "intrinsic", (3, 3)),
        read_array(group, "extrinsic", (4, 4)),
        (float(read_array(group, "col-spacing", ())), float(read_array(group, "row-spacing", ()))),
        where,
    )
