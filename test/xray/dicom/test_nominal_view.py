"""The nominal view of an X-ray's header: angles of each frame, and values that no C-arm has."""

import numpy as np
import pydicom
import pytest
from helpers.xray_images import camera, write_xa

from fluoro_reg.xray.dicom.positioner import nominal_view
from fluoro_reg.xray.nominal_view import NominalView
from fluoro_reg.xray.reader import read_xray


def view_of(tmp_path, frame=0, frames=3, **tags):
    pixels = np.arange(frames * 20 * 30, dtype=np.uint16).reshape(frames, 20, 30)
    return read_xray(write_xa(tmp_path / "x.dcm", pixels, **tags), camera(30, 20), frame=frame).nominal_view


def test_angles_and_distance_are_read(tmp_path):
    tags = {"PositionerPrimaryAngle": -32.0, "PositionerSecondaryAngle": 2.0, "DistanceSourceToPatient": 780.0}
    assert view_of(tmp_path, **tags) == NominalView(-32.0, 2.0, 780.0)


def test_a_moving_c_arm_has_increments(tmp_path):
    tags = {"PositionerPrimaryAngle": 10.0, "PositionerSecondaryAngle": 0.0, "PositionerPrimaryAngleIncrement": [0, 5, 11]}
    assert view_of(tmp_path, frame=2, **tags) == NominalView(21.0, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"PositionerSecondaryAngle": None},
        {"PositionerPrimaryAngle": 400.0},
        {"PositionerSecondaryAngle": -95.0},
        {"PositionerType": "COLUMN"},
    ],
)
def test_without_both_angles_of_a_c_arm_there_is_no_view(tmp_path, change):
    assert view_of(tmp_path, **{"PositionerPrimaryAngle": 1.0, "PositionerSecondaryAngle": 1.0, **change}) is None


@pytest.mark.parametrize("distance", [0.0, 78.0, 90000.0])
def test_an_impossible_distance_is_ignored(tmp_path, distance):
    tags = {"PositionerPrimaryAngle": 1.0, "PositionerSecondaryAngle": 2.0, "DistanceSourceToPatient": distance}
    assert view_of(tmp_path, **tags) == NominalView(1.0, 2.0)


@pytest.mark.parametrize(
    ("folder", "expected"), [("coronary_96_frames_xa", (-32.0, 2.0)), ("coronary_12_frames_xa", (77.0, -45.0))]
)
def test_real_cines_state_their_angles(data_folder, folder, expected):
    (path,) = (data_folder / "xray" / folder).glob("*.dcm")
    view = nominal_view(pydicom.dcmread(path, stop_before_pixels=True), frame=3)
    assert view is not None and (view.primary_deg, view.secondary_deg) == expected
