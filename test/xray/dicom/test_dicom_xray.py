"""X-ray DICOM files written by pydicom: geometry, intensity, display transforms, shutters, frames, and errors."""

import logging
import warnings

import numpy as np
import pytest
from helpers.xray_images import camera, write_xa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLosslessSV1

from fluoro_reg.errors import InputError
from fluoro_reg.xray import Intensity, n_frames, read_cine, read_xray

GEOMETRY = {"DistanceSourceToDetector": 1000.0, "ImagerPixelSpacing": [0.4, 0.5]}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 4096, (20, 30), dtype=np.uint16)


def test_focal_lengths_follow_from_the_distance_and_the_imager_spacing(tmp_path, pixels):
    path = write_xa(tmp_path / "x.dcm", pixels, PixelSpacing=[0.1, 0.1], **GEOMETRY)
    intrinsics = read_xray(path, None).intrinsics
    assert (intrinsics.fx, intrinsics.fy) == (1000 / 0.5, 1000 / 0.4)  # row spacing 0.4 mm, column spacing 0.5 mm
    assert (intrinsics.cx, intrinsics.cy) == (14.5, 9.5) and (intrinsics.width, intrinsics.height) == (30, 20)
    assert intrinsics.source_to_detector_mm == 1000.0


@pytest.mark.parametrize(
    ("tags", "missing"),
    [
        ({}, "DistanceSourceToDetector and ImagerPixelSpacing are missing"),
        ({"DistanceSourceToDetector": 1000.0}, "ImagerPixelSpacing is missing"),
        ({"DistanceSourceToDetector": 0.0, "ImagerPixelSpacing": [0.4, 0.4]}, "DistanceSourceToDetector is missing or zero"),
    ],
)
def test_the_error_names_missing_geometry_and_asks_for_camera_json(tmp_path, pixels, tags, missing):
    path = write_xa(tmp_path / "x.dcm", pixels, **tags)
    with pytest.raises(InputError, match=rf"{missing}.*give a camera\.json"):
        read_xray(path, None)
    assert read_xray(path, camera(30, 20)).intrinsics == camera(30, 20)


def test_a_given_camera_takes_precedence_over_the_file(tmp_path, pixels):
    assert read_xray(write_xa(tmp_path / "x.dcm", pixels, **GEOMETRY), camera(30, 20)).intrinsics == camera(30, 20)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["YES", "NO"])
