"""Files other than DICOM: pixels and masks, and errors for unusable files."""

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
def test_an_8_bit_image_is_read_exactly(tmp_path, suffix):
    pixels = np.arange(24 * 40, dtype=np.uint8).reshape(24, 40)
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    image = read_xray(tmp_path / f"x.{suffix}", camera(40, 24), Intensity.ATTENUATION)
    assert np.array_equal(image.pixels.numpy(), pixels) and image.intensity is Intensity.ATTENUATION


def test_the_pages_of_a_16_bit_tiff_are_frames(tmp_path, pixels16):
    pages = [Image.fromarray(pixels16 // (i + 1)) for i in range(3)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    assert n_frames(tmp_path / "x.tif") == 3
    frames = [image.pixels.numpy() for image in read_cine(tmp_path / "x.tif", camera(40, 24))]
    assert all(np.array_equal(frame, pixels16 // (i + 1)) for i, frame in enumerate(frames))
    with pytest.raises(InputError, match=r"frame 3 does not exist, because x\.tif has 3 frames"):
        read_xray(tmp_path / "x.tif", camera(40, 24), frame=3)


def test_a_white_is_zero_tiff_is_inverted_as_by_a_viewer(tmp_path, pixels16):
    Image.fromarray(pixels16).save(tmp_path / "x.tif", tiffinfo={262: 0})
    assert np.array_equal(read_xray(tmp_path / "x.tif", camera(40, 24)).pixels.numpy(), 65535 - pixels16.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16, np.int32])
def test_an_npy_of_numbers_is_read(tmp_path, dtype):
    values = (np.arange(24 * 40).reshape(24, 40) - 100 * (np.dtype(dtype).kind != "u")).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    assert np.array_equal(read_xray(tmp_path / "x.npy", camera(40, 24)).pixels.numpy(), values.astype(np.float32))
    assert n_frames(tmp_path / "x.npy") == 1


def test_rgb_of_a_frame_grabber_is_grey_and_coloured_overlays_are_masked(tmp_path):
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


def test_a_colour_photo_is_rejected(tmp_path):
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    with pytest.raises(InputError, match=r"photo\.png is a colour image .* give a grey"):
        read_xray(tmp_path / "photo.png", camera(32, 32))


def test_the_error_for_a_wrong_size_contains_both_sizes(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((24, 40)))
    with pytest.raises(InputError, match="40 x 24 pixels, but its camera is for 64 x 48"):
        read_xray(tmp_path / "x.npy", camera(64, 48))


def test_the_error_for_an_image_without_a_camera_asks_for_camera_json(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((24, 40)))
    with pytest.raises(InputError, match=r"give a camera\.json"):
        read_xray(tmp_path / "x.npy", None)


def test_single_nan_pixels_are_masked_and_replaced():
    pixels = np.random.default_rng(0).uniform(1, 2, (30, 30))
    pixels[3, 4], pixels[5, 6] = np.nan, np.inf
    image = xray_from_pixels(pixels, camera(30, 30))
    assert torch.isfinite(image.pixels).all()
    assert not image.mask[3, 4] and not image.mask[5, 6] and int((~image.mask).sum()) == 2


@pytest.mark.parametrize(("fraction", "message"), [(0.06, "more than 5 %"), (1.0, "only NaN")])
def test_more_than_five_percent_nan_is_rejected(fraction, message):
    pixels = np.ones((100, 100))
    pixels.ravel()[: int(fraction * pixels.size)] = np.nan
    with pytest.raises(InputError, match=message):
        xray_from_pixels(pixels, camera(100, 100))


def write_wrong_files(folder):
    """Write unusable files. Returns their names and a part of the expected error messages."""
    (folder / "folder").mkdir()
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "volume.npy", np.zeros((2, 3, 4)))
    np.save(folder / "complex.npy", np.zeros((3, 4), dtype=complex))
    Image.fromarray(np.zeros((64, 64), dtype=np.uint16)).save(folder / "truncated.png")
    (folder / "truncated.png").write_bytes((folder / "truncated.png").read_bytes()[:60])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not an image")
    (folder / "fake.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"garbage" * 20)
    return {
        "folder": "is a folder",
        "absent.png": "cannot read",
        "objects.npy": "not a plain .npy",
        "volume.npy": "one 2-D array",
        "complex.npy": "real numbers",
        "truncated.png": "damaged or truncated",
        "empty.png": "is empty",
        "notes.txt": "neither PNG, TIFF, npy nor DICOM",
        "fake.dcm": "DICOM",
    }


def test_unusable_files_give_one_clear_error(tmp_path):
    for name, message in write_wrong_files(tmp_path).items():
        with pytest.raises(InputError) as error:
            read_xray(tmp_path / name, camera(40, 24))
        assert message in str(error.value), name
        assert str(tmp_path) not in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n_removed=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=8))
def test_a_mutated_image_is_read_or_gives_an_input_error(tmp_path, pixels16, n_removed, flips):
    path = tmp_path / "m.png"
    Image.fromarray(pixels16).save(path)
    data = bytearray(path.read_bytes())
    for position, value in flips:
        data[position % len(data)] = value
    path.write_bytes(bytes(data[: len(data) - n_removed]))
    with contextlib.suppress(InputError):
        assert read_xray(path, camera(40, 24)).pixels.shape == (24, 40)
