"""Real X-rays: reading, errors, inferred polarity, and masks that remove the collimator and keep the anatomy."""

import numpy as np
import pytest
from helpers.xray_images import camera
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import get_decoder

from fluoro_reg.errors import InputError
from fluoro_reg.xray import Intensity, PreprocessOptions, n_frames, preprocess, read_xray

pytestmark = pytest.mark.data


@pytest.fixture(scope="session")
def xrays(data_folder):
    return data_folder / "xray"


def read_and_preprocess(path, size, intensity=Intensity.AUTO, frame=0):
    return preprocess(read_xray(path, camera(*size), intensity, frame), PreprocessOptions())


KNEES = [
    ("AT_K1_V1_0160", Intensity.TRANSMITTED),
    ("AT_K1_V1_0180", Intensity.TRANSMITTED),
    ("1024/2807", Intensity.ATTENUATION),
]


@pytest.mark.parametrize(("name", "expected"), KNEES)
def test_the_polarity_of_knees_is_inferred_and_only_the_blades_are_masked(xrays, name, expected):
    result = read_and_preprocess(xrays / "knee_implants" / f"{name}.tif", (1024, 1024))
    assert result.rejection is None and result.intensity is expected and result.intensity_confidence > 0.7
    usable = result.image.mask.numpy()
    assert not usable[:110].any() and not usable[920:].any()  # above and below the blades
    assert usable[150:880, 30:1000].mean() > 0.99


@pytest.mark.parametrize("implant", ["fem", "tib"])
@pytest.mark.parametrize("frame", ["0160", "0170", "0180"])
def test_implants_are_not_masked_and_are_the_brightest_objects(xrays, implant, frame):
    folder = xrays / "knee_implants"
    result = read_and_preprocess(folder / f"AT_K1_V1_{frame}.tif", (1024, 1024))
    label = np.asarray(Image.open(folder / "Labels" / implant / f"AT_K1_V1_{frame}_label_{implant}.tif")) > 127
    usable, values = result.image.mask.numpy(), result.image.pixels.numpy()
    assert usable[label].mean() > 0.999
    assert np.median(values[label]) > np.quantile(values[usable & ~label], 0.85)


@pytest.mark.parametrize("frame", [0, 50, 95])
def test_the_octagonal_field_of_a_cine_is_found(xrays, frame):
    path = xrays / "coronary_96_frames_xa" / "HasFragmentSequence.dcm"
    assert n_frames(path) == 96
    result = read_and_preprocess(path, (512, 512), frame=frame)
    assert not result.intensity_inferred and result.intensity is Intensity.TRANSMITTED  # LIN
    pixels = dcmread(path).pixel_array[frame]
    usable = result.image.mask.numpy()
    assert pixels[usable].min() > 0 and usable[100:400, 60:440].mean() > 0.99
    assert not usable[:20, :20].any() and not usable[-20:, -20:].any() and not usable[480:].any()


@pytest.mark.parametrize("suffix", ["RLE_RLE", "JLSL_JLSL", "J2KR_J2KR"])
def test_an_angiogram_in_several_encodings_has_the_same_round_field(xrays, suffix):
    path = xrays / "nema_wg04" / f"XA1_{suffix}.dcm"
    if not get_decoder(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID).is_available:
        pytest.skip("no decoder for this encoding is installed")
    result = read_and_preprocess(path, (1024, 1024))
    assert result.intensity_inferred and result.intensity is Intensity.TRANSMITTED and result.intensity_confidence > 0.9
    row, column = np.mgrid[:1024, :1024] - 511.5
    usable, radius = result.image.mask.numpy(), np.hypot(row, column)
    assert not usable[radius > 520].any() and usable[radius < 460].mean() > 0.98


def test_the_polarity_of_a_radiograph_is_inferred_from_its_displayed_negative(xrays):
    path = xrays / "nema_wg04" / "RG3_JLSL_JLSL.dcm"
    if not get_decoder(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID).is_available:
        pytest.skip("no decoder for JPEG-LS is installed")
    result = read_and_preprocess(path, (1760, 1760))  # MONOCHROME1: displayed with bright bones
    assert result.intensity is Intensity.ATTENUATION
    assert result.image.mask.numpy()[200:1500, 600:1100].mean() > 0.99


@pytest.mark.parametrize(
    "name",
    [
        "nema_wg04/RG2_JPLL_JPLL.dcm",
        "nema_wg04/XA1_JPLL_JPLL.dcm",
        "nema_wg04/XA1_JPLY_JPLY.dcm",
        "coronary_12_frames_xa/XA-MONO2-8-12x-catheter.dcm",
    ],
)
def test_the_error_for_a_missing_decoder_says_what_to_install(xrays, name):
    path = xrays / name
    dataset = dcmread(path)
    try:
        readable = dataset.pixel_array is not None
    except RuntimeError:
        readable = False
    size = (dataset.Columns, dataset.Rows)
    if readable:
        assert read_xray(path, camera(*size)).pixels.shape == size[::-1]
    else:
        with pytest.raises(InputError, match=r"compressed as JPEG .* pip install pylibjpeg"):
            read_xray(path, camera(*size))


def test_real_dicom_files_lack_geometry_and_the_error_asks_for_camera_json(xrays):
    files = sorted(xrays.rglob("*.dcm"))
    assert len(files) == 11
    for path in files:
        with pytest.raises(InputError, match=r"give a camera\.json|pip install"):
            read_xray(path, None)


def test_files_that_are_not_xrays_give_one_clear_error_each(data_folder):
    files = [path for path in sorted((data_folder / "dicom_edge").rglob("*")) if path.is_file()]
    assert len(files) > 40
    outcomes = []
    for path in files:
        try:
            outcomes.append(read_xray(path, None).pixels.shape)
        except InputError as error:
            outcomes.append(str(error))
    messages = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert all("\n" not in message for message in messages)
    assert sum("not an X-ray" in message for message in messages) > 30
