"""The couch below the patient: a carbon table top on foam, its solid rim, and a mattress, as boxes with exact path lengths.

The boxes have the attenuation of water of another density. A CT hardly ever contains the couch of the operating room, whose
edges are straight, long and sharp in the X-ray. A registration must not follow them.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.simulation.options import SimulationOptions

_CARBON, _FOAM, _MATTRESS = 1.36, 0.05, 0.06  # attenuation relative to water at 60 keV
_SKIN_MM, _CORE_MM, _MATTRESS_MM = 2.5, 20.0, 40.0  # thickness; the table top has a skin above and below its core
_RIM_MM = 10.0  # width of the solid rim
_LENGTH_MM = 2000.0
_GAP_MM = 2.0  # between the back and the mattress


@dataclass(frozen=True, slots=True)
class Box:
    """A box in patient mm, turned about the vertical axis (y); `density` is its attenuation relative to water."""

    centre: Float[np.ndarray, "3"]
    half_size: Float[np.ndarray, "3"]
    turn_deg: float
    density: float


def couch_boxes(body: tuple[Float[Tensor, "3"], Float[Tensor, "3"]], options: SimulationOptions) -> tuple[Box, ...]:
    """Return the boxes of the couch under a supine patient with the given `body_box`, or nothing for a width of 0."""
    if options.couch_width_mm == 0:
        return ()
    low, high = (end.numpy() for end in body)
    x = (low[0] + high[0]) / 2 + options.couch_shift_mm
    end, half = (low[2] + high[2]) / 2 - options.couch_end_mm, options.couch_width_mm / 2
    boxes = []

    def add(density: float, x_mm: tuple[float, float], y_mm: tuple[float, float], z_mm: tuple[float, float]) -> None:
        """Add a box between the given limits: x from the middle of the couch, y from the back, z from the couch's end."""
        ends = np.array([x_mm, y_mm, z_mm], dtype=float)
        local, size = ends.mean(1), ends[:, 1] - ends[:, 0]
        turned = _turn(options.couch_turn_deg) @ np.array([local[0], 0.0, local[2]])
        boxes.append(Box(np.array([x, high[1] + local[1], end]) + turned, size / 2, options.couch_turn_deg, density))

    top = _GAP_MM + _MATTRESS_MM
    core = (top + _SKIN_MM, top + _SKIN_MM + _CORE_MM)
    bottom = core[1] + _SKIN_MM
    inside = half - _RIM_MM
    along = (_RIM_MM, _LENGTH_MM)
    add(_MATTRESS, (-half + 15, half - 15), (_GAP_MM, top), (30.0, _LENGTH_MM))
    for skin in ((top, core[0]), (core[1], bottom)):
        add(_CARBON, (-inside, inside), skin, along)
    add(_FOAM, (-inside, inside), core, along)
    for side in ((-half, -inside), (inside, half)):
        add(_CARBON, side, (top, bottom), along)
    add(_CARBON, (-half, half), (top, bottom), (0.0, _RIM_MM))
    return tuple(boxes)


def couch_water_mm(
    boxes: tuple[Box, ...], camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics
) -> Float[np.ndarray, "height width"]:
    """Return the thickness of water that attenuates as the boxes do along the ray of every pixel, mm."""
    x = (np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy
    rays = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.ones((len(y), len(x)))], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    pose = camera_from_patient.inverse().matrix().numpy()
    directions, source = rays @ pose[:3, :3].T, pose[:3, 3]
    total = np.zeros(rays.shape[:2])
    for box in boxes:
        total += box.density * _path_length_mm(directions, source, box)
    return total


def _path_length_mm(
    directions: Float[np.ndarray, "height width 3"], source: Float[np.ndarray, "3"], box: Box
) -> Float[np.ndarray, "height width"]:
    box_from_patient = _turn(box.turn_deg).T
    local = directions @ box_from_patient.T
    local = np.where(np.abs(local) < 1e-12, 1e-12, local)
    start = box_from_patient @ (source - box.centre)
    ends = np.stack([(-box.half_size - start) / local, (box.half_size - start) / local])
    near = np.maximum(ends.min(0).max(-1), 0)
    return np.maximum(ends.max(0).min(-1) - near, 0)


def _turn(degrees: float) -> Float[np.ndarray, "3 3"]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
