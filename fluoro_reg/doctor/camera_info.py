"""The camera of a CameraInfo: K, D and P, binning and ROI, and what a registration makes of them."""

from typing import Any

import numpy as np

from fluoro_reg.doctor.bag_contents import matrix_of
from fluoro_reg.doctor.examination import Fact, Finding, Level
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import distortion_from_message, intrinsics_from_message
from fluoro_reg.xray.distortion import refused_distortion

_SAME = 1e-6


def camera_info_facts(info: Any, distinct: int) -> list[Fact]:
    """Return what a CameraInfo states, and how many distinct ones the bag has."""
    k, d, p = (matrix_of(info, name) for name in ("k", "d", "p"))
    roi = info.roi
    facts = [
        Fact("distinct cameras", distinct, "", "size, K, D, P, binning and ROI"),
        Fact("size (columns, rows)", [int(info.width), int(info.height)], "px", "width, height"),
        Fact("K", [round(float(x), 4) for x in k], "px"),
        Fact("D", [round(float(x), 6) for x in d], "", str(info.distortion_model) or "no distortion_model"),
        Fact("P", [round(float(x), 4) for x in p], "px", "not used: K is"),
        Fact("binning", [int(info.binning_x), int(info.binning_y)]),
        Fact("ROI (left, top, width, height)", [int(x) for x in (roi.x_offset, roi.y_offset, roi.width, roi.height)], "px"),
    ]
    camera = intrinsics_of(info)
    if camera is not None:
        focal, centre = [round(camera.fx, 3), round(camera.fy, 3)], [round(camera.cx, 3), round(camera.cy, 3)]
        facts += [
            Fact("focal lengths of the image", focal, "px", "K, ROI, binning"),
            Fact("principal point of the image", centre, "px", "K, ROI, binning"),
        ]
    return facts


def camera_info_findings(info: Any, image: Any, undistort: bool) -> list[Finding]:
    """Return what is wrong with the camera of a CameraInfo. `undistort` says whether its distortion is undone."""
    findings = []
    try:
        camera = intrinsics_from_message(info, allow_distortion=True)
        distortion = distortion_from_message(info)
    except InputError as error:
        return [Finding(Level.MISSING, str(error))]
    if distortion is not None and not undistort:
        findings.append(Finding(Level.MISSING, str(refused_distortion("CameraInfo")), "--undistort"))
    width, height = int(getattr(image, "width", camera.width)), int(getattr(image, "height", camera.height))
    if (width, height) != (camera.width, camera.height):
        sentence = (
            f"the image is {width} x {height} pixels, but its CameraInfo describes {camera.width} x {camera.height}; correct "
            "the size, ROI or binning of CameraInfo"
        )
        findings.append(Finding(Level.REFUSED, sentence))
    p = np.array(matrix_of(info, "p")).reshape(3, 4)[:, :3]
    k = np.array(matrix_of(info, "k")).reshape(3, 3)
    if p.any() and np.abs(p - k).max() > _SAME * np.abs(k).max():
        sentence = (
            f"K and P differ (fx {k[0, 0]:.1f} and {p[0, 0]:.1f} px); K is used, so check that it belongs to these pixels"
        )
        findings.append(Finding(Level.NOTE, sentence))
    return findings


def intrinsics_of(info: Any) -> CameraIntrinsics | None:
    """Return the camera of a CameraInfo, or None if there is none or it is unusable."""
    try:
        return None if info is None else intrinsics_from_message(info, allow_distortion=True)
    except InputError:
        return None
