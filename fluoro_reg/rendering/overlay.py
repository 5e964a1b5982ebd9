"""Overlays that show whether a pose is right: the X-ray in grey with the edges of the CT's bones as thin coloured lines.

Edges are the ridges of the gradient of the rendered bone, where its second derivative along the gradient crosses zero with a
negative slope (Haralick, IEEE PAMI 6(1), 1984). One Newton step from each pixel gives the distance to the crossing, so lines
have subpixel precision and smooth edges. Weak ridges count only where they continue strong ones (Canny's hysteresis).
"""

import dataclasses

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.hu_thresholds import BONE_OUTLINE_MINIMUM_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering.projection import project
from fluoro_reg.rendering.renderer import AbstractRenderer

POSE_COLOUR = (60, 255, 120)
OTHER_COLOUR = (255, 150, 40)
_LINE_PX = 1.1
_SMOOTHING_PX = 1.2
_SMOOTHING_VOXELS = 0.8  # about a projected voxel, or else the staircase of the grid is drawn
_WEAK, _STRONG = 0.1, 0.26  # of the gradient's 99th percentile


def bone_volume(volume: CTVolume) -> CTVolume:
    """Return what lies above `BONE_OUTLINE_MINIMUM_HU`, to render bone alone.

    A CT without any such voxel, such as a plastic model, is returned unchanged.
    """
    threshold = float(attenuation_from_hu(np.array([BONE_OUTLINE_MINIMUM_HU], dtype=np.float32))[0])
    bone = (volume.attenuation - threshold).clamp_min(0)
    return dataclasses.replace(volume, attenuation=bone) if bone.any() else volume


def overlay(
    pixels: Float[Tensor, "height width"],
    renderer: AbstractRenderer,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    other_camera_from_patient: RigidTransform | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the edges of a volume on an X-ray.

    Args:
        pixels: the X-ray.
        renderer: the renderer of the volume, preferably of a `bone_volume`.
        camera_from_patient: the pose whose edges are green.
        intrinsics: the camera.
        other_camera_from_patient: a pose whose edges are orange, such as the initial pose.
    """
    canvas = np.repeat(grey_levels(pixels.cpu().numpy())[..., None], 3, axis=-1)
    poses = [(other_camera_from_patient, OTHER_COLOUR), (camera_from_patient, POSE_COLOUR)]
    for pose, colour in poses:
        if pose is not None:
            canvas += pose_lines(renderer, pose, intrinsics)[..., None] * (np.array(colour) - canvas)
    return canvas.round().astype(np.uint8)


def pose_lines(
    renderer: AbstractRenderer, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics
) -> Float[np.ndarray, "height width"]:
    """Return the fraction of each pixel that a line along the edges of the renderer's volume covers at a pose."""
    with torch.no_grad():
        image = project(renderer, camera_from_patient, intrinsics).cpu().double().numpy()
    voxel_px = _voxel_px(renderer.volume, camera_from_patient, intrinsics)
    return edge_lines(image, max(_SMOOTHING_PX, _SMOOTHING_VOXELS * voxel_px))


def edge_lines(image: Float[np.ndarray, "height width"], sigma: float) -> Float[np.ndarray, "height width"]:
    """Return the fraction of each pixel that a line along the image's edges covers, after smoothing by `sigma` px."""

    def derivative(rows: int, columns: int) -> np.ndarray:
        return ndimage.gaussian_filter(image, sigma, order=(rows, columns), mode="nearest")

    dy, dx = derivative(1, 0), derivative(0, 1)
    strength = np.hypot(dx, dy)
    if strength.max() <= 1e-9:
        return np.zeros_like(image)
    nx, ny = dx / np.maximum(strength, 1e-12), dy / np.maximum(strength, 1e-12)
    second = nx**2 * derivative(0, 2) + 2 * nx * ny * derivative(1, 1) + ny**2 * derivative(2, 0)
    third = nx**3 * derivative(0, 3) + 3 * nx**2 * ny * derivative(1, 2) + 3 * nx * ny**2 * derivative(2, 1)
    third += ny**3 * derivative(3, 0)
    steepest = ndimage.maximum_filter(-third, size=3)  # the slope at the crossing, as it is smaller beside it
    distance = np.abs(second) / np.maximum(steepest, 1e-12)
    scale = np.percentile(strength[strength > 0.01 * strength.max()], 99)
    ridge = (distance < _LINE_PX) & (third < 0) & (strength > _WEAK * scale)
    components, _ = ndimage.label(ridge, structure=np.ones((3, 3)))
    kept = np.unique(components[ridge & (strength > _STRONG * scale)])
    return np.where(ridge & np.isin(components, kept), (_LINE_PX - distance).clip(0, 1), 0.0)


def _voxel_px(volume: CTVolume, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics) -> float:
    """Return the projected size of a voxel in the volume's middle, px; 0 if that is behind the source."""
    depth = float(camera_from_patient.to("cpu", torch.float64).apply(volume.centre_patient[None])[0, 2])
    size = float(np.prod(volume.voxel_size_mm)) ** (1 / 3)
    return min(size * intrinsics.fx / depth, intrinsics.width / 64) if depth > 0 else 0.0


def grey_levels(pixels: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Return grey levels, 0 to 255 from the 0.5th to the 99.5th percentile.

    Dark images are brightened, and pixels that are not finite are black.
    """
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    if finite.size == 0:
        return np.zeros(pixels.shape)
    low, high = np.percentile(finite, [0.5, 99.5])
    scaled = ((np.where(np.isfinite(pixels), pixels, low) - low) / max(high - low, 1e-12)).clip(0, 1)
    middle = float(np.clip((np.median(finite) - low) / max(high - low, 1e-12), 0.05, 0.95))
    return scaled ** float(np.clip(np.log(0.45) / np.log(middle), 0.4, 1.0)) * 255
