"""Enhanced multi-frame CT: the same volume as the equivalent classic series, whatever the order of its frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError

POSITIONS = [[-3.0, 4.0, 2.5 * k] for k in range(6)]
FLIPPED = [1, 0, 0, 0, -1, 0]


def sequence_of_one(**fields) -> Items:
    dataset = Dataset()
    for keyword, value in fields.items():
        setattr(dataset, keyword, value)
    return Items([dataset])


def frame_groups(position: Sequence[float], intercept: float) -> Dataset:
    groups = Dataset()
    groups.PlanePositionSequence = sequence_of_one(ImagePositionPatient=list(position))
    groups.PixelValueTransformationSequence = sequence_of_one(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU")
    return groups


def enhanced(hu: np.ndarray, positions: Sequence[Sequence[float]], intercepts: Sequence[float]) -> FileDataset:
    """Return an enhanced CT with the common geometry in the shared groups, and position and rescale per frame."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedCTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = generate_uid(), generate_uid()
    shared = Dataset()
    shared.PlaneOrientationSequence = sequence_of_one(ImageOrientationPatient=FLIPPED)
    shared.PixelMeasuresSequence = sequence_of_one(PixelSpacing=[0.7, 1.3])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items([frame_groups(p, b) for p, b in zip(positions, intercepts, strict=True)])
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, 1, "MONOCHROME2"
    dataset.PixelData = (hu - np.array(intercepts)[:, None, None]).astype("<i2").tobytes()
    return dataset


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_in_any_order_give_the_volume_of_the_classic_series(writer, tmp_path: Path, body, compressed):
    order = [3, 0, 5, 1, 4, 2]
    writer.write(body, POSITIONS, FLIPPED, (0.7, 1.3))
    dataset = enhanced(body[order], [POSITIONS[k] for k in order], [-1000 - k for k in order])
    if compressed:
        dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    classic, multi_frame = read_ct(writer.folder), read_ct(tmp_path / "enhanced.dcm")
    assert multi_frame.fingerprint == classic.fingerprint
    assert multi_frame.patient_from_voxel.equal(classic.patient_from_voxel)
    assert multi_frame.attenuation.equal(classic.attenuation)


def test_several_phases_are_rejected(tmp_path: Path, body):
    phases = np.concatenate([body, body + 1])
    enhanced(phases, POSITIONS * 2, [0] * 12).save_as(tmp_path / "phases.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="several phases"):
        read_ct(tmp_path / "phases.dcm")


def test_a_frame_count_that_contradicts_the_frames_is_rejected(tmp_path: Path, body):
    dataset = enhanced(body, POSITIONS, [0] * 6)
    dataset.NumberOfFrames = 10**9
    dataset.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="1000000000 frames but describes 6"):
        read_ct(tmp_path / "bomb.dcm")


def test_a_frame_without_geometry_is_rejected(tmp_path: Path, body):
    dataset = enhanced(body, POSITIONS, [0] * 6)
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    dataset.save_as(tmp_path / "partial.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="no ImagePositionPatient"):
        read_ct(tmp_path / "partial.dcm")
