"""What the benchmarks of bodies share: a CT with its labels, its bodies and joints, X-rays, and errors."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bodies_of_ct import bone_labels, head_centres

from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.bodies import BodiesConfig, bodies_from_mapping
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3
from fluoro_reg.registration.result import RegistrationResult
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels, phantom_landmarks, phantom_volume
from fluoro_reg.xray.image import Intensity, XrayImage

SIZE_PX = 256
RIGHT_MM, WRONG_MM = 1.0, 5.0  # in plane
KINDS = {"pelvis": "pelvis", "femur": "femurs", "L": "vertebrae"}


def simulated_config(heads: dict[str, list[float]], level_mm: tuple[float, ...] = (0.0, 0.0, 0.0)) -> BodiesConfig:
    """Pelvis with both femurs and three vertebrae, each of which hangs on the one below.

    The vertebrae are expected to be shifted by `level_mm`.
    """
    femur = {"sd_mm": 3.0, "sd_deg": 8.0}
    vertebra = {"sd_mm": 2.0, "sd_deg": 3.0}
    bodies: dict[str, Any] = {"pelvis": {"labels": ["sacrum", "hip_left", "hip_right"]}}
    for side in ("left", "right"):
        joint = {**femur, "point_mm": heads[f"femur_{side}"]}
        bodies[f"femur_{side}"] = {"labels": [f"femur_{side}"], "joint": joint, "motion": {"mm": 5.0, "deg": 15.0}}
    for name, parent in (("L5", "pelvis"), ("L4", "L5"), ("L3", "L4")):
        joint = {**vertebra, "parent": parent}
        if name == "L5":
            joint |= {"parent_from_body": [[*row, shift] for row, shift in zip(np.eye(3).tolist(), level_mm, strict=True)]}
            joint["parent_from_body"].append([0.0, 0.0, 0.0, 1.0])
        bodies[name] = {"labels": [f"vertebrae_{name}"], "joint": joint, "motion": {"mm": 2.0, "deg": 5.0}}
    return bodies_from_mapping({"reference": "pelvis", "bodies": bodies}, "bodies of the benchmark")


def labelled_ct(folder: Path | None) -> tuple[CTVolume, LabelMap, dict[str, list[float]]]:
    """The CT, or the phantom, its labels, and the centres of the femoral heads."""
    if folder is not None:
        ct = read_ct(folder)
        return ct, bone_labels(ct), head_centres(ct)
    options = PhantomOptions()
    marks = phantom_landmarks(options)
    heads = {f"femur_{side}": marks[f"femoral_head_centre_{side}"].tolist() for side in ("left", "right")}
    return phantom_volume(options), phantom_labels(options), heads


def kind_of(body: str) -> str:
    """The kind of a body, by its name."""
    return next(kind for prefix, kind in KINDS.items() if body.startswith(prefix))


def pose_errors(prefix: str, found: RigidTransform | None, true: RigidTransform, points: torch.Tensor) -> dict[str, float]:
    """The errors of a pose, each named with a prefix; infinite without a pose."""
    if found is None:
        return {f"{prefix}in_plane_mm": math.inf, f"{prefix}mtre_mm": math.inf, f"{prefix}rotation_deg": math.inf}
    errors = asdict(target_registration_errors(found, true, points))
    return {f"{prefix}{name}": errors[name] for name in ("in_plane_mm", "mtre_mm", "rotation_deg")}


def turn_deviation(found: RegistrationResult, true: RigidTransform) -> float | None:
    """The error of rotation in predicted standard deviations, the root mean square of three axes; 1 is what is predicted."""
    if found.camera_from_patient is None or found.covariance is None:
        return None
    turn = so3.log(true.rotation @ found.camera_from_patient.rotation.mT)
    return math.sqrt(float(turn @ torch.linalg.solve(found.covariance[3:, 3:], turn)) / 3)


def xray_of(pixels: np.ndarray, camera: CameraIntrinsics) -> XrayImage:
    """The X-ray of simulated pixels, all of which can be used."""
    usable = torch.ones(camera.height, camera.width, dtype=torch.bool)
    return XrayImage(torch.from_numpy(pixels.astype(np.float32)), camera, Intensity.TRANSMITTED, usable)
