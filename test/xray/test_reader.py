"""Files that are no DICOM: what is read, and the one sentence for what is not."""

import contextlib

import numpy as np
import pytest
import torch
from helpers.xray_images import camera
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fluoro_reg.errors import InputError
from fluoro_reg.xray import Intensity, n_frames, read_cine, read_xray, xray_from_pixels


@pytest.fixture
def pixels16():
    return np.random.default_rng(0).integers(0, 65536, (24, 40), dtype=np.uint16)


def test_a_16_bit_png_keeps_every_bit(tmp_path, pixels16):
    Image.fromarray(pixels16).save(tmp_path / "x.png")
    image = read_xray(tmp_path / "x.png", camera(40, 24))
    assert torch.equal(image.pixels, torch.from_numpy(pixels16.astype(np.float32)))
    assert image.intensity is Intensity.AUTO and bool(image.mask.all())


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_8_bit_picture_is_read_as_it_is(tmp_path, suffix):
    pixels = np.arange(24 * 40, dtype=np.uint8).reshape(24, 40)
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    image = read_xray(tmp_path / f"x.{suffix}", camera(40, 24), Intensity.ATTENUATION)
    assert np.array_equal(image.pixels.numpy(), pixels) and image.intensity is Intensity.ATTENUATION


def test_a_tiff_of_16_bits_and_its_pages_are_frames(tmp_path, pixels16):
    pages = [Image.fromarray(pixels16 // (i + 1)) for i in range(3)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    assert n_frames(tmp_path / "x.tif") == 3
    frames = [image.pixels.numpy() for image in read_cine(tmp_path / "x.tif", camera(40, 24))]
    assert all(np.array_equal(frame, pixels16 // (i + 1)) for i, frame in enumerate(frames))
    with pytest.raises(InputError, match=r"has 3 frames .* frame 3 does not exist"):
        read_xray(tmp_path / "x.tif", camera(40, 24), frame=3)


def test_white_is_zero_tiffs_show_what_a_viewer_shows(tmp_path, pixels16):
    Image.fromarray(pixels16).save(tmp_path / "x.tif", tiffinfo={262: 0})
    assert np.array_equal(read_xray(tmp_path / "x.tif", camera(40, 24)).pixels.numpy(), 65535 - pixels16.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16, np.int32])
def test_npy_of_numbers_is_read(tmp_path, dtype):
    values = (np.arange(24 * 40).reshape(24, 40) - 100 * (np.dtype(dtype).kind != "u")).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    assert np.array_equal(read_xray(tmp_path / "x.npy", camera(40, 24)).pixels.numpy(), values.astype(np.float32))
    assert n_frames(tmp_path / "x.npy") == 1


def test_a_frame_grabbers_rgb_is_grey_and_its_coloured_marks_are_masked(tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (48, 64), dtype=np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    rgb[4:8, 4:10] = (255, 200, 0)
    Image.fromarray(rgb).save(tmp_path / "x.png")
    image = read_xray(tmp_path / "x.png", camera(64, 48))
    expected = np.ones((48, 64), dtype=bool)
    expected[4:8, 4:10] = False
    assert np.array_equal(image.mask.numpy(), expected)
    assert np.array_equal(image.pixels.numpy()[expected], grey[expected])


def test_transparent_pixels_are_masked(tmp_path):
    rgba = np.full((16, 16, 4), 90, dtype=np.uint8)
    rgba[..., 3] = 255
    rgba[:, :3, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "x.png")
    assert not read_xray(tmp_path / "x.png", camera(16, 16)).mask[:, :3].any()


def test_a_colour_photo_is_refused_in_a_sentence(tmp_path):
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    with pytest.raises(InputError, match=r"photo\.png is a colour picture .* give a grey"):
        read_xray(tmp_path / "photo.png", camera(32, 32))


def test_a_size_that_contradicts_the_camera_names_both(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((24, 40)))
    with pytest.raises(InputError, match="40 x 24 pixels but its camera says 64 x 48"):
        read_xray(tmp_path / "x.npy", camera(64, 48))


def test_pictures_without_a_camera_ask_for_camera_json(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((24, 40)))
    with pytest.raises(InputError, match=r"give a camera\.json"):
        read_xray(tmp_path / "x.npy", None)


def test_single_nan_pixels_are_masked_and_finite():
    pixels = np.random.default_rng(0).uniform(1, 2, (30, 30))
    pixels[3, 4], pixels[5, 6] = np.nan, np.inf
    image = xray_from_pixels(pixels, camera(30, 30))
    assert torch.isfinite(image.pixels).all()
    assert not image.mask[3, 4] and not image.mask[5, 6] and int((~image.mask).sum()) == 2


@pytest.mark.parametrize(("share", "message"), [(0.06, "more than 5 %"), (1.0, "throughout")])
def test_more_nan_than_five_percent_is_refused(share, message):
    pixels = np.ones((100, 100))
    pixels.ravel()[: int(share * pixels.size)] = np.nan
    with pytest.raises(InputError, match=message):
        xray_from_pixels(pixels, camera(100, 100))


def wrong_files(folder):
    """Name, content and what the sentence must say."""
    (folder / "folder").mkdir()
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "volume.npy", np.zeros((2, 3, 4)))
    np.save(folder / "complex.npy", np.zeros((3, 4), dtype=complex))
    Image.fromarray(np.zeros((64, 64), dtype=np.uint16)).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:60])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not an image at all")
    (folder / "fake.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"garbage" * 20)
    return {
        "folder": "is a folder",
        "absent.png": "cannot read",
        "objects.npy": "not a plain .npy",
        "volume.npy": "one 2-D array",
        "complex.npy": "real numbers",
        "cut.png": "damaged or truncated",
        "empty.png": "is empty",
        "notes.txt": "neither PNG, TIFF, npy nor DICOM",
        "fake.dcm": "DICOM",
    }


def test_wrong_files_get_one_plain_sentence(tmp_path):
    for name, message in wrong_files(tmp_path).items():
        with pytest.raises(InputError) as error:
            read_xray(tmp_path / name, camera(40, 24))
        assert message in str(error.value), name
        assert str(tmp_path) not in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=8))
def test_a_mutated_picture_is_read_or_refused_and_nothing_else(tmp_path, pixels16, cut, flips):
    path = tmp_path / "m.png"
    Image.fromarray(pixels16).save(path)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path.write_bytes(bytes(data[: len(data) - cut]))
    with contextlib.suppress(InputError):
        assert read_xray(path, camera(40, 24)).pixels.shape == (24, 40)
