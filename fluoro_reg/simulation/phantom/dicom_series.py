"""DICOM output: writes a grid of HU as a series of CT images, so that demo and tests use the real reader.

The files are CT Image Storage (PS3.3 section A.3), explicit VR little endian, signed 16 bit. The patient's name is PHANTOM,
dates and institutions are empty, and the UIDs have the root 2.25. The same grid gives the same files.
"""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from fluoro_reg.errors import InputError

_INTERCEPT_HU = -1024
_EMPTY = (  # type 2 attributes of the IOD: required, but may be empty
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "PatientBirthDate", "PatientSex"),
    *("Manufacturer", "AcquisitionNumber", "PositionReferenceIndicator", "KVP"),
)


def write_dicom_series(
    folder: Path | str, hu: Float32[np.ndarray, "slices rows columns"], patient_from_voxel: Float[np.ndarray, "4 4"]
) -> list[Path]:
    """Write one file per slice: `slice_0001.dcm`, `slice_0002.dcm`, ...

    Args:
        folder: The folder to write; it is created if it does not exist.
        hu: Hounsfield units, which are rounded to whole numbers.
        patient_from_voxel: Affine map of voxel indices (i, j, k) to patient mm.

    Returns:
        The files in slice order.

    Raises:
        InputError: The in-plane axes are not perpendicular, or the HU do not fit into 16 bits.
    """
    column_step, row_step = patient_from_voxel[:3, 0], patient_from_voxel[:3, 1]
    if abs(column_step @ row_step) > 1e-6 * np.linalg.norm(column_step) * np.linalg.norm(row_step):
        raise InputError("DICOM images need perpendicular rows and columns; resample the volume first")
    stored = np.round(hu) - _INTERCEPT_HU
    if not np.isfinite(hu).all() or stored.min() < -32768 or stored.max() > 32767:
        raise InputError("16 bits of DICOM hold only -33792 to 31743 HU; clip the volume first")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stored = stored.astype("<i2")
    entropy = hashlib.sha256(patient_from_voxel.tobytes() + stored.tobytes()).hexdigest()
    common = _common_attributes(patient_from_voxel, stored.shape, entropy)
    files = []
    for k, pixels in enumerate(stored):
        files.append(folder / f"slice_{k + 1:04d}.dcm")
        _write_slice(files[-1], common, pixels, patient_from_voxel[:3] @ [0, 0, k, 1], (k, entropy))
    return files


def _common_attributes(patient_from_voxel: np.ndarray, shape: tuple[int, ...], entropy: str) -> Dataset:
    """Return the attributes that all slices share."""
    steps = np.linalg.norm(patient_from_voxel[:3, :3], axis=0)
    directions = patient_from_voxel[:3, :2] / steps[:2]
    data = Dataset()
    for keyword in _EMPTY:
        setattr(data, keyword, None)
    data.SOPClassUID = CTImageStorage
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (
        _uid(entropy, level) for level in ("study", "series", "frame")
    )
    data.PatientName, data.PatientID = "PHANTOM", "PHANTOM"
    data.Modality, data.SeriesNumber, data.SeriesDescription = "CT", 1, "fluoro_reg procedural pelvis"
    data.ImageType, data.PatientPosition = ["DERIVED", "SECONDARY", "AXIAL"], "HFS"
    data.ImageOrientationPatient = [f"{x:.10g}" for x in directions.T.ravel()]
    data.PixelSpacing = [f"{steps[1]:.10g}", f"{steps[0]:.10g}"]
    data.SliceThickness = f"{steps[2]:.10g}"
    data.Rows, data.Columns = shape[1], shape[2]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = _INTERCEPT_HU, 1, "HU"
    data.WindowCenter, data.WindowWidth = 300, 1500
    return data


def _write_slice(path: Path, common: Dataset, pixels: np.ndarray, position: np.ndarray, identity: tuple[int, str]) -> None:
    k, entropy = identity
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(entropy, str(k))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), common.copy(), preamble=b"\0" * 128, file_meta=meta)
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.InstanceNumber = k + 1
    data.ImagePositionPatient = [f"{x:.10g}" for x in position]
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)


def _uid(*content: str) -> UID:
    """The same UID for the same content; pydicom's `generate_uid` ignores the content where the root is 2.25."""
    digest = hashlib.sha256("/".join(content).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")
