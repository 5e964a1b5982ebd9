"""The camera of a CameraInfo: K, D and P, binning and ROI, and what a registration makes of them."""

from typing import Any

from fluoro_reg.doctor.examination import Fact, Finding, Level
from fluoro_reg.errors import InputError
from fluoro_reg.xray.camera_info import CameraInfoRules, CameraMatrix, MessageCamera, camera_of_message, distortion_from_message


def camera_info_facts(info: Any, distinct: int, camera: MessageCamera | None) -> list[Fact]:
    """Return what a CameraInfo states, how many distinct ones the bag has, and the camera that a registration takes."""
    roi = info.roi
    facts = [
        Fact("distinct cameras", distinct, "", "size, K, D, P, binning and ROI"),
        Fact("size (columns, rows)", [int(info.width), int(info.height)], "px", "width, height"),
        Fact("K", [round(float(x), 4) for x in info.k], "px", "the raw image"),
        Fact("D", [round(float(x), 6) for x in info.d], "", _model(info)),
        Fact("P", [round(float(x), 4) for x in info.p], "px", "the rectified image"),
        Fact("binning", [int(info.binning_x), int(info.binning_y)]),
        Fact("ROI (left, top, width, height)", [int(x) for x in (roi.x_offset, roi.y_offset, roi.width, roi.height)], "px"),
    ]
    if camera is not None:
        found, matrix = camera.intrinsics, "K or P, ROI, binning"
        facts += [
            Fact("focal lengths of the image", [round(found.fx, 3), round(found.fy, 3)], "px", matrix),
            Fact("principal point of the image", [round(found.cx, 3), round(found.cy, 3)], "px", matrix),
        ]
    return facts


def camera_of_info(info: Any, size: tuple[int, int], rules: CameraInfoRules) -> tuple[MessageCamera | None, list[Finding]]:
    """Return the camera of an image of `size` (width, height) by its CameraInfo, or None, and findings about it.

    A camera with a distortion that is not to be undone is returned, too, so that its image can be examined as it is.
    """
    try:
        camera = camera_of_message(info, size, rules)
    except InputError as error:
        findings = [Finding(Level.MISSING, str(error), _option(info, rules))]
        return (None if rules.undistort else _distorted(info, size, rules)), findings
    findings = [Finding(Level.WARNING, sentence) for sentence in camera.warnings]
    described = (camera.intrinsics.width, camera.intrinsics.height)
    if described != size:
        sentence = (
            f"the image is {size[0]} x {size[1]} pixels, but its CameraInfo describes {described[0]} x {described[1]}; correct "
            "the size, ROI or binning of CameraInfo"
        )
        return None, [*findings, Finding(Level.REFUSED, sentence)]
    return camera, findings


def _distorted(info: Any, size: tuple[int, int], rules: CameraInfoRules) -> MessageCamera | None:
    try:
        camera = camera_of_message(info, size, CameraInfoRules(rules.matrix, undistort=True))
    except InputError:
        return None
    fits = (camera.intrinsics.width, camera.intrinsics.height) == size
    return MessageCamera(camera.intrinsics, None, ()) if fits else None


def _option(info: Any, rules: CameraInfoRules) -> str:
    """Return the options that may help with a CameraInfo that is refused."""
    try:
        distorted = distortion_from_message(info) is not None
    except InputError:
        return ""
    is_rectified = any(float(x) for x in info.p)
    if rules.matrix is not CameraMatrix.AUTO or not any(float(x) for x in info.k):
        return "--undistort" if distorted and rules.matrix is CameraMatrix.K else ""
    if distorted:
        return "--undistort" + (" (or, if the image is rectified already: --camera-matrix p)" if is_rectified else "")
    return "--camera-matrix k (the image is raw) or --camera-matrix p (it is rectified)" if is_rectified else ""


def _model(info: Any) -> str:
    model = str(info.distortion_model)
    return model if model in ("plumb_bob", "rational_polynomial", "equidistant", "thin_prism_fisheye") else "other model"
