"""What the header states about geometry twice: where statements disagree beyond rounding, the warning has both values."""

import numpy as np
import pytest
from helpers.enhanced_ct import enhanced
from pydicom import dcmread
from pydicom.sequence import Sequence

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError

STEP = 2.5


def warnings_of(writer, body, **fields) -> list[str]:
    """Return the warnings for slices 2.5 mm apart, with pixels of 0.8 x 0.7 mm and the given header fields."""
    places = [[1.0, 2.0, STEP * k] for k in range(len(body))]
    values = {name: value if callable(value) else (lambda k, value=value: value) for name, value in fields.items()}
    writer.write(body, places, spacing=(0.8, 0.7), slice_fields=lambda k: {name: value(k) for name, value in values.items()})
    volume = read_ct(writer.folder)
    assert volume.voxel_size_mm == pytest.approx((0.7, 0.8, STEP))
    return [warning for warning in volume.warnings if " says " in warning or "SliceLocation" in warning]


@pytest.mark.parametrize(
    ("fields", "both"),
    [
        ({"SpacingBetweenSlices": 5.0}, ["SpacingBetweenSlices says 5 mm", "are 2.5 mm apart"]),
        ({"SpacingBetweenSlices": 2.4}, ["SpacingBetweenSlices says 2.4 mm", "are 2.5 mm apart"]),
        ({"SliceThickness": 1.0}, ["SliceThickness says 1 mm", "are 2.5 mm apart"]),
        ({"SliceThickness": 25.0}, ["SliceThickness says 25 mm", "are 2.5 mm apart"]),
        ({"SliceLocation": lambda k: 5.0 * k}, ["SliceLocation has steps of 5 mm", "are 2.5 mm apart"]),
        ({"SliceLocation": lambda k: 2.5 * k + 4 * (k > 3)}, ["SliceLocation has steps of 2.5 to 6.5 mm", "are 2.5 mm apart"]),
        ({"ImagerPixelSpacing": [0.4, 0.35]}, ["ImagerPixelSpacing says 0.4 x 0.35 mm", "PixelSpacing 0.8 x 0.7 mm"]),
        ({"NominalScannedPixelSpacing": [1.0, 1.0]}, ["NominalScannedPixelSpacing says 1 x 1 mm", "0.8 x 0.7 mm"]),
        ({"ReconstructionDiameter": 500.0}, ["ReconstructionDiameter says 500.0 mm", "0.8 x 0.7 mm gives an image of 11.2 mm"]),
    ],
)
def test_a_statement_that_contradicts_the_positions_is_reported_with_both_values(writer, body, fields, both):
    (warning,) = warnings_of(writer, body, **fields)
    assert all(text in warning for text in both)


@pytest.mark.parametrize(
    "fields",
    [
        {"SpacingBetweenSlices": 2.5, "SliceThickness": 2.5, "SliceLocation": lambda k: 2.5 * k},
        {"SpacingBetweenSlices": -2.5, "SliceLocation": lambda k: 100 - 2.5 * k},
        {"SpacingBetweenSlices": 2.51, "SliceThickness": 5.0, "SliceLocation": lambda k: round(2.5 * k, 1)},
        {"ReconstructionDiameter": 11.2, "ImagerPixelSpacing": [0.8, 0.7]},
        {"SliceThickness": "", "SpacingBetweenSlices": "", "ReconstructionDiameter": ""},
    ],
)
def test_statements_that_agree_up_to_rounding_overlap_or_direction_give_no_warning(writer, body, fields):
    assert warnings_of(writer, body, **fields) == []


def test_the_steps_of_a_tilted_stack_may_be_stated_along_the_table_or_along_the_normal(writer, body):
    tilt = np.radians(20)
    orientation = [1, 0, 0, 0, np.cos(tilt), np.sin(tilt)]
    places = [[0, 0, STEP * k] for k in range(6)]
    for stated in (STEP, STEP * np.cos(tilt)):
        writer.write(
            body, places, orientation, slice_fields=lambda k, s=stated: {"SpacingBetweenSlices": s, "SliceLocation": STEP * k}
        )
        assert not any(" says " in warning or "SliceLocation" in warning for warning in read_ct(writer.folder).warnings)


@pytest.mark.parametrize(
    ("keyword", "value", "texts"),
    [
        ("PixelSpacing", [1.4, 1.3], ["1.4\\1.3 at the top level", "0.7\\1.3 in the functional groups"]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 1, 0], ["1\\0\\0\\0\\1\\0 at the top level", "1\\0\\0\\0\\-1\\0 in the"]),
        ("RescaleIntercept", -1024, ["-1024 at the top level", "0 in the functional groups"]),
    ],
)
def test_an_enhanced_file_that_states_an_attribute_twice_is_reported_with_both_values(tmp_path, body, keyword, value, texts):
    dataset = enhanced(body, [[-3.0, 4.0, STEP * k] for k in range(6)], [0] * 6)
    setattr(dataset, keyword, value)
    dataset.save_as(tmp_path / "twice.dcm", enforce_file_format=True)
    warnings = [warning for warning in read_ct(tmp_path / "twice.dcm").warnings if warning.startswith(keyword)]
    assert len(warnings) == 1 and all(text in warnings[0] for text in texts)


def test_signed_pixels_declared_as_unsigned_are_rejected(writer, body):
    places, signed = [[0, 0, STEP * k] for k in range(6)], {"PixelRepresentation": 1, "RescaleIntercept": 0}
    files = writer.write(body, places, slice_fields=lambda k: signed)
    for file in files:
        dataset = dcmread(file)
        dataset.PixelRepresentation = 0
        dataset.save_as(file)
    with pytest.raises(InputError, match=r"64536 HU, which no material does: .*PixelRepresentation"):
        read_ct(writer.folder)


def test_several_frames_in_a_classic_file_need_a_position_each(writer, body):
    file = writer.write(body[:1], [[0, 0, 0]])[0]
    dataset = dcmread(file)
    dataset.NumberOfFrames, dataset.SpacingBetweenSlices = 6, STEP
    dataset.PixelData = (body + 1024).astype(np.uint16).tobytes()
    dataset.save_as(file)
    with pytest.raises(InputError, match=r"holds 6 frames but no position for each .*PerFrameFunctionalGroupsSequence"):
        read_ct(file)
    dataset.PerFrameFunctionalGroupsSequence = Sequence([])
    dataset.save_as(file)
    with pytest.raises(InputError, match="declares 6 frames but describes 0"):
        read_ct(file)
