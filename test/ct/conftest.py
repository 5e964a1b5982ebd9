"""Fixtures for the tests of the CT readers: a writer of small DICOM series whose header fields a test can set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass
class SeriesWriter:
    """Writes HU [k, j, i] as one file per slice. `slice_fields` returns the header fields of a slice from its number."""

    folder: Path
    series_uid: str = field(default_factory=generate_uid)
    frame_uid: str = field(default_factory=generate_uid)

    def write(
        self,
        hu: np.ndarray,
        positions: Sequence[Sequence[float]],
        orientation: Sequence[float] = AXIAL,
        spacing: tuple[float, float] = (1.0, 1.0),
        slice_fields: Callable[[int], dict[str, Any]] = lambda k: {},
        name: Callable[[int], str] = lambda k: f"{k:03d}.dcm",
    ) -> list[Path]:
        """Write the series and return its files in the order of `hu`.

        `spacing` is DICOM's PixelSpacing: row spacing, column spacing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        files = []
        for k, (plane, position) in enumerate(zip(hu, positions, strict=True)):
            dataset = self._dataset(k, orientation, spacing, position)
            fields = {"RescaleSlope": 1, "RescaleIntercept": -1024, **slice_fields(k)}
            stored = fields.pop("stored", None)
            for keyword, value in fields.items():
                if value is None:
                    if keyword in dataset:
                        del dataset[keyword]
                else:
                    setattr(dataset, keyword, value)
            if stored is None:
                stored = np.round((plane - float(fields["RescaleIntercept"])) / float(fields["RescaleSlope"]))
            self._set_pixels(dataset, stored.astype(np.int16 if dataset.PixelRepresentation else np.uint16))
            files.append(self.folder / name(k))
            dataset.save_as(files[-1], enforce_file_format=True)
        return files

    def _dataset(
        self, k: int, orientation: Sequence[float], spacing: tuple[float, float], position: Sequence[float]
    ) -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.Modality = "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = self.series_uid, self.frame_uid
        dataset.StudyInstanceUID = generate_uid()
        dataset.PatientName, dataset.PatientID = "Nobody^At^All", "0000"
        dataset.InstanceNumber = 1000 - k  # not in the order of the slices
        dataset.ImagePositionPatient = [f"{float(value):.10g}" for value in position]
        dataset.ImageOrientationPatient = [f"{float(value):.10g}" for value in orientation]
        dataset.PixelSpacing = list(spacing)
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        return dataset

    def _set_pixels(self, dataset: Dataset, stored: np.ndarray) -> None:
        dataset.Rows, dataset.Columns = stored.shape
        dataset.PixelData = np.ascontiguousarray(stored).tobytes()


@pytest.fixture
def writer(tmp_path: Path) -> SeriesWriter:
    return SeriesWriter(tmp_path / "series")


@pytest.fixture
def new_writer(tmp_path: Path) -> Callable[..., SeriesWriter]:
    """Return a function that makes writers of further series, by default in the same folder with other UIDs."""

    def make(folder: str = "series", **uids: str) -> SeriesWriter:
        return SeriesWriter(tmp_path / folder, **uids)

    return make


@pytest.fixture
def body() -> np.ndarray:
    """Return HU [k, j, i] of a 6 x 12 x 16 grid: soft tissue in air, with a bright landmark at (i, j, k) = (9, 4, 2)."""
    hu = np.full((6, 12, 16), -1000.0)
    hu[1:5, 2:10, 3:13] = 40.0
    hu[2, 4, 9] = 1200.0
    return hu
