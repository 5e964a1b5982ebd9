"""Wrong input, given to the whole program: status 2, one sentence on standard error, nothing on standard output."""

import json
import pickle
import shutil

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series


@pytest.fixture
def error_of(cli):
    """Return a function that runs the program, checks the form of the error, and returns its sentence."""

    def run(*arguments: object) -> str:
        finished = cli(*arguments)
        assert finished.status == 2, finished
        assert finished.out == ""
        assert finished.err.count("\n") == 1, finished.err
        assert finished.err.startswith("fluoro-reg: ")
        return finished.err

    return run


def missing(folder, view):
    return folder / "absent"


def empty(folder, view):
    return folder


def text_file(folder, view):
    (folder / "ct.dcm").write_text("not a CT")
    return folder / "ct.dcm"


def two_series(folder, view):
    shutil.copytree(view.ct, folder / "first")
    write_dicom_series(folder / "second", np.zeros((8, 8, 8), dtype=np.float32), np.eye(4))
    return folder


def truncated_dicom(folder, view):
    shutil.copytree(view.ct, folder / "ct")
    for file in (folder / "ct").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return folder / "ct"


def singular_nifti(folder, view):
    content = nibabel.Nifti1Image(np.zeros((8, 8, 8), dtype=np.int16), np.eye(4)).to_bytes()
    path = folder / "ct.nii"
    path.write_bytes(_nifti_with_sform(content, np.diag([2.0, 2.0, 0.0, 1.0])))
    return path


def _nifti_with_sform(content: bytes, matrix: np.ndarray) -> bytes:
    """Overwrite srow_x, srow_y and srow_z (bytes 280 to 328 of the header), and set the codes so that readers use them."""
    codes = np.array([0, 1], dtype="<i2").tobytes()
    return content[:252] + codes + content[256:280] + matrix[:3].astype("<f4").tobytes() + content[328:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "absent"),
        (empty, "no "),
        (text_file, "DICOM"),
        (two_series, "--series"),
        (truncated_dicom, "truncated"),
        (singular_nifti, "singular"),
    ],
)
@pytest.mark.parametrize("command", ["ct-info", "register"])
def test_an_unusable_ct(error_of, view, tmp_path, make, message, command):
    ct = make(tmp_path, view)
    sentence = (
        error_of("ct-info", ct, "--json") if command == "ct-info" else error_of("register", *view.arguments(ct=ct), "--json")
    )
    assert message in sentence
    assert str(tmp_path) not in sentence


def test_one_of_two_series_can_be_selected(cli, view, tmp_path):
    folder = two_series(tmp_path, view)
    shapes = {tuple(cli("ct-info", folder, "--series", n, "--json").json()["shape_ijk"]) for n in (1, 2)}
    assert len(shapes) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": [float("nan"), 0, 63.5, 0, 420, 63.5, 0, 0, 1]}, "finite"),
        ({"k": [None, 0, 63.5, 0, 420, 63.5, 0, 0, 1]}, "nine numbers"),
        ({"k": [0, 0, 0, 0, 0, 0, 0, 0, 0]}, "focal length"),
        ({"width": 127}, "128 x 128"),
        ({"height": "128"}, "height"),
    ],
)
def test_an_unusable_camera(error_of, view, tmp_path, change, message):
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({**json.loads(view.camera.read_text()), **change}))
    assert message in error_of("register", *view.arguments(camera=camera), "--json")


def test_an_image_without_geometry_needs_a_camera(error_of, view):
    assert "camera.json" in error_of("register", *view.arguments(camera=None))


