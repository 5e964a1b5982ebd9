"""What the header of an X-ray states twice, and what it states against its pixels."""

import numpy as np
import pytest
from helpers.xray_images import camera, circle, line_integrals, photons, write_xa
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import SecondaryCaptureImageStorage

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray import Intensity, PreprocessOptions, read_xray
from fluoro_reg.xray.preprocessing.preprocess import preprocess_readings

GEOMETRY = {"DistanceSourceToDetector": 1000.0, "ImagerPixelSpacing": [0.4, 0.4]}
SIZE = 128


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(1, 4096, (20, 30), dtype=np.uint16)


@pytest.mark.parametrize(
    ("tags", "texts"),
    [
        ({"FieldOfViewDimensions": [24, 24]}, ["FieldOfViewDimensions says 24 x 24 mm", "gives an image of 8 x 12 mm"]),
        ({"FieldOfViewDimensions": 24}, ["FieldOfViewDimensions says 24 mm", "gives an image of 8 x 12 mm"]),
        ({"DetectorActiveDimensions": [6.0, 6.0]}, ["DetectorActiveDimensions says 6 x 6 mm", "8 x 12 mm"]),
        ({"DetectorElementSpacing": [0.8, 0.8]}, ["DetectorElementSpacing says 0.8 x 0.8 mm", "0.4 x 0.4 mm is smaller"]),
        ({"PixelSpacing": [0.5, 0.5]}, ["PixelSpacing says 0.5 x 0.5 mm", "ImagerPixelSpacing 0.4 x 0.4 mm"]),
        ({"PixelSpacing": [0.3, 0.2]}, ["PixelSpacing says 0.3 x 0.2 mm", "of the same shape"]),
        ({"PixelAspectRatio": [2, 1]}, ["PixelAspectRatio says 2 : 1", "ImagerPixelSpacing 0.4 x 0.4 mm"]),
        ({"DistanceSourceToPatient": 1200.0}, ["DistanceSourceToDetector 1000 mm", "DistanceSourceToPatient 1200 mm"]),
        (
            {"DistanceSourceToPatient": 700.0, "EstimatedRadiographicMagnificationFactor": 1.2},
            ["MagnificationFactor says 1.2", "give 1.43"],
        ),
        ({"PresentationLUTShape": "INVERSE"}, ["PhotometricInterpretation MONOCHROME2", "PresentationLUTShape INVERSE"]),
        (
            {"PresentationLUTShape": "IDENTITY", "PhotometricInterpretation": "MONOCHROME1"},
            ["PhotometricInterpretation MONOCHROME1", "PresentationLUTShape IDENTITY"],
        ),
    ],
)
def test_contradictions_of_a_header_are_reported_with_both_values(tmp_path, noise, tags, texts):
    image = read_xray(write_xa(tmp_path / "x.dcm", noise, **GEOMETRY, **tags), None)
    (warning,) = image.warnings
    assert all(text in warning for text in texts)


@pytest.mark.parametrize(
    "tags",
    [
        {"FieldOfViewDimensions": [8, 12], "DetectorActiveDimensions": [80.0, 120.0], "DetectorElementSpacing": [0.2, 0.2]},
        {"PixelSpacing": [0.4, 0.4], "PixelAspectRatio": [1, 1]},
        {"PixelSpacing": [0.28, 0.28], "DistanceSourceToPatient": 700.0, "EstimatedRadiographicMagnificationFactor": 1.43},
        {"PresentationLUTShape": "IDENTITY"},
        {"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"},
        {"EstimatedRadiographicMagnificationFactor": 1.2},
        {"FieldOfViewDimensions": 0, "DistanceSourceToPatient": 0.0},
    ],
)
def test_statements_that_agree_give_no_warning(tmp_path, noise, tags):
    assert read_xray(write_xa(tmp_path / "x.dcm", noise, **GEOMETRY, **tags), None).warnings == ()


@pytest.mark.parametrize(
    ("tags", "texts"),
    [
        ({"FrameTime": 33.3, "CineRate": 15}, ["CineRate says 66.7 ms", "FrameTime 33.3 ms"]),
        ({"FrameTimeVector": [0, 40, 40], "FrameTime": 80.0}, ["FrameTime says 80.0 ms", "FrameTimeVector 40.0 ms"]),
        ({"FrameTimeVector": [0, 40], "FrameTime": 40.0}, ["FrameTimeVector has 2 times for 3 frames"]),
        ({"FrameTime": 66.7, "CineRate": 15}, []),
    ],
)
def test_times_of_a_cine_that_disagree_are_reported(tmp_path, noise, tags, texts):
    warnings = read_xray(write_xa(tmp_path / "x.dcm", np.stack([noise] * 3), **GEOMETRY, **tags), None).warnings
    assert len(warnings) == bool(texts) and all(text in warnings[0] for text in texts)


def test_an_attribute_at_the_top_level_and_in_the_groups_is_reported_with_both_values(tmp_path, noise):
    data, group = Dataset(), Dataset()
    data.ImagerPixelSpacing = [0.2, 0.2]
    group.FramePixelDataPropertiesSequence = Sequence([data])
    tags = {"SharedFunctionalGroupsSequence": Sequence([group]), **GEOMETRY}
    (warning,) = read_xray(write_xa(tmp_path / "x.dcm", noise[None], **tags), None).warnings
    assert "0.4 x 0.4 at the top level and 0.2 x 0.2 in the functional groups" in warning


