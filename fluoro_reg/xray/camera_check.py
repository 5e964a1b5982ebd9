"""Checks of a camera against what else is known about it: its image, and another statement of the same camera."""

from fluoro_reg.geometry import CameraIntrinsics

_FOCAL_TOLERANCE = 0.01  # nominal distances of a C-arm are this wrong
_CENTRE_TOLERANCE = 0.01  # of the image


def camera_disagreement(given: CameraIntrinsics, stated: CameraIntrinsics, source: str) -> list[str]:
    """Return a warning with both values if a given camera differs from the one that `source` states; else nothing."""
    focal = max(abs(given.fx / stated.fx - 1), abs(given.fy / stated.fy - 1))
    centre = max(abs(given.cx - stated.cx) / stated.width, abs(given.cy - stated.cy) / stated.height)
    if focal <= _FOCAL_TOLERANCE and centre <= _CENTRE_TOLERANCE:
        return []
    return [f"the given camera has {describe(given)}, but {source} says {describe(stated)}: the given camera is used"]


def centre_warnings(camera: CameraIntrinsics) -> list[str]:
    """Name a principal point outside the image, as of a K that belongs to another resolution or to the image before a crop."""
    if -0.5 <= camera.cx <= camera.width - 0.5 and -0.5 <= camera.cy <= camera.height - 0.5:
        return []
    return [
        f"the principal point ({camera.cx:.1f}, {camera.cy:.1f}) of the camera lies outside its image of {camera.width} x "
        f"{camera.height} pixels; check that K belongs to these pixels"
    ]


def describe(camera: CameraIntrinsics) -> str:
    """Return the numbers of a camera in words."""
    return f"focal lengths {camera.fx:.1f} and {camera.fy:.1f} px and centre ({camera.cx:.1f}, {camera.cy:.1f})"
