"""The picture that shows whether a pose is right: the X-ray in grey, the edges of the CT's bones on it as thin coloured lines.

Edges are the ridges of the gradient of the rendered bone, where its second derivative along the gradient crosses zero with a
negative slope (Haralick, IEEE PAMI 6(1), 1984). One Newton step from each pixel says how far the crossing is, so lines are
drawn to a fraction of a pixel and without jags. Faint ridges count only where they continue strong ones (Canny's hysteresis).
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
_SMOOTHING_VOXELS = 0.8  # about as wide as a voxel's shadow, or the grid's staircase is drawn and not the bone
_FAINT, _STRONG = 0.1, 0.26  # of the gradient's 99th percentile


def bone_volume(volume: CTVolume) -> CTVolume:
    """What lies above +200 HU, for renderings of bone alone; a CT without any such voxel (a plastic model) as it is."""
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
    """Edges of `renderer`'s volume (best a `bone_volume`) in green on an X-ray; at another pose, say the start, in orange."""
    picture = np.repeat(grey_levels(pixels.cpu().numpy())[..., None], 3, axis=-1)
    poses = [(other_camera_from_patient, OTHER_COLOUR), (camera_from_patient, POSE_COLOUR)]
    for pose, colour in poses:
        if pose is not None:
            picture += pose_lines(renderer, pose, intrinsics)[..., None] * (np.array(colour) - picture)
    return picture.round().astype(np.uint8)


def pose_lines(
    renderer: AbstractRenderer, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics
) -> Float[np.ndarray, "height width"]:
    """How much of each pixel a line along the edges of `renderer`'s volume covers at a pose, 0 to 1."""
    with torch.no_grad():
        image = project(renderer, camera_from_patient, intrinsics).cpu().double().numpy()
    voxel_px = _voxel_px(renderer.volume, camera_from_patient, intrinsics)
    return edge_lines(image, max(_SMOOTHING_PX, _SMOOTHING_VOXELS * voxel_px))


def edge_lines(image: Float[np.ndarray, "height width"], sigma: float) -> Float[np.ndarray, "height width"]:
    """How much of each pixel a line along the image's edges covers, 0 to 1; edges of the image smoothed by `sigma` px."""

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
    steepest = ndimage.maximum_filter(-third, size=3)  # as at the crossing: beside it the second derivative bends
    distance = np.abs(second) / np.maximum(steepest, 1e-12)
    scale = np.percentile(strength[strength > 0.01 * strength.max()], 99)
    ridge = (distance < _LINE_PX) & (third < 0) & (strength > _FAINT * scale)
    pieces, _ = ndimage.label(ridge, structure=np.ones((3, 3)))
    kept = np.unique(pieces[ridge & (strength > _STRONG * scale)])
    return np.where(ridge & np.isin(pieces, kept), (_LINE_PX - distance).clip(0, 1), 0.0)


def _voxel_px(volume: CTVolume, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics) -> float:
    """How large a voxel in the volume's middle appears, px; 0 where that is behind the source."""
    depth = float(camera_from_patient.to("cpu", torch.float64).apply(volume.centre_patient[None])[0, 2])
    size = float(np.prod(volume.voxel_size_mm)) ** (1 / 3)
    return min(size * intrinsics.fx / depth, intrinsics.width / 64) if depth > 0 else 0.0


def grey_levels(pixels: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Grey levels 0 to 255 between the 0.5th and 99.5th percentile, dark images lifted; what is not finite is black."""
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    if finite.size == 0:
        return np.zeros(pixels.shape)
    low, high = np.percentile(finite, [0.5, 99.5])
    scaled = ((np.where(np.isfinite(pixels), pixels, low) - low) / max(high - low, 1e-12)).clip(0, 1)
    middle = float(np.clip((np.median(finite) - low) / max(high - low, 1e-12), 0.05, 0.95))
    return scaled ** float(np.clip(np.log(0.45) / np.log(middle), 0.4, 1.0)) * 255
