"""Series whose UIDs an anonymiser made unique: geometry decides about frames of reference, the user about series."""

import numpy as np
import pytest
from pydicom.uid import generate_uid

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError


def positions(count: int, step: float = 2.0, start: float = -50.0) -> list[list[float]]:
    return [[-3.0, 4.0, start + step * k] for k in range(count)]


def own_frame(k: int) -> dict:
    return {"FrameOfReferenceUID": generate_uid()}


def own_series(k: int) -> dict:
    return {"SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid(), "SeriesNumber": 4, "KVP": 120}


def test_slices_with_a_frame_of_reference_each_are_one_series_with_a_warning(writer, new_writer, body):
    plain = read_ct(new_writer("plain").write(body, positions(6))[0].parent)
    writer.write(body, positions(6), slice_fields=own_frame)
    volume = read_ct(writer.folder)
    assert volume.fingerprint == plain.fingerprint
    assert volume.warnings == (
        "the 6 slices have 6 FrameOfReferenceUIDs: they are read as one scan, because the rest agrees",
        *plain.warnings,
    )


def test_two_series_with_a_frame_of_reference_for_each_slice_are_listed_and_chosen(writer, new_writer, body):
    writer.write(body, positions(6), slice_fields=own_frame, name=lambda k: f"a{k}.dcm")
    other = new_writer()
    other.write(body[:4], positions(4, step=3.0), slice_fields=own_frame, name=lambda k: f"b{k}.dcm")
    with pytest.raises(InputError, match=r"there are 2 CT series; choose one .* 1: 6 slices 16x12 .*, 2: 4 slices 16x12"):
        read_ct(writer.folder)
    assert read_ct(writer.folder, "2").shape_ijk == (16, 12, 4)
    assert read_ct(writer.folder, other.series_uid).shape_ijk == (16, 12, 4)


@pytest.mark.parametrize(("second_start", "parts"), [(-38.0, 1), (-49.3, 2)])
def test_two_frames_of_reference_in_a_series_are_one_scan_where_the_positions_continue(writer, body, second_start, parts):
    """A second scan under the same UID, whose slices lie between those of the first, stays a part of its own."""
    places = [*positions(6), *positions(6, start=second_start)]
    frames = generate_uid(), generate_uid()
    writer.write(np.concatenate([body, body]), places, slice_fields=lambda k: {"FrameOfReferenceUID": frames[k // 6]})
    if parts == 1:
        assert read_ct(writer.folder).shape_ijk == (16, 12, 12)
    else:
        with pytest.raises(InputError, match="mixes orientations or sizes"):
            read_ct(writer.folder)
        assert read_ct(writer.folder, "1").shape_ijk == (16, 12, 6)


def test_a_missing_slice_is_still_found_if_each_slice_has_its_own_frame_of_reference(writer, body):
    places = positions(7)
    del places[4]
    writer.write(body, places, slice_fields=own_frame)
    with pytest.raises(InputError, match="slices are missing"):
        read_ct(writer.folder)


def test_slices_with_a_series_uid_each_are_offered_as_one_series_but_not_merged_silently(writer, new_writer, body):
    plain = read_ct(new_writer("plain").write(body, positions(6))[0].parent)
    files = writer.write(body, positions(6), slice_fields=own_series)
    with pytest.raises(InputError, match=r"but 6 of them agree .* --series 1: 1: 6 slices 16x12 .* from 6 SeriesInstanceUIDs"):
        read_ct(writer.folder)
    volume = read_ct(writer.folder, "1")
    assert volume.fingerprint == plain.fingerprint
    assert any("6 SeriesInstanceUIDs: they are read as one series, as chosen" in warning for warning in volume.warnings)
    files[3].write_bytes(files[3].read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_ct(writer.folder, "1")


def test_two_acquisitions_with_a_series_uid_for_each_slice_are_offered_apart(writer, new_writer, body):
    writer.write(body, positions(6), slice_fields=own_series, name=lambda k: f"a{k}.dcm")
    new_writer().write(
        body, positions(6), slice_fields=lambda k: own_series(k) | {"SeriesNumber": 5}, name=lambda k: f"b{k}.dcm"
    )
    with pytest.raises(InputError, match=r"there are 2 CT series; .* 1: 6 slices .*, 2: 6 slices"):
        read_ct(writer.folder)


@pytest.mark.parametrize("difference", ["kernel", "gap"])
def test_slices_of_several_series_that_disagree_are_not_offered_as_one(writer, body, difference):
    places = positions(6)
    if difference == "gap":
        places[5][2] += 5
    kernels = {"kernel": "B30f B30f B30f B60f B60f B60f", "gap": "B30f " * 6}[difference].split()
    writer.write(body, places, slice_fields=lambda k: own_series(k) | {"ConvolutionKernel": kernels[k]})
    with pytest.raises(InputError) as caught:
        read_ct(writer.folder)
    offered = [part for part in str(caught.value).split(": ") if "SeriesInstanceUIDs" in part]
    assert len(offered) == (2 if difference == "kernel" else 0)