def test_display_transforms_are_undone_in_pixels_mask_and_camera(tmp_path, pixels, rotation, flip):
    displayed = np.rot90(pixels, -rotation // 90)  # clockwise
    displayed = displayed[:, ::-1] if flip == "YES" else displayed
    spacing = [0.4, 0.5] if rotation % 180 == 0 else [0.5, 0.4]
    path = write_xa(
        tmp_path / "x.dcm",
        np.ascontiguousarray(displayed),
        DistanceSourceToDetector=1000.0,
        ImagerPixelSpacing=spacing,
        FieldOfViewRotation=rotation,
        FieldOfViewHorizontalFlip=flip,
        PixelPaddingValue=int(pixels[2, 5]),
    )
    image = read_xray(path, None)
    assert np.array_equal(image.pixels.numpy(), pixels)
    assert np.array_equal(image.mask.numpy(), pixels != pixels[2, 5])
    assert (image.intrinsics.fx, image.intrinsics.fy) == (2000.0, 2500.0)
    assert (image.intrinsics.width, image.intrinsics.height) == (30, 20)


def test_an_off_centre_field_of_view_shifts_the_principal_point(tmp_path, pixels):
    path = write_xa(
        tmp_path / "x.dcm",
        pixels,
        DistanceSourceToDetector=1000.0,
        ImagerPixelSpacing=[0.4, 0.4],
        DetectorElementSpacing=[0.2, 0.2],  # each pixel is 2 x 2 elements
        DetectorActiveDimensions=[40.0, 60.0],  # 200 x 300 elements
        DetectorActiveOrigin=[10.0, 20.0],
        FieldOfViewOrigin=[90.0, 130.0],
    )
    intrinsics = read_xray(path, None).intrinsics
    # the centre of the active area is element edge (110, 170), 20 elements (10 pixels) below and 40 (20) right of the corner
    assert (intrinsics.cy, intrinsics.cx) == pytest.approx((10 - 0.5, 20 - 0.5))


def test_the_geometry_of_enhanced_objects_is_read_from_functional_groups(tmp_path, pixels):
    data, geometry, group = Dataset(), Dataset(), Dataset()
    data.ImagerPixelSpacing = [0.4, 0.5]
    data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", -1
    geometry.DistanceSourceToDetector = 1000.0
    group.FramePixelDataPropertiesSequence, group.XRayGeometrySequence = Sequence([data]), Sequence([geometry])
    path = write_xa(tmp_path / "x.dcm", pixels[None], SharedFunctionalGroupsSequence=Sequence([group]))
    image = read_xray(path, None)
    assert (image.intrinsics.fx, image.intrinsics.fy) == (2000.0, 2500.0)
    assert image.intensity is Intensity.ATTENUATION


@pytest.mark.parametrize(
    ("relation", "sign", "intensity", "inverted"),
    [
        ("LIN", 1, Intensity.TRANSMITTED, False),
        ("LIN", -1, Intensity.TRANSMITTED, True),
        ("LIN", None, Intensity.TRANSMITTED, False),
        ("LOG", -1, Intensity.ATTENUATION, False),
        ("LOG", 1, Intensity.ATTENUATION, True),
        ("LOG", None, Intensity.AUTO, False),
        ("DISP", 1, Intensity.TRANSMITTED, False),
        ("DISP", -1, Intensity.ATTENUATION, False),
        ("DISP", None, Intensity.AUTO, False),
        (None, None, Intensity.AUTO, False),
    ],
)
def test_relationship_and_sign_determine_the_intensity(tmp_path, pixels, relation, sign, intensity, inverted):
    tags = {"PixelIntensityRelationship": relation, "PixelIntensityRelationshipSign": sign}
    tags = {name: value for name, value in tags.items() if value is not None}
    path = write_xa(tmp_path / "x.dcm", pixels, BitsStored=12, HighBit=11, **GEOMETRY, **tags)
    image = read_xray(path, None)
    assert image.intensity is intensity
    assert np.array_equal(image.pixels.numpy(), 4095 - pixels.astype(np.float32) if inverted else pixels)


def test_a_given_intensity_takes_precedence_over_the_tags(tmp_path, pixels):
    path = write_xa(tmp_path / "x.dcm", pixels, PixelIntensityRelationship="LIN", **GEOMETRY)
    image = read_xray(path, None, Intensity.ATTENUATION)
    assert image.intensity is Intensity.ATTENUATION and np.array_equal(image.pixels.numpy(), pixels)


def test_monochrome1_inverts_unless_the_tags_determine_the_intensity(tmp_path, pixels):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11, **GEOMETRY}
    untagged = read_xray(write_xa(tmp_path / "a.dcm", pixels, **tags), None)
    assert np.array_equal(untagged.pixels.numpy(), 4095 - pixels.astype(np.float32))
    tagged = read_xray(write_xa(tmp_path / "b.dcm", pixels, PixelIntensityRelationship="LIN", **tags), None)
    assert np.array_equal(tagged.pixels.numpy(), pixels)


def test_rescale_is_applied_and_unused_high_bits_are_ignored(tmp_path, pixels):
    with_overlay = pixels | np.uint16(0x8000)  # an overlay in bit 15, as in old files
    tags = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 2.0, "RescaleIntercept": -5.0, "RescaleType": "US"}
    image = read_xray(write_xa(tmp_path / "x.dcm", with_overlay, **tags, **GEOMETRY), None)
    assert np.array_equal(image.pixels.numpy(), 2.0 * pixels - 5)


def test_signed_pixels_are_read(tmp_path):
    signed = np.arange(-100, 100, dtype=np.int16).reshape(10, 20)
    assert np.array_equal(read_xray(write_xa(tmp_path / "x.dcm", signed, **GEOMETRY), None).pixels.numpy(), signed)


