"""Any X-ray comes back with the order of its attenuation: random photometry, bit depth, look-up tables, padding and shutter.

The tests write what DICOM means: PixelIntensityRelationshipSign relates the stored values to the beam, a Modality LUT or
rescale changes what the reader returns but not what was X-rayed, and MONOCHROME1, a VOI LUT and a window concern the display
only.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    XRayAngiographicImageStorage,
    generate_uid,
)

from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray

REPEATABLE = settings(
    max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
ROWS, COLUMNS = 11, 14


@dataclass(frozen=True)
class Photometry:
    """How an X-ray is stored: bits, signs, tables and tags."""

    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    monochrome: int
    relation: str | None
    sign: int | None
    modality: str
    display: str
    padding: bool
    shutter: str
    syntax: str
    seed: int

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest stored value."""
        half = 1 << (self.bits_stored - 1)
        return (-half, half - 1) if self.is_signed else (0, 2 * half - 1)


@st.composite
def photometries(draw: st.DrawFn) -> Photometry:
    allocated = draw(st.sampled_from([8, 16]))
    stored = draw(st.integers(8 if allocated == 8 else 9, allocated))
    high_bit = draw(st.integers(stored - 1, allocated - 1))
    relation, sign = draw(
        st.sampled_from([("LIN", 1), ("LIN", -1), ("LOG", 1), ("LOG", -1), ("DISP", 1), ("DISP", -1), (None, -1)])
    )
    signed = draw(st.booleans())
    return Photometry(
        allocated,
        stored,
        high_bit,
        signed,
        draw(st.sampled_from([1, 2])),
        relation,
        sign,
        draw(st.sampled_from(["none", "rescale", "falling rescale", "table", "falling table"])),
        draw(st.sampled_from(["none", "window", "table"])),
        draw(st.booleans()),
        draw(st.sampled_from(["none", "RECTANGULAR", "CIRCULAR"])),
        draw(st.sampled_from(["explicit", "implicit", "big", "rle"])),
        draw(st.integers(0, 2**16)),
    )


def stored_values(how: Photometry) -> np.ndarray:
    """Return values that use the whole range; none is the padding value, which is the lowest."""
    low, high = how.range
    values = np.random.default_rng(how.seed).integers(low + 1, high, (ROWS, COLUMNS), endpoint=True)
    values[0, 0], values[0, 1] = low + 1, high
    return values


def padded(how: Photometry) -> np.ndarray:
    mask = np.zeros((ROWS, COLUMNS), dtype=bool)
    if how.padding:
        mask[3:5, 2:9] = True
    return mask


def open_field(how: Photometry) -> np.ndarray:
    row, column = np.mgrid[1 : ROWS + 1, 1 : COLUMNS + 1]
    if how.shutter == "RECTANGULAR":
        return (column >= 3) & (column <= 12) & (row >= 2) & (row <= 9)
    if how.shutter == "CIRCULAR":
        return (row - 6) ** 2 + (column - 7) ** 2 <= 25
    return np.ones((ROWS, COLUMNS), dtype=bool)


def write(path: Path, how: Photometry) -> np.ndarray:
    """Write the X-ray and return its stored values; unused bits hold arbitrary content, as overlays in old files do."""
    values = stored_values(how)
    low, _ = how.range
    values[padded(how)] = low
    shift = how.high_bit + 1 - how.bits_stored
    rng = np.random.default_rng(how.seed + 1)
    used = (values & ((1 << how.bits_stored) - 1)) << shift
    unused = ((1 << how.bits_allocated) - 1) & ~(((1 << how.bits_stored) - 1) << shift)
    container = used | (rng.integers(0, 1 << how.bits_allocated, values.shape) & unused)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = XRayAngiographicImageStorage, generate_uid()
    uncompressed = {"implicit": ImplicitVRLittleEndian, "big": ExplicitVRBigEndian}.get(how.syntax, ExplicitVRLittleEndian)
    meta.TransferSyntaxUID = uncompressed
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SamplesPerPixel = "XA", 1
    dataset.PhotometricInterpretation = f"MONOCHROME{how.monochrome}"
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = how.bits_allocated, how.bits_stored, how.high_bit
    dataset.PixelRepresentation = int(how.is_signed)
    dataset.DistanceSourceToDetector, dataset.ImagerPixelSpacing = 1000.0, [0.4, 0.4]
    _add_tags(dataset, how)
    order = ">" if how.syntax == "big" else "<"
    words = container.astype(f"{order}u{how.bits_allocated // 8}").tobytes()
    dataset.PixelData = words + b"\0" * (len(words) % 2)
    dataset["PixelData"].VR = "OW" if how.bits_allocated == 16 else "OB"
    if how.syntax == "rle":
        encoder = get_encoder(RLELossless)
        described = {"rows": ROWS, "columns": COLUMNS, "samples_per_pixel": 1, "bits_allocated": how.bits_allocated}
        described |= {"bits_stored": how.bits_stored, "pixel_representation": int(how.is_signed), "number_of_frames": 1}
        described |= {"photometric_interpretation": dataset.PhotometricInterpretation}
        dataset.PixelData = encapsulate([encoder.encode(words, **described)])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        meta.TransferSyntaxUID = RLELossless
    dataset.set_original_encoding(uncompressed.is_implicit_VR, uncompressed.is_little_endian)
    dataset.save_as(path, enforce_file_format=True)
    return values


