"""Which series of a folder is read, and that the choice names nobody."""

import numpy as np
import pytest

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError


def line(count: int, step: float = 1.0, start: float = 0.0) -> list[list[float]]:
    return [[0, 0, start + step * k] for k in range(count)]


@pytest.fixture()
def two_series(new_writer):
    """Five thin slices of 8 x 8 and four coarse ones of 6 x 6, mixed in one folder."""
    thin, coarse = new_writer(), new_writer()
    thin.write(
        np.full((5, 8, 8), 0.0), line(5), name=lambda k: f"{2 * k}.dcm", slice_fields=lambda k: {"ConvolutionKernel": "B30f"}
    )
    coarse.write(np.full((4, 6, 6), 100.0), line(4, 5.0), name=lambda k: f"{2 * k + 1}.dcm", spacing=(2, 2))
    return thin, coarse


def test_several_series_and_no_choice_is_refused_with_a_list(two_series):
    with pytest.raises(InputError) as refusal:
        read_ct(two_series[0].folder)
    assert "there are 2 CT series" in str(refusal.value)
    assert "1: 5 slices 8x8 of 1.00 mm, axial, kernel B30f" in str(refusal.value)
    assert "2: 4 slices 6x6 of 2.00 mm, axial" in str(refusal.value)
    assert two_series[0].series_uid not in str(refusal.value)


def test_a_series_is_chosen_by_its_number_or_its_uid(two_series):
    thin, coarse = two_series
    assert read_ct(thin.folder, "1").shape_ijk == (8, 8, 5)
    assert read_ct(thin.folder, "2").shape_ijk == (6, 6, 4)
    assert read_ct(thin.folder, coarse.series_uid).shape_ijk == (6, 6, 4)


@pytest.mark.parametrize("series", ["0", "3", "1.2.3.4", "-1"])
def test_a_choice_that_does_not_exist_is_refused_without_repeating_it(two_series, series):
    with pytest.raises(InputError, match="choose one by its number: 1: 5 slices"):
        read_ct(two_series[0].folder, series)


def test_numbers_do_not_depend_on_file_names(two_series):
    folder = two_series[0].folder
    before = read_ct(folder, "2").fingerprint
    for number, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        file.rename(folder / f"renamed{number:02d}.dcm")
    assert read_ct(folder, "2").fingerprint == before


def test_localizers_other_modalities_and_other_files_do_not_count(writer, new_writer, body):
    writer.write(body, line(6))
    new_writer().write(
        body[:3],
        line(3),
        name=lambda k: f"scout{k}.dcm",
        slice_fields=lambda k: {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    )
    new_writer().write(body[:3], line(3), name=lambda k: f"mr{k}.dcm", slice_fields=lambda k: {"Modality": "MR"})
    (writer.folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (writer.folder / "notes.txt").write_text("no image")
    assert read_ct(writer.folder).shape_ijk == (16, 12, 6)


def test_one_series_that_mixes_orientations_is_refused(writer):
    writer.write(np.zeros((4, 8, 8)), line(4))
    writer.write(np.zeros((3, 8, 8)), [[k, 0, 0] for k in range(3)], (0, 1, 0, 0, 0, -1), name=lambda k: f"sagittal{k}.dcm")
    with pytest.raises(InputError, match=r"mixes orientations or sizes.*1: 4 slices 8x8.*axial, 2: 3 slices 8x8.*sagittal"):
        read_ct(writer.folder)
    with pytest.raises(InputError, match="mixes orientations"):
        read_ct(writer.folder, writer.series_uid)
    assert read_ct(writer.folder, "2").shape_ijk == (8, 8, 3)


def test_a_stray_slice_of_another_series_is_left_out_aloud(writer, new_writer, body):
    writer.write(body, line(6))
    new_writer().write(body[:1], line(1), name=lambda k: "stray.dcm")
    volume = read_ct(writer.folder)
    assert volume.shape_ijk == (16, 12, 6)
    assert any("1 CT slice of another series" in warning for warning in volume.warnings)


def test_a_damaged_slice_of_a_series_nobody_wants_does_not_matter(two_series):
    thin, coarse = two_series
    extra = thin.write(
        np.zeros((1, 8, 8)), [[0, 0, 9]], name=lambda k: "extra.dcm", slice_fields=lambda k: {"PixelSpacing": None}
    )
    assert read_ct(coarse.folder, "2").shape_ijk == (6, 6, 4)
    with pytest.raises(InputError, match="has no PixelSpacing"):
        read_ct(thin.folder, "1")
    assert extra[0].exists()


def test_files_are_found_in_subfolders_and_links_out_of_the_folder_are_not_followed(writer, new_writer, tmp_path, body):
    outside = new_writer("outside").write(body[5:], line(1, start=5.0))
    inside = new_writer("series/a/b", series_uid=writer.series_uid, frame_uid=writer.frame_uid)
    inside.write(body[:5], line(5))
    (writer.folder / "link.dcm").symlink_to(outside[0])
    assert read_ct(writer.folder).shape_ijk == (16, 12, 5)


@pytest.mark.parametrize("fill", ["nothing", "text"])
def test_a_folder_without_a_ct_is_refused(tmp_path, fill):
    folder = tmp_path / "folder"
    folder.mkdir()
    if fill == "text":
        (folder / "readme").write_text("no image")
    with pytest.raises(
        InputError, match=f"the folder 'folder' holds {'no files' if fill == 'nothing' else 'files but no DICOM'}"
    ):
        read_ct(folder)


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no CT at 'nowhere'"):
        read_ct(tmp_path / "nowhere")
