"""DICOM SEG as a label map, written by highdicom as other programs write it."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from fluoro_reg.ct.bone_labels import BONE_LABELS
from fluoro_reg.ct.label_map import read_label_map
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series

highdicom = pytest.importorskip("highdicom", reason="highdicom is an optional extra")

pytestmark = pytest.mark.filterwarnings("ignore:The string")  # highdicom about the phantom's name

SHAPE = (6, 8, 10)  # slices, rows, columns
AFFINE = np.array([[2.0, 0, 0, -9.0], [0, 2.0, 0, 4.0], [0, 0, 3.0, 20.0], [0, 0, 0, 1.0]])
BONE = highdicom.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_dicom_series(folder / "ct", np.zeros(SHAPE, np.float32), AFFINE)
    return folder / "ct"


def write(path, series, masks, names, kind="BINARY"):
    """Write one segment for each mask; frames without any voxel are left out, as most programs do."""
    sources = [pydicom.dcmread(file) for file in sorted(series.iterdir())]
    sources.sort(key=lambda source: source.ImagePositionPatient[2])
    descriptions = [
        highdicom.seg.SegmentDescription(n, name, BONE, BONE, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
        for n, name in enumerate(names, start=1)
    ]
    pixels = np.stack(masks, axis=-1) if kind != "LABELMAP" else sum(n * mask for n, mask in enumerate(masks, start=1))
    highdicom.seg.Segmentation(
        sources,
        pixels.astype(np.float32 if kind == "FRACTIONAL" else np.uint8),
        kind,
        descriptions,
        generate_uid(),
        1,
        generate_uid(),
        1,
        "maker",
        "model",
        "1",
        "0",
    ).save_as(path)
    return path


def box(*slices):
    mask = np.zeros(SHAPE, bool)
    mask[slices] = True
    return mask


LOW = box(slice(1, 3), slice(2, 4), slice(2, 7))
HIGH = box(slice(4, 5), slice(2, 6), slice(1, 3))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_are_read_where_they_are(series, tmp_path, kind):
    found = read_label_map(write(tmp_path / "seg.dcm", series, [LOW, HIGH], ["first", "second"], kind))
    labels = found.on_grid_of(read_ct(series)).numpy()
    assert np.array_equal(labels, np.where(LOW, 1, 0) + np.where(HIGH, 2, 0))


def test_slices_without_a_segment_are_put_back(series, tmp_path):
    found = read_label_map(write(tmp_path / "seg.dcm", series, [LOW, HIGH], ["first", "second"]))
    assert len(found.labels) == 4, "slices 1 to 4, of which slice 3 has no frame"
    assert [bool(plane.any()) for plane in found.labels].count(False) == 1


def test_segments_with_the_names_of_bones_have_their_numbers_and_others_none(series, tmp_path):
    file = write(tmp_path / "seg.dcm", series, [LOW, HIGH], ["liver", "femur_left"])
    assert set(read_label_map(file).labels.unique().tolist()) == {0, BONE_LABELS["femur_left"]}


def test_segments_that_overlap_are_refused(series, tmp_path):
    file = write(tmp_path / "seg.dcm", series, [LOW, LOW], ["first", "second"])
    with pytest.raises(InputError, match=r"'seg\.dcm' has segments that overlap"):
        read_label_map(file)


def test_a_ct_is_not_a_segmentation(series):
    file = sorted(series.iterdir())[0]
    with pytest.raises(InputError, match="is DICOM, but not a segmentation"):
        read_label_map(file)


def test_a_damaged_file_is_refused_in_one_sentence(series, tmp_path):
    file = write(tmp_path / "seg.dcm", series, [LOW], ["first"])
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"'seg\.dcm'") as error:
        read_label_map(file)
    assert "\n" not in str(error.value)


def test_fractions_are_refused(series, tmp_path):
    file = write(tmp_path / "seg.dcm", series, [0.4 * LOW], ["first"], "FRACTIONAL")
    with pytest.raises(InputError, match=r"'seg\.dcm' holds fractions, not labels"):
        read_label_map(file)


def test_slices_at_uneven_distances_are_refused(series, tmp_path):
    file = write(tmp_path / "seg.dcm", series, [box(slice(0, 6), slice(2, 4), slice(2, 7))], ["first"])
    dataset = pydicom.dcmread(file)
    dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient[2] += 1.3
    dataset.save_as(file)
    with pytest.raises(InputError, match=r"'seg\.dcm' is not on one regular grid"):
        read_label_map(file)


def test_without_the_library_its_extra_is_named(series, tmp_path, monkeypatch):
    file = write(tmp_path / "seg.dcm", series, [LOW], ["first"])
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(InputError, match=r"reading DICOM SEG needs highdicom: pip install \"fluoro_reg\[formats\]\""):
        read_label_map(file)
