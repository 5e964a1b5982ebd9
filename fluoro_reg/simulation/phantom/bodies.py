"""The bones of the phantom that can move on their own: pelvis, both femurs and L5, as files that a user would have."""

from pathlib import Path

import numpy as np
import yaml

from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.optional_reader import import_extra
from fluoro_reg.simulation.body_motion import BodyFiles
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels, phantom_landmarks

BODIES_FILE, LABELS_FILE = "bodies.yaml", "labels.nii.gz"
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_phantom_bodies(folder: Path, options: PhantomOptions) -> BodyFiles:
    """Write bodies.yaml and the segmentation of a phantom.

    The pelvis has the frame `patient`: it is the reference, with which the rest of the patient moves.

    Raises:
        InputError: nibabel is not installed.
    """
    landmarks = phantom_landmarks(options)
    bodies: dict[str, object] = {"pelvis": {"frame": "patient", "labels": ["sacrum", "hip_left", "hip_right"]}}
    for side in ("left", "right"):
        head = [round(value, 1) for value in landmarks[f"femoral_head_centre_{side}"].tolist()]
        joint = {"point_mm": head, "sd_mm": 2.0, "sd_deg": 6.0}
        bodies[f"femur_{side}"] = {"labels": [f"femur_{side}"], "joint": joint, "motion": {"mm": 2.0, "deg": 10.0}}
    bodies["L5"] = {
        "labels": ["vertebrae_L5"],
        "joint": {"sd_mm": 2.0, "sd_deg": 3.0},
        "motion": {"mm": 2.0, "deg": 5.0},
    }
    files = BodyFiles(folder / BODIES_FILE, folder / LABELS_FILE)
    files.bodies.write_text(yaml.safe_dump({"reference": "pelvis", "bodies": bodies}, sort_keys=False), encoding="utf-8")
    write_label_map(files.labels, phantom_labels(options))
    return files


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write a segmentation as NIfTI.

    Raises:
        InputError: nibabel is not installed.
    """
    nibabel = import_extra("nibabel", "and writing NIfTI")
    labels = label_map.labels.numpy().transpose(2, 1, 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, _RAS_FROM_LPS @ label_map.patient_from_voxel.numpy()), path)
