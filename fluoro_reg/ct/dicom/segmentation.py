"""Reader of DICOM SEG (BINARY, FRACTIONAL with whole values, and LABELMAP), with highdicom.

highdicom sorts the frames by their positions, puts back slices in which no segment has a frame, and refuses segments that
overlap, which a label map cannot hold. Which number a segment has is up to the program that wrote it. So where segments carry
TotalSegmentator's names of bones, those decide: each such segment takes the number that TotalSegmentator gives the bone, and
any other segment none.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fluoro_reg.ct.bone_labels import BONE_LABELS
from fluoro_reg.ct.dicom.files import convert_pydicom_errors, parse_dicom
from fluoro_reg.ct.optional_reader import import_extra, writable_copy
from fluoro_reg.ct.raw_grid import RawGrid
from fluoro_reg.ct.volume_files import VOLUME_FORMATS
from fluoro_reg.errors import InputError

_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # Segmentation and Label Map Segmentation Storage


def read_dicom_segmentation(path: Path) -> RawGrid:
    """Read the labels of one DICOM SEG file.

    Raises:
        InputError: highdicom is not installed, or the file is not a segmentation of known geometry whose segments are apart.
    """
    highdicom, where = import_extra("highdicom", "DICOM SEG"), f"'{path.name}'"
    dataset = parse_dicom(path, where, header_only=False)
    with convert_pydicom_errors(where):
        if dataset.get("SOPClassUID") not in _CLASSES:
            raise InputError(f"{where} is DICOM, but not a segmentation; give a DICOM SEG, or {VOLUME_FORMATS}")
        segmentation = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
        try:
            volume = segmentation.get_volume(combine_segments=True, dtype=np.uint16)
        except RuntimeError as error:
            if "overlap" in str(error).lower():
                raise InputError(f"{where} has segments that overlap, but a voxel has one label; export them apart") from None
            raise InputError(f"{where} is not on one regular grid; export it again, or as NIfTI") from None
        except ValueError:
            raise InputError(f"{where} holds fractions, not labels; export a binary segmentation") from None
        labels = _bone_numbers(segmentation)[volume.array]
    return RawGrid(writable_copy(labels), np.asarray(volume.affine)[:, [2, 1, 0, 3]])


def _bone_numbers(segmentation: Any) -> np.ndarray:
    """The label of every segment number."""
    names = {int(n): segmentation.get_segment_description(n).segment_label for n in segmentation.segment_numbers}
    numbers = np.arange(max(names, default=0) + 1)
    if bones := {number: BONE_LABELS[name] for number, name in names.items() if name in BONE_LABELS}:
        numbers = np.array([bones.get(number, 0) for number in numbers.tolist()])
    return numbers