def test_a_rectangular_shutter_is_counted_from_one(tmp_path, pixels):
    edges = {"ShutterLeftVerticalEdge": 4, "ShutterRightVerticalEdge": 25}
    edges |= {"ShutterUpperHorizontalEdge": 3, "ShutterLowerHorizontalEdge": 18}
    mask = read_xray(write_xa(tmp_path / "x.dcm", pixels, ShutterShape="RECTANGULAR", **edges, **GEOMETRY), None).mask.numpy()
    expected = np.zeros_like(mask)
    expected[2:18, 3:25] = True
    assert np.array_equal(mask, expected)


def test_circular_collimator_and_polygonal_shutter(tmp_path, pixels):
    circle = {"CollimatorShape": "CIRCULAR", "CenterOfCircularCollimator": [11, 16], "RadiusOfCircularCollimator": 6}
    mask = read_xray(write_xa(tmp_path / "c.dcm", pixels, **circle, **GEOMETRY), None).mask.numpy()
    row, column = np.mgrid[:20, :30]
    assert np.array_equal(mask, (row - 10) ** 2 + (column - 15) ** 2 <= 36)
    polygon = {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 1, 11, 11, 11, 11, 1]}
    mask = read_xray(write_xa(tmp_path / "p.dcm", pixels, **polygon, **GEOMETRY), None).mask.numpy()
    assert mask[:11, :11].all() and mask.sum() == 121


def test_a_shutter_without_any_open_pixel_is_ignored(tmp_path, pixels):
    circle = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [0, 0], "RadiusOfCircularShutter": 0}
    assert bool(read_xray(write_xa(tmp_path / "x.dcm", pixels, **circle, **GEOMETRY), None).mask.all())


def test_the_frames_of_a_cine_are_read(tmp_path):
    cine = np.random.default_rng(0).integers(0, 255, (4, 12, 16), dtype=np.uint8)
    path = write_xa(tmp_path / "x.dcm", cine, **GEOMETRY)
    assert n_frames(path) == 4
    assert all(np.array_equal(image.pixels.numpy(), cine[i]) for i, image in enumerate(read_cine(path, None)))
    with pytest.raises(InputError, match="4 frames"):
        read_xray(path, None, frame=4)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Modality": "CT"}, "modality CT, not an X-ray"),
        ({"Modality": ""}, "modality unknown"),
        ({"FieldOfViewRotation": 45}, "rotated by 45 degrees"),
        ({"Rows": 20000, "Columns": 20000}, "at most 8192 x 8192"),
        ({"Rows": 200}, "truncated or damaged"),
        ({"PixelData": b""}, "truncated or damaged"),
    ],
)
def test_errors_do_not_identify_the_patient(tmp_path, pixels, tags, message, caplog):
    path = write_xa(tmp_path / "x.dcm", pixels, **{**GEOMETRY, **tags})
    with (
        caplog.at_level(logging.DEBUG),
        warnings.catch_warnings(record=True) as caught_warnings,
        pytest.raises(InputError) as error,
    ):
        warnings.simplefilter("always")
        read_xray(path, camera(30, 20))
    output = str(error.value) + caplog.text + "".join(str(warning.message) for warning in caught_warnings)
    assert message in output
    assert not any(secret in output for secret in ("Secret", "SECRET", str(tmp_path), "1.2.826"))


@pytest.mark.skipif(get_decoder(JPEGLosslessSV1).is_available, reason="a decoder for JPEG lossless is installed")
def test_the_error_for_a_missing_decoder_names_it(tmp_path, pixels):
    path = write_xa(tmp_path / "x.dcm", pixels, **GEOMETRY)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xc3" + b"\0" * 40])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"compressed as JPEG Lossless.*pip install pylibjpeg"):
        read_xray(path, camera(30, 20))


def test_a_truncated_dicom_is_rejected(tmp_path, pixels):
    path = write_xa(tmp_path / "x.dcm", pixels, **GEOMETRY)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="truncated or damaged"):
        read_xray(path, None)


def test_an_unusable_modality_lut_is_one_sentence(tmp_path, pixels):
    table = Dataset()
    table.LUTDescriptor, table.LUTData, table.ModalityLUTType = [4096, 0, 12], b"abc", "US"
    path = write_xa(tmp_path / "x.dcm", pixels, ModalityLUTSequence=Sequence([table]), **GEOMETRY)
    with pytest.raises(InputError, match="has an unusable Modality LUT"):
        read_xray(path, None)
