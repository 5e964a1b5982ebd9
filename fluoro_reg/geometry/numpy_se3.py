"""SE(3) in NumPy, for CPU values that need no gradient.

An exponential in torch is dozens of operations on a few numbers, and launching each of them takes longer than computing it. The
formulas are those of `so3` and `se3`, which are the reference and carry the gradients.
"""

import numpy as np
from jaxtyping import Float

from fluoro_reg.geometry.so3 import SERIES_BELOW


def exp(twist: Float[np.ndarray, "*batch 6"]) -> tuple[Float[np.ndarray, "*batch 3 3"], Float[np.ndarray, "*batch 3"]]:
    """Return rotation and translation of the rigid motion of a twist, as `se3.exp`."""
    v, w = twist[..., :3], twist[..., 3:]
    a, b, c = _coefficients((w * w).sum(-1, keepdims=True)[..., None])
    k = _hat(w)
    kk = k @ k
    identity = np.eye(3)
    return identity + a * k + b * kk, ((identity + b * k + c * kk) @ v[..., None])[..., 0]


def retract(
    rotation: Float[np.ndarray, "*#batch 3 3"],
    translation: Float[np.ndarray, "*#batch 3"],
    twist: Float[np.ndarray, "*#batch 6"],
    pivot: Float[np.ndarray, "3"],
) -> tuple[Float[np.ndarray, "*#batch 3 3"], Float[np.ndarray, "*#batch 3"]]:
    """Return rotation and translation after a twist in the source frame about `pivot`, as `se3.retract`."""
    step_rotation, step_translation = exp(twist)
    moved = step_translation + pivot - step_rotation @ pivot
    return rotation @ step_rotation, (rotation @ moved[..., None])[..., 0] + translation


def local(
    start_rotation: Float[np.ndarray, "*#batch 3 3"],
    start_translation: Float[np.ndarray, "*#batch 3"],
    end_rotation: Float[np.ndarray, "*#batch 3 3"],
    end_translation: Float[np.ndarray, "*#batch 3"],
    pivot: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "*batch 6"]:
    """Return the twist about `pivot` between two motions, as `se3.local`."""
    inverse = np.swapaxes(start_rotation, -1, -2)
    rotation = inverse @ end_rotation
    translation = (inverse @ (end_translation - start_translation)[..., None])[..., 0] - pivot + rotation @ pivot
    w = _log(rotation)
    _, b, c = _coefficients((w * w).sum(-1, keepdims=True)[..., None])
    k = _hat(w)
    v = np.linalg.solve(np.eye(3) + b * k + c * (k @ k), translation[..., None])[..., 0]
    return np.concatenate([v, w], axis=-1)


def _log(rotation: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Return the rotation vector, as `so3.log`."""
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    candidates = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], axis=-1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], axis=-1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], axis=-1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    largest = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(candidates, largest[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, v = quaternion[..., :1], quaternion[..., 1:]
    squared = (v * v).sum(-1, keepdims=True)
    small = squared < 1e-8
    sine = np.sqrt(np.where(small, 1.0, squared))
    series = 2 / np.maximum(w, 0.5) * (1 - squared / np.maximum(3 * w * w, 0.25))
    return np.where(small, series, 2 * np.arctan2(sine, w) / sine) * v


def _hat(w: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    k = np.zeros((*w.shape, 3))
    k[..., 0, 1], k[..., 0, 2], k[..., 1, 2] = -w[..., 2], w[..., 1], -w[..., 0]
    k[..., 1, 0], k[..., 2, 0], k[..., 2, 1] = w[..., 2], -w[..., 1], w[..., 0]
    return k


def _coefficients(squared: Float[np.ndarray, "*batch 1 1"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (sin t)/t, (1 - cos t)/t^2 and (t - sin t)/t^3 as functions of t^2."""
    small = squared < SERIES_BELOW
    t2 = np.where(small, 1.0, squared)
    t = np.sqrt(t2)
    sine = np.sin(t)
    a, b, c = sine / t, (1 - np.cos(t)) / t2, (t - sine) / (t2 * t)
    if small.any():
        s = np.where(small, squared, 0.0)
        a = np.where(small, 1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72))), a)
        b = np.where(small, 0.5 - s / 24 * (1 - s / 30 * (1 - s / 56 * (1 - s / 90))), b)
        c = np.where(small, 1 / 6 - s / 120 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110))), c)
    return a, b, c
