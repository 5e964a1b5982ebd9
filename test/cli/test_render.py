"""`fluoro-reg render` against the path lengths through a homogeneous block, which are known in closed form."""

import json

import numpy as np
import pytest
from PIL import Image

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series

BLOCK_MM, VOXEL_MM, DEPTH_MM = 80.0, 4.0, 500.0


@pytest.fixture(scope="module")
def block(tmp_path_factory):
    """Arguments to render a block of 600 HU in air, 80 mm long along the beam."""
    folder = tmp_path_factory.mktemp("block")
    hu = np.full((40, 40, 40), -1000, dtype=np.float32)
    hu[10:30, 10:30, 10:30] = 600
    patient_from_voxel = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    write_dicom_series(folder / "ct", hu, patient_from_voxel)
    camera = {"width": 65, "height": 33, "k": [400, 0, 32, 0, 400, 16, 0, 0, 1]}
    middle = 19.5 * VOXEL_MM
    pose = {"camera_from_patient": [[1, 0, 0, -middle], [0, 1, 0, -middle], [0, 0, 1, DEPTH_MM], [0, 0, 0, 1]], "unit": "mm"}
    (folder / "camera.json").write_text(json.dumps(camera))
    (folder / "pose.json").write_text(json.dumps(pose))
    return ["--ct", folder / "ct", "--camera", folder / "camera.json", "--pose", folder / "pose.json"]


def test_line_integrals_are_attenuation_times_length(cli, block, tmp_path):
    finished = cli("render", *block, "--out", tmp_path / "drr.npy", "--json")
    assert finished.status == 0
    integrals = np.load(tmp_path / "drr.npy")
    assert integrals.dtype == np.float32
    assert integrals.shape == (33, 65)
    expected = float(read_ct(block[1]).attenuation.max()) * BLOCK_MM
    assert integrals[16, 32] == pytest.approx(expected, rel=1e-3)
    # At depth z, the ray of pixel u is (u - cx) / fx * z away from the axis.
    slope = 4 / 400
    assert integrals[16, 36] == pytest.approx(expected * np.hypot(1, slope), rel=1e-3)
    assert finished.json()["maximum_line_integral"] == pytest.approx(float(integrals.max()))


def test_the_png_shows_bright_bone_and_black_air(cli, block, tmp_path):
    assert cli("render", *block, "--out", tmp_path / "drr.png").status == 0
    with Image.open(tmp_path / "drr.png") as image:
        assert (image.mode, image.size) == ("L", (65, 33))
        grey = np.asarray(image)
    assert grey[16, 32] >= 250
    assert grey[0, 0] == 0


def test_settings_change_the_grey_values(cli, block, tmp_path):
    dark = ("--set", "gamma=4", "--set", "white_percentile=100")
    assert cli("render", *block, "--out", tmp_path / "drr.png").status == 0
    assert cli("render", *block, "--out", tmp_path / "dark.png", *dark).status == 0
    plain, darker = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("drr.png", "dark.png"))
    assert (darker <= plain).all()
    assert darker.sum() < plain.sum()


def test_a_view_that_misses_the_ct_is_black_and_gives_a_warning(cli, block, tmp_path):
    away = tmp_path / "away.json"
    matrix = [[1, 0, 0, 5000], [0, 1, 0, 0], [0, 0, 1, DEPTH_MM], [0, 0, 0, 1]]
    away.write_text(json.dumps({"camera_from_patient": matrix, "unit": "mm"}))
    finished = cli("render", *block[:5], away, "--out", tmp_path / "drr.png", "--json")
    assert finished.json()["maximum_line_integral"] == 0
    assert "no ray meets the CT" in finished.err
    assert not np.asarray(Image.open(tmp_path / "drr.png")).any()


@pytest.mark.parametrize(
    ("out", "message"), [("drr.jpg", ".png or .npy"), ("no_such_folder/drr.png", "folder"), (".", "end in")]
)
def test_an_output_that_cannot_be_written_is_an_error(cli, block, tmp_path, out, message):
    finished = cli("render", *block, "--out", tmp_path / out)
    assert finished.status == 2
    assert message in finished.err
