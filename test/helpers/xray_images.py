"""Synthetic X-rays for tests: a body with cortical bones as photons or line integrals, its camera, and XA files."""

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage, generate_uid
from scipy.ndimage import gaussian_filter

from fluoro_reg.geometry import CameraIntrinsics


def camera(width: int, height: int) -> CameraIntrinsics:
    return CameraIntrinsics(width, height, 4.0 * width, 4.0 * width, (width - 1) / 2, (height - 1) / 2, 1000.0)


def chord(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """Return the length of a ray within an ellipsoid, relative to that through its centre."""
    return np.sqrt(np.clip(1 - ((x - centre[0]) / radii[0]) ** 2 - ((y - centre[1]) / radii[1]) ** 2, 0, None))


def line_integrals(size: int, seed: int = 0) -> np.ndarray:
    """Return line integrals, 0 to about 5, of a torso wider than the image with vertebrae, two iliac wings and gas."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    x = x + rng.uniform(-0.15, 0.15)
    total = 3.0 * chord(x, y, (0, 0), (1.3, 2.5))
    for centre in np.arange(-1.1, 0.5, 0.28) + rng.uniform(-0.05, 0.05):
        shell = chord(x, y, (0, centre), (0.2, 0.13)) - 0.8 * chord(x, y, (0, centre), (0.17, 0.1))
        total += 1.4 * shell + 0.5 * chord(x, y, (0, centre), (0.2, 0.13))
    for side in (-1, 1):
        wing, inner = chord(x, y, (side * 0.6, 0.55), (0.42, 0.5)), chord(x, y, (side * 0.6, 0.55), (0.39, 0.47))
        total += 1.6 * (wing - 0.9 * inner)
        total -= 0.5 * chord(x, y, (side * rng.uniform(0.3, 0.7), rng.uniform(-0.8, -0.2)), (0.12, 0.08))
    return total


def photons(integrals: np.ndarray, count: float = 2000.0, seed: int = 0) -> np.ndarray:
    """Return counts behind the body, with scatter, blur and noise; `count` photons in open air."""
    primary = np.exp(-integrals)
    scattered = primary + 0.5 * gaussian_filter(primary, integrals.shape[0] / 10)
    blurred = gaussian_filter(scattered, 0.6)
    return np.random.default_rng(seed).poisson(blurred * count).astype(np.float64)


def circle(size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(x, y) <= radius * size


def rectangle(size: int, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)


def write_xa(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    """Write an XA file of 8 or 16 bits from (frames, rows, columns) or (rows, columns); `tags` are DICOM attributes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["xa"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientName, dataset.PatientID = "XA", "Secret^Person", "ID-SECRET-7"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path
