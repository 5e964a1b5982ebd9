"""Ljubljana: cerebral angiograms of ten patients in two views each, with 3-D DSA and true poses from markers, as cases.

U. Mitrovic, Z. Spiclin, B. Likar, F. Pernus, "3D-2D registration of cerebral angiograms: a method and evaluation on clinical
images", IEEE TMI 32(8), 2013; here from `ljubljana.h5`, into which DiffPose's author packed the data set 3D-2D-GS-CA.

The file documents nothing. What is assumed comes from its two public loaders (eigenvivek/DiffPose, eigenvivek/DiffDRR-Datasets)
and the overlays they publish: pixel ~ K E x with x in the file's world (mm), where `points` lie on vessels; voxels are stored
[x, y, z], the first axis running against x, for both loaders turn it round; `origin` is the centre of the voxel with the
smallest coordinates. It is checked: points must lie on denser voxels so than otherwise. `patient` in these cases is that world,
whose axes are not known to be LPS.

The X-rays are subtracted: they show vessels alone. So does the CT here: below `vessels_above` it is air. A DSA is a difference
of logarithms, linear in the contrast medium's thickness, and is written as attenuation, background 0. Residues brighter than
the background, where the patient moved, become background.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from fluoro_reg.config import option, section
from fluoro_reg.ct.attenuation import AIR_HU
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.datasets.export import InitialPoseOptions, write_view
from fluoro_reg.evaluation.datasets.hdf5 import hdf5_file, read_array, read_group
from fluoro_reg.evaluation.datasets.projective import DatasetView, optical_view
from fluoro_reg.formats.folders import new_folder
from fluoro_reg.formats.nifti import ExportedCT, write_ct
from fluoro_reg.progress import Progress
from fluoro_reg.xray.image import Intensity

SUBJECTS = tuple(f"subject{n:02d}" for n in range(1, 11))
VIEWS = ("ap", "lat", "ap-max", "lat-max")


@dataclass(frozen=True, slots=True)
class LjubljanaOptions:
    """What to export, and how."""

    subjects: tuple[str, ...] = option(SUBJECTS, "patients, by the file's names", choices=SUBJECTS)
    views: tuple[str, ...] = option(("ap", "lat"), "views; -max are the frames of the densest filling", choices=VIEWS)
    vessels_above: float = option(1000.0, "value of the volume from which a voxel is a vessel", minimum=-1000, maximum=32767)
    start: InitialPoseOptions = section(InitialPoseOptions)


def cases_from_ljubljana(
    file: Path | str, out_folder: Path | str, options: LjubljanaOptions | None = None, progress: Progress | None = None
) -> list[Path]:
    """Writes `<subject>_<view>` case folders and a `ct_<subject>.nii` each into a new folder, and returns the cases.

    `progress` is called with (done, of).

    Raises:
        InputError: a file of another layout or not whole, in a sentence that names what is missing; an extra that is not
            installed; a folder that holds something already.
    """
    options = options or LjubljanaOptions()
    written: list[Path] = []
    with hdf5_file(file) as data:
        groups = {subject: read_group(data, subject) for subject in options.subjects}
        folder, total = new_folder(out_folder), len(groups) * len(options.views)
        for subject, group in groups.items():
            points = read_array(group, "points", (None, 3))
            ct = _write_ct(group, folder / f"ct_{subject}.nii", points, options.vessels_above)
            for name in options.views:
                view = _view(read_group(group, f"proj-{name}"), f"view {subject}/{name}")
                case = folder / f"{subject}_{name}"
                written.append(write_view(case, view, Intensity.ATTENUATION, ct, points, options.start))
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
        raise InputError(f"the points of {subject[1:]} lie on no vessels of its volume: the file is not laid out as expected")


def _view(group: Any, where: str) -> DatasetView:
    pixels = read_array(group, "pixels", (None, None), np.float32)
    return optical_view(
        np.median(pixels) - pixels,  # residues come out negative, and are written as 0
        read_array(group, "intrinsic", (3, 3)),
        read_array(group, "extrinsic", (4, 4)),
        (float(read_array(group, "col-spacing", ())), float(read_array(group, "row-spacing", ()))),
        where,
    )