def _add_tags(dataset: Dataset, how: Photometry) -> None:
    low, high = how.range
    if how.relation is not None:
        dataset.PixelIntensityRelationship = how.relation
    dataset.PixelIntensityRelationshipSign = how.sign
    if how.padding:
        dataset.PixelPaddingValue = low
    if how.modality.endswith("rescale"):
        dataset.RescaleSlope = "-0.5" if how.modality.startswith("falling") else "2.5"
        dataset.RescaleIntercept, dataset.RescaleType = "7", "US"
    elif how.modality.endswith("table"):
        count = high - low + 1
        entries = np.linspace(0, 65535, count).round().astype(np.uint16)
        entries = entries[::-1] if how.modality.startswith("falling") else entries
        dataset.ModalityLUTSequence = Sequence([_table(entries, low, how)])
        dataset.ModalityLUTSequence[0].ModalityLUTType = "US"
    if how.display == "window":
        dataset.WindowCenter, dataset.WindowWidth = (low + high) / 2, max((high - low) / 4, 1)
    elif how.display == "table":
        dataset.VOILUTSequence = Sequence([_table(np.zeros(256, np.uint16), 0, how)])
    if how.shutter == "RECTANGULAR":
        dataset.ShutterShape = "RECTANGULAR"
        dataset.ShutterLeftVerticalEdge, dataset.ShutterRightVerticalEdge = 3, 12
        dataset.ShutterUpperHorizontalEdge, dataset.ShutterLowerHorizontalEdge = 2, 9
    elif how.shutter == "CIRCULAR":
        dataset.ShutterShape, dataset.CenterOfCircularShutter, dataset.RadiusOfCircularShutter = "CIRCULAR", [6, 7], 5


def _table(entries: np.ndarray, first: int, how: Photometry) -> Dataset:
    table = Dataset()
    count = len(entries) % 65536  # 0 means 65536
    table.add_new("LUTDescriptor", "SS" if how.is_signed else "US", [count, first, 16])
    table.add_new("LUTData", "OW", entries.astype(">u2" if how.syntax == "big" else "<u2").tobytes())
    return table


def _plain(**changes: object) -> Photometry:
    plain = Photometry(16, 12, 11, False, 2, "LIN", 1, "none", "none", False, "none", "explicit", 0)
    return replace(plain, **changes)


@REPEATABLE
@given(how=photometries())
@example(_plain(high_bit=15))  # the stored bits are the upper ones of the word
@example(_plain(modality="falling rescale"))  # the sign speaks of the stored values
@example(_plain(bits_allocated=8, bits_stored=8, high_bit=7, is_signed=True, modality="table"))  # the LUT begins at -128
@example(_plain(bits_stored=15, high_bit=14, is_signed=True, modality="table", syntax="implicit"))  # its count is unsigned
def test_any_xray_comes_back_with_the_order_of_its_attenuation(how):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.dcm"
        stored = write(path, how)
        image = read_xray(path, None)
    usable = open_field(how) & ~padded(how)
    assert np.array_equal(image.mask.numpy(), usable)
    attenuation = -how.sign * stored[usable]  # with sign 1, a lower value is less beam
    read = image.pixels.numpy()[usable].astype(np.float64)
    assert image.intensity in (Intensity.TRANSMITTED, Intensity.ATTENUATION)
    read = -read if image.intensity is Intensity.TRANSMITTED else read
    order = np.argsort(attenuation, kind="stable")
    steps, read_steps = np.diff(attenuation[order]), np.diff(read[order])
    assert (read_steps[steps == 0] == 0).all()
    coarse = how.modality.endswith("table") and how.bits_stored == 16  # nothing is lost: 65536 entries of 16 bits
    assert (read_steps[steps > 0] > 0).all() or (coarse and (read_steps[steps > 0] >= 0).all())


@REPEATABLE
@given(how=photometries(), relation=st.sampled_from([None, "DISP"]))
def test_an_untagged_xray_comes_back_as_it_is_displayed(how, relation):
    how = replace(how, relation=relation, sign=0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.dcm"
        stored = write(path, how)
        image = read_xray(path, None)
    usable = open_field(how) & ~padded(how)
    assert image.intensity is Intensity.AUTO
    direction = (-1 if how.modality.startswith("falling") else 1) * (-1 if how.monochrome == 1 else 1)
    displayed, read = direction * stored[usable], image.pixels.numpy()[usable]
    order = np.argsort(displayed, kind="stable")
    assert (np.diff(read[order])[np.diff(displayed[order]) > 0] > 0).all()