def rgb_photo(path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def all_nan(path):
    np.save(path.with_suffix(".npy"), np.full((128, 128), np.nan, dtype=np.float32))
    return path.with_suffix(".npy")


def jpeg(path):
    Image.new("L", (128, 128)).save(path.with_suffix(".jpg"))
    return path.with_suffix(".jpg")


def truncated_png(path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    Image.fromarray(noise).save(path.with_suffix(".png"))
    path.with_suffix(".png").write_bytes(path.with_suffix(".png").read_bytes()[:2000])
    return path.with_suffix(".png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "cannot read"),
        (lambda path: path.parent, "folder"),
        (rgb_photo, "colour"),
        (all_nan, "NaN"),
        (jpeg, "image.jpg"),
        (truncated_png, "truncated"),
    ],
)
def test_an_unusable_image(error_of, view, tmp_path, make, message):
    assert message in error_of("register", *view.arguments(image=make(tmp_path / "image")), "--json")


def test_a_frame_that_does_not_exist(error_of, view):
    assert "frame" in error_of("register", *view.arguments(), "--frame", 7)


IDENTITY = np.eye(4).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "object"),
        (json.dumps({"unit": "mm"}), "camera_from_patient"),
        (json.dumps({"camera_from_patient": IDENTITY}), "unit"),
        (json.dumps({"camera_from_patient": IDENTITY, "unit": "m"}), "unit"),
        (json.dumps({"camera_from_patient": IDENTITY[:3], "unit": "mm"}), "four rows"),
        (json.dumps({"camera_from_patient": np.diag([1.0, 1, -1, 1]).tolist(), "unit": "mm"}), "reflection"),
        (json.dumps({"camera_from_patient": np.diag([2.0, 2, 2, 1]).tolist(), "unit": "mm"}), "not rigid"),
        (json.dumps({"camera_from_patient": np.diag([1.0, 1, float("nan"), 1]).tolist(), "unit": "mm"}), "NaN"),
        (json.dumps({"camera_from_patient": np.eye(4)[::-1].tolist(), "unit": "mm"}), "last row"),
    ],
)
@pytest.mark.parametrize("command", ["register", "render"])
def test_an_unusable_pose(error_of, view, tmp_path, content, message, command):
    pose = tmp_path / "pose.json"
    pose.write_text(content)
    render = ("--ct", view.ct, "--camera", view.camera, "--pose", pose, "--out", tmp_path / "drr.png")
    sentence = error_of("register", *view.arguments(initial=pose)) if command == "register" else error_of("render", *render)
    assert message in sentence


def test_a_method_without_the_weights_it_needs(error_of, view):
    assert "--model W.safetensors" in error_of("register", *view.arguments(), "--method", "regressor-lm")


def plain_pickle(path):
    path.write_bytes(pickle.dumps({"weight": [1.0]}))


def torch_pickle(path):
    torch.save({"weight": torch.zeros(3)}, path)


def truncated_weights(path):
    save_file({"weight": np.zeros(1000, dtype=np.float32)}, path)
    path.write_bytes(path.read_bytes()[:500])


def weights_of_another_program(path):
    save_file({"weight": np.zeros(3, dtype=np.float32)}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (plain_pickle, "pickle"),
        (torch_pickle, "pickle"),
        (truncated_weights, "truncated"),
        (lambda path: path.write_text("weights"), "not a complete safetensors file"),
        (lambda path: None, "cannot read"),
        (lambda path: path.mkdir(), "folder"),
        (weights_of_another_program, "was not written by this program"),
    ],
)
def test_unusable_weights(error_of, view, tmp_path, make, message):
    weights = tmp_path / "weights.safetensors"
    make(weights)
    assert message in error_of("register", *view.arguments(), "--model", weights, "--json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "lm-gradient"], "lm-gradient-ncc"),
        (["--set", "gate.minimum_similarty=0.9"], "gate.minimum_similarity"),
        (["--set", "gate.minimum_similarity=high"], "float"),
        (["--set", "gate.minimum_similarity=7"], "1.0"),
        (["--set", "gate.minimum_similarity"], "key=value"),
        (["--set", "gate.depth_range_mm=[1"], "YAML"),
        (["--saturation", "much"], "saturation"),
        (["--config", "absent.yaml"], "absent.yaml"),
        (["--overlay", "overlay.jpg"], ".png"),
        (["--overlay", "no_such_folder/overlay.png"], "folder"),
    ],
)
def test_unusable_settings(error_of, view, arguments, message):
    assert message in error_of("register", *view.arguments(), *arguments, "--json")


def test_a_misspelt_key_in_a_settings_file(error_of, view, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("gate:\n  minimum_similarty: 0.9\n")
    sentence = error_of("register", *view.arguments(), "--config", settings)
    assert "minimum_similarty" in sentence
    assert "minimum_similarity" in sentence


def test_cuda_on_a_machine_without_cuda(error_of, view):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert "CUDA" in error_of("register", *view.arguments(), "--device", "cuda")
