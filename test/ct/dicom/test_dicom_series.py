"""The choice of a series in a folder, and that the list of series identifies no patient."""

import numpy as np
import pytest

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError


def positions(count: int, step: float = 1.0, start: float = 0.0) -> list[list[float]]:
    return [[0, 0, start + step * k] for k in range(count)]


@pytest.fixture
def two_series(new_writer):
    """Write five thin slices of 8 x 8 and four thick ones of 6 x 6 to one folder."""
    thin, thick = new_writer(), new_writer()
    thin.write(
        np.full((5, 8, 8), 0.0),
        positions(5),
        name=lambda k: f"{2 * k}.dcm",
        slice_fields=lambda k: {"ConvolutionKernel": "B30f"},
    )
    thick.write(np.full((4, 6, 6), 100.0), positions(4, 5.0), name=lambda k: f"{2 * k + 1}.dcm", spacing=(2, 2))
    return thin, thick


def test_several_series_without_a_choice_give_an_error_that_lists_them(two_series):
    with pytest.raises(InputError) as caught:
        read_ct(two_series[0].folder)
    assert "there are 2 CT series" in str(caught.value)
    assert "1: 5 slices 8x8 of 1.00 mm, axial, kernel B30f" in str(caught.value)
    assert "2: 4 slices 6x6 of 2.00 mm, axial" in str(caught.value)
    assert two_series[0].series_uid not in str(caught.value)


def test_a_series_is_chosen_by_its_number_or_its_uid(two_series):
    thin, thick = two_series
    assert read_ct(thin.folder, "1").shape_ijk == (8, 8, 5)
    assert read_ct(thin.folder, "2").shape_ijk == (6, 6, 4)
    assert read_ct(thin.folder, thick.series_uid).shape_ijk == (6, 6, 4)


@pytest.mark.parametrize("series", ["0", "3", "1.2.3.4", "-1"])
def test_the_error_for_an_unknown_series_does_not_repeat_the_choice(two_series, series):
    with pytest.raises(InputError, match="choose one by its number: 1: 5 slices"):
        read_ct(two_series[0].folder, series)


def test_numbers_do_not_depend_on_file_names(two_series):
    folder = two_series[0].folder
    before = read_ct(folder, "2").fingerprint
    for number, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        file.rename(folder / f"renamed{number:02d}.dcm")
    assert read_ct(folder, "2").fingerprint == before


def test_localizers_other_modalities_and_other_files_are_ignored(writer, new_writer, body):
    writer.write(body, positions(6))
    new_writer().write(
        body[:3],
        positions(3),
        name=lambda k: f"scout{k}.dcm",
        slice_fields=lambda k: {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    )
    new_writer().write(body[:3], positions(3), name=lambda k: f"mr{k}.dcm", slice_fields=lambda k: {"Modality": "MR"})
    (writer.folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (writer.folder / "notes.txt").write_text("no image")
    assert read_ct(writer.folder).shape_ijk == (16, 12, 6)


def test_a_series_that_mixes_orientations_is_rejected(writer):
    writer.write(np.zeros((4, 8, 8)), positions(4))
    writer.write(np.zeros((3, 8, 8)), [[k, 0, 0] for k in range(3)], (0, 1, 0, 0, 0, -1), name=lambda k: f"sagittal{k}.dcm")
    with pytest.raises(InputError, match=r"mixes orientations or sizes.*1: 4 slices 8x8.*axial, 2: 3 slices 8x8.*sagittal"):
        read_ct(writer.folder)
    with pytest.raises(InputError, match="mixes orientations"):
        read_ct(writer.folder, writer.series_uid)
    assert read_ct(writer.folder, "2").shape_ijk == (8, 8, 3)


def test_a_single_slice_of_another_series_is_skipped_with_a_warning(writer, new_writer, body):
    writer.write(body, positions(6))
    new_writer().write(body[:1], positions(1), name=lambda k: "stray.dcm")
    volume = read_ct(writer.folder)
    assert volume.shape_ijk == (16, 12, 6)
    assert any("1 CT slice of another series" in warning for warning in volume.warnings)


def test_a_damaged_slice_of_another_series_is_ignored(two_series):
    thin, thick = two_series
    extra = thin.write(
        np.zeros((1, 8, 8)), [[0, 0, 9]], name=lambda k: "extra.dcm", slice_fields=lambda k: {"PixelSpacing": None}
    )
    assert read_ct(thick.folder, "2").shape_ijk == (6, 6, 4)
    with pytest.raises(InputError, match="has no PixelSpacing"):
        read_ct(thin.folder, "1")
    assert extra[0].exists()


def test_files_are_found_in_subfolders_and_links_out_of_the_folder_are_not_followed(writer, new_writer, tmp_path, body):
    outside = new_writer("outside").write(body[5:], positions(1, start=5.0))
    inside = new_writer("series/a/b", series_uid=writer.series_uid, frame_uid=writer.frame_uid)
    inside.write(body[:5], positions(5))
    (writer.folder / "link.dcm").symlink_to(outside[0])
    assert read_ct(writer.folder).shape_ijk == (16, 12, 5)


@pytest.mark.parametrize("fill", ["nothing", "text"])
def test_a_folder_without_a_ct_is_rejected(tmp_path, fill):
    folder = tmp_path / "folder"
    folder.mkdir()
    if fill == "text":
        (folder / "readme").write_text("no image")
    with pytest.raises(
        InputError, match=f"the folder 'folder' contains {'no files' if fill == 'nothing' else 'files, but neither DICOM'}"
    ):
        read_ct(folder)


def test_a_path_that_does_not_exist_is_rejected(tmp_path):
    with pytest.raises(InputError, match="there is no CT at 'nowhere'"):
        read_ct(tmp_path / "nowhere")
