"""Labels of the bones of the CT `ct/abdomen_pelvis_3mm`, by a threshold and the nearest of markers that were set by hand.

They are crude at the joints: a voxel there may go to the wrong bone. The labels, not the anatomy, define the bodies that the
benchmark moves and registers. Numbers are those of TotalSegmentator.
"""

import numpy as np
import torch

from fluoro_reg.ct.attenuation import attenuation_of_tissue
from fluoro_reg.ct.bone_labels import BONE_LABELS
from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.volume import CTVolume

BONE_HU = 180.0
HEADS_VOXEL = {"femur_left": (30.0, 43.0, 16.0), "femur_right": (88.0, 43.0, 15.0)}  # i, j, k of the centres of the heads
HEAD_MM, LATERAL_MM = 25.0, 12.0
MIDLINE_VOXEL, SPINE_VOXELS = 59.0, 14.0  # i of the spine, and half its width
# (j, k) of the vertebral body and of the spinous process, from the sagittal projection; the sacrum goes on behind
VERTEBRAE = {
    "vertebrae_L5": ((42.0, 48.0), (27.5, 55.2)),
    "vertebrae_L4": ((44.2, 60.5), (29.2, 62.3)),
    "vertebrae_L3": ((44.2, 73.5), (28.3, 70.2)),
    "vertebrae_L2": ((41.3, 85.7), (25.8, 79.0)),
    "vertebrae_L1": ((36.3, 96.8), (24.2, 89.3)),
    "vertebrae_T12": ((32.5, 107.7), (20.8, 100.2)),
}
SACRUM = ((34.2, 41.8), (22.5, 47.7), (13.3, 32.7), (15.0, 15.0))


def bone_labels(ct: CTVolume) -> LabelMap:
    """The labels of pelvis, femurs and vertebrae; other bone has none."""
    bone = (ct.attenuation > attenuation_of_tissue(BONE_HU)).numpy()
    k, j, i = (index.astype(float) for index in np.indices(bone.shape))
    labels = np.where(bone, BONE_LABELS["hip_left"], 0)
    labels[bone & (i > MIDLINE_VOXEL)] = BONE_LABELS["hip_right"]
    distances = {name: _distance((j, k), ends) for name, ends in VERTEBRAE.items()}
    distances["sacrum"] = np.minimum.reduce([_distance((j, k), SACRUM[n : n + 2]) for n in range(len(SACRUM) - 1)])
    names = list(distances)
    nearest = np.stack(list(distances.values())).argmin(0)
    spine = bone & (abs(i - MIDLINE_VOXEL) < SPINE_VOXELS) & (k > 25)
    for number, name in enumerate(names):
        labels[spine & (nearest == number)] = BONE_LABELS[name]
    labels[bone & (k > 62) & ~spine] = 0  # ribs
    for name, (ci, cj, ck) in HEADS_VOXEL.items():
        outwards = 1.0 if ci > MIDLINE_VOXEL else -1.0
        head = 3.0 * np.sqrt((i - ci) ** 2 + (j - cj) ** 2 + (k - ck) ** 2) <= HEAD_MM
        lateral = 3.0 * (0.8 * outwards * (i - ci) - 0.6 * (k - ck)) > LATERAL_MM
        labels[bone & (head | (lateral & (outwards * (i - ci) > 0) & (k < ck + 6)))] = BONE_LABELS[name]
    return LabelMap(torch.from_numpy(labels.astype(np.int32)), ct.patient_from_voxel)


def head_centres(ct: CTVolume) -> dict[str, list[float]]:
    """The centres of the femoral heads in patient mm."""
    return {name: ct.points_patient(torch.tensor(at, dtype=torch.float64)).tolist() for name, at in HEADS_VOXEL.items()}


def _distance(at: tuple[np.ndarray, np.ndarray], ends: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Distance of (j, k) to a line segment, voxels."""
    (aj, ak), (bj, bk) = ends
    along = ((at[0] - aj) * (bj - aj) + (at[1] - ak) * (bk - ak)) / ((bj - aj) ** 2 + (bk - ak) ** 2)
    along = np.clip(along, 0, 1)
    return np.hypot(at[0] - aj - along * (bj - aj), at[1] - ak - along * (bk - ak))
