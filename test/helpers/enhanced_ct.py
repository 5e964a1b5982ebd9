"""A writer of small enhanced multi-frame CTs."""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

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
