"""CameraInfo: ROI and binning, which of K and P holds, a size that is not stated, and errors."""

from types import SimpleNamespace

import numpy as np
import pytest

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import (
    CameraInfoRules,
    CameraMatrix,
    camera_of_message,
    disagreement_with,
    intrinsics_from_message,
)
from fluoro_reg.xray.reader import xray_from_pixels

K = [200.0, 0.0, 31.5, 0.0, 210.0, 23.5, 0.0, 0.0, 1.0]
SIZE = (64, 48)


def info(**changes):
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    plain = {"width": 64, "height": 48, "k": K, "d": [], "p": [0.0] * 12, "roi": roi}
    return SimpleNamespace(**{**plain, "binning_x": 0, "binning_y": 0, "distortion_model": "", **changes})


def roi(x, y, width, height):
    return SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height, do_rectify=False)


def test_the_camera_is_that_of_k():
    camera = intrinsics_from_message(info(k=np.array(info().k)), 1000.0)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (200.0, 210.0, 31.5, 23.5)
    assert (camera.width, camera.height, camera.source_to_detector_mm) == (64, 48, 1000.0)


def test_roi_and_then_binning_move_a_ray_to_the_right_pixel():
    camera = intrinsics_from_message(info(roi=roi(10, 6, 40, 30), binning_x=2, binning_y=3))
    assert (camera.width, camera.height) == (20, 10)
    u, v = 21.0, 18.0  # a pixel of the full image, and its ray
    x, y = (u - 31.5) / 200, (v - 23.5) / 210
    # it is at column 11 and row 12 of the ROI; the centre of binned pixel i is between full pixels 2i and 2i + 1
    assert camera.fx * x + camera.cx == pytest.approx((11 - 0.5) / 2)
    assert camera.fy * y + camera.cy == pytest.approx((12 - 1) / 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"k": [0.0] * 9}, "uncalibrated"),
        ({"k": [float("nan"), 0, 1, 0, 1, 1, 0, 0, 1]}, "finite"),
        ({"k": [-1.0, 0, 1, 0, 1, 1, 0, 0, 1]}, "positive focal"),
        ({"d": [0.1, 0, 0, 0, 0]}, "rectify"),
        ({"d": [float("nan")]}, "not finite"),
        ({"width": 0}, "CameraInfo has the size 0 x 48"),
        ({"width": 0, "height": 0}, "CameraInfo has the size 0 x 0"),
        ({"d": [0.0] * 4, "distortion_model": "equidistant"}, "fisheye model"),
        ({"roi": roi(60, 0, 10, 10)}, "ROI 10 x 10"),
        ({"binning_x": 100}, "binning 100"),
    ],
)
def test_unusable_camera_infos_are_rejected(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        intrinsics_from_message(info(**changes))


def test_zero_distortion_of_any_length_is_accepted():
    assert intrinsics_from_message(info(d=[0.0] * 5, distortion_model="plumb_bob")).fx == 200.0


def p_matrix(fx: float, fy: float, cx: float, cy: float) -> list[float]:
    return [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]


SAME, OTHER = p_matrix(200.0, 210.0, 31.5, 23.5), p_matrix(180.0, 190.0, 30.0, 24.0)
LENS = [-0.3, 0.1, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "matrix", "focal"),
    [
        ({}, "auto", 200.0),
        ({"p": SAME}, "auto", 200.0),
        ({"p": p_matrix(200.05, 210.0, 31.52, 23.5)}, "auto", 200.0),
        ({"p": []}, "auto", 200.0),
        ({"p": OTHER}, "k", 200.0),
        ({"p": OTHER}, "p", 180.0),
        ({"p": OTHER, "d": LENS}, "p", 180.0),
        ({"p": OTHER, "d": LENS, "k": [0.0] * 9}, "p", 180.0),
    ],
)
def test_the_matrix_that_holds_is_k_or_p_as_the_user_says(changes, matrix, focal):
    camera = camera_of_message(info(**changes), SIZE, CameraInfoRules(CameraMatrix(matrix)))
    assert camera.intrinsics.fx == focal and camera.distortion is None and not camera.warnings


@pytest.mark.parametrize(
    ("changes", "matrix", "sentence"),
    [
        ({"p": OTHER}, "auto", r"K has focal lengths 200.0 and 210.0 .* P has focal lengths 180.0 and 190.0 .*--camera-matrix"),
        ({"p": p_matrix(200.0, 210.0, 15.5, 23.5)}, "auto", r"centre \(31.5, 23.5\), P has .* centre \(15.5, 23.5\)"),
        ({"p": OTHER, "d": LENS}, "auto", r"lens distortion .*--camera-matrix p \(camera_matrix of the node\)"),
        ({"p": OTHER, "d": LENS}, "k", "lens distortion"),
        ({}, "p", "P = 0"),
    ],
)
def test_contradictions_of_k_d_and_p_are_rejected_with_what_to_say(changes, matrix, sentence):
    with pytest.raises(InputError, match=sentence):
        camera_of_message(info(**changes), SIZE, CameraInfoRules(CameraMatrix(matrix)))


def test_a_rectified_image_is_not_undistorted_again():
    raw, rectified = (
        camera_of_message(info(p=OTHER, d=LENS, distortion_model="plumb_bob"), SIZE, CameraInfoRules(matrix, undistort=True))
        for matrix in (CameraMatrix.AUTO, CameraMatrix.P)
    )
    assert raw.distortion is not None and raw.intrinsics.fx == 200.0
    assert rectified.distortion is None and rectified.intrinsics.fx == 180.0


def test_a_camera_info_without_a_size_has_that_of_the_image():
    camera = camera_of_message(info(width=0, height=0), SIZE, CameraInfoRules())
    assert (camera.intrinsics.width, camera.intrinsics.height) == SIZE
    assert "states no size" in camera.warnings[0] and "64 x 48" in camera.warnings[0]


@pytest.mark.parametrize("changes", [{"binning_x": 2}, {"roi": roi(4, 4, 20, 20)}, {"height": 48}])
def test_a_size_that_roi_or_binning_need_must_be_stated(changes):
    with pytest.raises(InputError, match="CameraInfo has the size 0 x"):
        camera_of_message(info(**{"width": 0, "height": 0} | changes), SIZE, CameraInfoRules())


def test_a_given_camera_that_differs_from_camera_info_is_reported_with_both_values():
    given = CameraIntrinsics(*SIZE, 200.0, 210.0, 31.5, 23.5)
    assert disagreement_with(given, info(), SIZE) == []
    assert disagreement_with(given, info(k=[0.0] * 9), SIZE) == []
    (warning,) = disagreement_with(CameraIntrinsics(*SIZE, 100.0, 105.0, 31.5, 23.5), info(), SIZE)
    assert "given camera has focal lengths 100.0 and 105.0" in warning and "CameraInfo says focal lengths 200.0" in warning


@pytest.mark.parametrize(
    ("cx", "cy", "outside"), [(31.5, 23.5, False), (63.5, 23.5, False), (127.5, 23.5, True), (31.5, -2, True)]
)
def test_a_principal_point_outside_the_image_gives_a_warning(cx, cy, outside):
    image = xray_from_pixels(np.ones((48, 64), np.float32), CameraIntrinsics(*SIZE, 200.0, 200.0, cx, cy))
    assert any("lies outside its image of 64 x 48" in warning for warning in image.warnings) == outside