def test_a_given_camera_that_differs_from_the_file_is_reported_with_both_values(tmp_path, noise):
    path = write_xa(tmp_path / "x.dcm", noise, **GEOMETRY)
    assert read_xray(path, CameraIntrinsics(30, 20, 2510.0, 2490.0, 14.6, 9.4)).warnings == ()
    (warning,) = read_xray(path, CameraIntrinsics(30, 20, 1250.0, 1250.0, 14.5, 9.5)).warnings
    assert "given camera has focal lengths 1250.0" in warning and "x.dcm says focal lengths 2500.0" in warning


def test_a_padding_value_that_is_a_grey_of_the_anatomy_is_not_masked(tmp_path):
    values = np.round(photons(line_integrals(SIZE), 40)).astype(np.uint16)
    image = read_xray(write_xa(tmp_path / "x.dcm", values, PixelPaddingValue=int(np.median(values)), **GEOMETRY), None)
    assert image.mask.all() and "is a grey of the image" in image.warnings[0]


def test_padding_around_the_field_is_masked(tmp_path):
    inside = circle(SIZE, 0.45)
    values = np.where(inside, 10 + photons(line_integrals(SIZE)), 0).astype(np.uint16)
    image = read_xray(write_xa(tmp_path / "x.dcm", values, PixelPaddingValue=0, **GEOMETRY), None)
    assert np.array_equal(image.mask.numpy(), inside) and image.warnings == ()


CAPTURE = {"Modality": "OT", "SOPClassUID": SecondaryCaptureImageStorage}


@pytest.mark.parametrize("modality", ["OT", "SC", ""])
def test_a_secondary_capture_is_read_with_a_given_camera_only(tmp_path, noise, modality):
    path = write_xa(tmp_path / "x.dcm", noise, **GEOMETRY, **CAPTURE | {"Modality": modality})
    with pytest.raises(InputError, match=r"secondary capture, whose header does not describe a detector\); give a camera"):
        read_xray(path, None)
    image = read_xray(path, camera(30, 20))
    assert np.array_equal(image.pixels.numpy(), noise) and image.intensity is Intensity.AUTO
    assert "windowed for display" in image.warnings[0]


@pytest.mark.parametrize("modality", ["RG", "DF", "CF"])
def test_digitised_films_and_retired_names_of_fluoroscopy_are_x_rays(tmp_path, noise, modality):
    assert read_xray(write_xa(tmp_path / "x.dcm", noise, Modality=modality, **GEOMETRY), None).warnings == ()


@pytest.mark.parametrize("modality", ["CT", "MR", "US", ""])
def test_other_modalities_are_no_x_rays_even_with_a_camera(tmp_path, noise, modality):
    with pytest.raises(InputError, match="not an X-ray"):
        read_xray(write_xa(tmp_path / "x.dcm", noise, Modality=modality, **GEOMETRY), camera(30, 20))


STATED = {
    "linear": ({"PixelIntensityRelationship": "Linear"}, "transmitted"),
    "logarithmic -1": ({"PixelIntensityRelationship": "LOGARITHMIC", "PixelIntensityRelationshipSign": -1}, "attenuation"),
    "LIN": ({"PixelIntensityRelationship": "LIN"}, "transmitted"),
    "sign +1": ({"PixelIntensityRelationshipSign": 1}, "transmitted"),
    "sign -1": ({"PixelIntensityRelationshipSign": -1}, "attenuation"),
    "LOG -1": ({"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1}, "attenuation"),
}


def written(tmp_path, tags, meaning: str):
    """Return an X-ray with the given tags, whose pixels mean what `meaning` says."""
    counts = photons(line_integrals(SIZE)) * circle(SIZE, 0.48)
    pixels = counts if meaning == "transmitted" else counts.max() - counts
    return read_xray(write_xa(tmp_path / "x.dcm", pixels.astype(np.uint16), **GEOMETRY, **tags), None)


def meanings(readings) -> dict[str, float]:
    """Return the confidence of each meaning among the readings; several readings of a meaning differ in their field."""
    return {one.reading.split(", ")[0]: one.intensity_confidence for one in readings}


@pytest.mark.parametrize("name", STATED)
def test_a_header_that_the_pixels_confirm_decides(tmp_path, name):
    tags, meaning = STATED[name]
    image = written(tmp_path, tags, meaning)
    assert image.intensity_from_header and image.intensity.value == meaning
    found = meanings(preprocess_readings(image, PreprocessOptions()))
    if name == "sign -1":  # it does not say whether the values are a logarithm
        assert found == {"attenuation": 0.5, "transmitted inverted": 0.5}
    else:
        assert found == {meaning: 1.0}


@pytest.mark.parametrize("name", STATED)
def test_a_header_that_the_pixels_contradict_gives_both_polarities(tmp_path, name):
    tags, stated = STATED[name]
    opposite = {"transmitted": "attenuation", "attenuation": "transmitted"}[stated]
    readings = preprocess_readings(written(tmp_path, tags, opposite), PreprocessOptions())
    assert all(one.intensity_inferred for one in readings)
    found = meanings(readings)
    expected = {f"{stated} (as in the header)", f"{opposite} (against the header)"}
    if name not in ("LOG -1", "logarithmic -1"):
        inverted = "as in the header" if stated == "attenuation" else "against the header"
        expected.add(f"transmitted inverted ({inverted})")
    assert set(found) == expected
    assert sum(found.values()) == pytest.approx(1)


def test_what_the_user_states_is_not_held_against_the_image(tmp_path):
    counts = photons(line_integrals(SIZE)) * circle(SIZE, 0.48)
    path = write_xa(tmp_path / "x.dcm", counts.astype(np.uint16), PixelIntensityRelationshipSign=-1, **GEOMETRY)
    readings = preprocess_readings(read_xray(path, None, Intensity.ATTENUATION), PreprocessOptions())
    assert {one.intensity.value for one in readings} == {"attenuation"}
    assert not readings[0].intensity_inferred
