"""Distortion is undone in the pixels when asked for, and refused otherwise. The textbook formula is the oracle."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.distorted_images import distort, distorted_point

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bags import BagFrame, write_bag
from fluoro_reg.formats.cameras import read_camera, read_distorted_camera
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import distortion_from_message, intrinsics_from_message
from fluoro_reg.xray.distortion import Distortion, parse_distortion, undistort
from fluoro_reg.xray.reader import read_xray

CAMERA = CameraIntrinsics(160, 120, 400.0, 410.0, 75.0, 63.0, 1000.0)
MARGIN = 40
MODELS = {
    "pincushion": Distortion("plumb_bob", (1.2, 0.4, 0.002, -0.003, 0.0)),
    "barrel": Distortion("plumb_bob", (-0.9, 0.2, 0.0, 0.0)),
    "rational": Distortion("rational_polynomial", (0.8, 0.3, 0.001, 0.002, 0.0, 0.2, 0.1, 0.0)),
}


def scene(camera: CameraIntrinsics, margin: int = 0) -> np.ndarray:
    """Return a smooth pattern of the undistorted image, with `margin` more pixels on each side."""
    v, u = np.mgrid[-margin : camera.height + margin, -margin : camera.width + margin].astype(float)
    return 100 + 40 * np.sin(u / 9) * np.cos(v / 7) + 0.2 * u


@pytest.mark.parametrize("name", MODELS)
def test_the_undistorted_image_shows_the_scene(name):
    distortion = MODELS[name]
    shown = distort(scene(CAMERA, MARGIN), CAMERA, MARGIN, distortion.coefficients).astype(np.float32)
    assert np.abs(shown - scene(CAMERA)).max() > 10  # it was distorted
    pixels, mask = undistort(shown, np.ones(shown.shape, dtype=bool), CAMERA, distortion)
    assert mask.mean() > 0.6
    assert np.abs(pixels - scene(CAMERA))[mask].max() < 1.0  # bilinear interpolation of a period of 44 pixels


def test_what_comes_from_outside_the_image_is_masked():
    distortion = MODELS["pincushion"]
    _, mask = undistort(np.ones((120, 160), np.float32), np.ones((120, 160), dtype=bool), CAMERA, distortion)
    v, u = np.mgrid[:120, :160].astype(float)
    x, y = distorted_point((u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, distortion.coefficients)
    column, row = x * CAMERA.fx + CAMERA.cx, y * CAMERA.fy + CAMERA.cy
    inside = (column >= 0) & (column <= 159) & (row >= 0) & (row <= 119)
    assert (~inside).sum() > 1000
    assert not (mask & ~inside).any()
    assert (mask != inside).mean() < 0.01  # but for a pixel along the edge


def test_masked_pixels_stay_masked_and_do_not_bleed():
    mask = np.ones((120, 160), dtype=bool)
    mask[50:70, 60:90] = False
    pixels = np.where(mask, 10.0, 5000.0).astype(np.float32)
    undone, kept = undistort(pixels, mask, CAMERA, MODELS["barrel"])
    assert 400 < (~kept).sum() < 1200
    assert np.abs(undone[kept] - 10).max() < 1e-3


def test_what_lies_beyond_the_fold_of_the_model_is_masked():
    folding = Distortion("plumb_bob", (-12.0, 0.0, 0.0, 0.0, 0.0))  # r - 12 r^3 grows up to r = 1/6
    _, mask = undistort(np.ones((120, 160), np.float32), np.ones((120, 160), dtype=bool), CAMERA, folding)
    v, u = np.mgrid[:120, :160].astype(float)
    radius = np.hypot((u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy)
    assert not mask[radius > 1 / 6 + 1e-3].any()
    assert mask[radius < 1 / 6 - 0.01].all()


@pytest.mark.parametrize(
    ("model", "coefficients", "sentence"),
    [
        ("equidistant", [0.1, 0, 0, 0], "unknown distortion model"),
        ("plumb_bob", [0.1, 0, 0], "has 3 distortion coefficients"),
        ("rational_polynomial", [0.1] * 5, "has 5 distortion coefficients"),
        ("plumb_bob", [float("nan")] * 5, "not finite"),
    ],
)
def test_distortion_that_cannot_be_undone_is_an_error(model, coefficients, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_distortion(model, coefficients, "CameraInfo")


def test_no_distortion_is_none():
    assert parse_distortion("equidistant", [0.0] * 4, "CameraInfo") is None
    assert parse_distortion("", [], "CameraInfo") is None
    assert parse_distortion("", [0.1, 0, 0, 0, 0], "CameraInfo") == Distortion("plumb_bob", (0.1, 0, 0, 0, 0))


def test_without_being_asked_a_distorted_camera_is_refused_with_the_option_to_give(tmp_path):
    path = tmp_path / "camera.json"
    content = {"width": 160, "height": 120, "k": CAMERA.k, "distortion_model": "plumb_bob", "d": [0.1, 0, 0, 0, 0]}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"--undistort.*undistort: true of the node"):
        read_camera(path)
    camera, distortion = read_distorted_camera(path)
    assert camera.k == CAMERA.k and distortion == Distortion("plumb_bob", (0.1, 0, 0, 0, 0))
    path.write_text(json.dumps({**content, "d": ["0.1"]}))
    with pytest.raises(InputError, match="'d' must be a list of numbers"):
        read_distorted_camera(path)


def test_a_crop_and_binning_leave_the_coefficients_as_they_are():
    """The message describes the full image; the image is a crop of it, binned by 2."""
    distortion = MODELS["barrel"]
    shown = distort(scene(CAMERA, MARGIN), CAMERA, MARGIN, distortion.coefficients)
    roi = SimpleNamespace(x_offset=20, y_offset=16, width=120, height=96, do_rectify=False)
    sizes = {"width": 160, "height": 120, "binning_x": 2, "binning_y": 2}
    lens = {"d": list(distortion.coefficients), "distortion_model": "plumb_bob"}
    info = SimpleNamespace(k=CAMERA.k, p=[0.0] * 12, roi=roi, **lens, **sizes)
    camera = intrinsics_from_message(info, allow_distortion=True)
    binned, expected = (
        image[16:112, 20:140].reshape(48, 2, 60, 2).mean((1, 3)).astype(np.float32) for image in (shown, scene(CAMERA))
    )
    pixels, mask = undistort(binned, np.ones(binned.shape, dtype=bool), camera, distortion_from_message(info))
    assert mask.mean() > 0.7
    assert np.abs(pixels - expected)[mask].max() < 2.5


def test_a_file_is_undistorted(tmp_path):
    distortion = MODELS["pincushion"]
    shown = distort(scene(CAMERA, MARGIN), CAMERA, MARGIN, distortion.coefficients)
    np.save(tmp_path / "x.npy", shown)
    image = read_xray(tmp_path / "x.npy", CAMERA, distortion=distortion)
    assert np.abs(image.pixels.numpy() - scene(CAMERA))[image.mask.numpy()].max() < 1.0
    assert not image.mask.all()


def test_a_bag_is_undistorted_when_asked(tmp_path, monkeypatch):
    from fluoro_reg.formats import bags
    from fluoro_reg.formats.recordings import RecordingSource, read_recording

    distortion = MODELS["pincushion"]
    written = bags._camera_info

    def distorted_info(store, frame):
        message = written(store, frame)
        message.d = np.array(distortion.coefficients)
        return message

    monkeypatch.setattr(bags, "_camera_info", distorted_info)
    shown = distort(scene(CAMERA, MARGIN), CAMERA, MARGIN, distortion.coefficients)
    write_bag(tmp_path / "bag", [BagFrame(1, np.round(shown * 100).astype(np.uint16), CAMERA)])
    (frame,) = read_recording(tmp_path / "bag")
    with pytest.raises(InputError, match="--undistort"):
        frame.xray()
    (frame,) = read_recording(tmp_path / "bag", RecordingSource(undistort=True))
    image = frame.xray()
    assert np.abs(image.pixels.numpy() / 100 - scene(CAMERA))[image.mask.numpy()].max() < 1.0
