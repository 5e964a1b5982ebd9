"""`fluoro-reg export-dataset`: options that apply to one data set only, cases of a recording, and errors."""

import json

import numpy as np
import pytest
from helpers.recording_files import write_cine

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.formats.cameras import read_camera
from fluoro_reg.formats.poses import read_pose
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deepfluoro", "--subject", "subject01"], "--subject applies to Ljubljana only"),
        (["deepfluoro", "--view", "ap"], "--view applies to Ljubljana only"),
        (["ljubljana", "--specimen", "17-1882"], "--specimen applies to DeepFluoro only"),
        (["deepfluoro", "--specimen", "17-1883"], "17-1882, 18-1109"),
        (["ljubljana", "--view", "oblique"], "ap, lat"),
        (["ljubljana", "--set", "femurs=false"], "femurs"),
        (["deepfluoro", "--device", "cuda"], "CPU"),
        (["deepfluor"], "deepfluor"),
        (["deepfluoro"], "absent.h5"),
        (["deepfluoro", "--ct", "ct"], "--ct applies to a recording only"),
        (["ljubljana", "--camera-info-topic", "/info"], "--camera-info-topic applies to a recording only"),
        (["ljubljana", "--intensity", "auto"], "--intensity applies to a recording only"),
        (["recording", "--specimen", "17-1882"], "--specimen applies to DeepFluoro only"),
        (["recording", "--ct", "ct"], "--truth T.json"),
        (["recording", "--truth", "truth.json"], "--ct CT"),
        (["recording", "--truth", "truth.json", "--ct", "ct"], "there is no recording (bag or cine) at absent.h5"),
        (["recording", "--set", "femurs=false"], "give --ct CT"),
    ],
)
def test_wrong_arguments_are_an_error_and_nothing_is_written(cli, tmp_path, arguments, message):
    dataset, *options = arguments
    run = cli("export-dataset", dataset, tmp_path / "absent.h5", "--out", tmp_path / "out", *options)
    assert run.status == 2 and run.out == "" and run.err.count("\n") == 1
    assert message in run.err and str(tmp_path) not in run.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def recording(view, tmp_path):
    """A folder with a cine of three frames and truth.json. The second frame has no true pose, the others have the same."""
    pixels = (60000 * np.exp(-np.load(view.image))).astype(np.uint16)
    pose = read_pose(view.pose).matrix().tolist()
    write_cine(tmp_path / "cine.dcm", np.stack([pixels, pixels // 2, pixels // 3]))
    rows = [{"frame": 0, "camera_from_patient": pose}, {"frame": 2, "camera_from_patient": pose}]
    (tmp_path / "truth.json").write_text(json.dumps({"unit": "mm", "frames": rows}))
    return tmp_path


def test_a_recording_can_be_exported_and_evaluated(cli, view, recording):
    options = ("--camera", view.camera, "--intensity", "transmitted", "--start-mm", 3, 5, "--seed", 4)
    known = ("--ct", view.ct, "--truth", recording / "truth.json")
    exported = cli(
        "export-dataset", "recording", recording / "cine.dcm", *known, *options, "--out", recording / "cases", "--json"
    )
    answer = {"out": "cases", "cases": ["cine_0000", "cine_0002"], "without_truth": 1, "unreadable": 0}
    assert exported.status == 0 and exported.json() == answer
    evaluated = cli("evaluate", "--cases", recording / "cases", "--method", "lm-local", "--out", recording / "out", "--json")
    assert evaluated.status == 0 and evaluated.json()["failed"] == 0
    records = [json.loads(line) for line in (recording / "out" / "records.jsonl").read_text().splitlines()]
    registrar = Registrar(read_ct(view.ct), RegistrationOptions(method="lm-local"))
    for record, frame in zip(records, (0, 2), strict=True):
        image = read_xray(recording / "cine.dcm", read_camera(view.camera), Intensity.TRANSMITTED, frame)
        start = read_pose(recording / "cases" / f"cine_000{frame}" / "initial.json")
        assert record["camera_from_patient"] == registrar.register(image, start).camera_from_patient.matrix().tolist()
        assert 3 <= record["start_mtre_mm"] <= 5 and record["errors"]["mtre_mm"] < 2
    assert records[0]["camera_from_patient"] != records[1]["camera_from_patient"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--truth": "absent.json"}, "absent.json"),
        ({"--truth": "other.json"}, "other.json has no pose for any of the 3 frames of cine.dcm"),
        ({"--landmarks": "absent.json"}, "absent.json"),
        ({"--ct": "absent"}, "absent"),
        ({"--image-topic": "/carm/image_raw"}, "cine.dcm is not a bag"),
        ({"--camera": None}, "none of the 2 frames with a true pose can be read; the first: cine.dcm has no geometry"),
    ],
)
def test_a_recording_that_gives_no_cases_is_an_error(cli, view, recording, changed, message):
    (recording / "other.json").write_text(
        json.dumps({"unit": "mm", "frames": [{"stamp_ns": 7, "camera_from_patient": np.eye(4).tolist()}]})
    )
    options = {"--ct": view.ct, "--truth": "truth.json", "--camera": view.camera, **changed}
    files = {name: value if name == "--image-topic" else recording / value for name, value in options.items() if value}
    arguments = [argument for pair in files.items() for argument in pair]
    run = cli("export-dataset", "recording", recording / "cine.dcm", "--out", recording / "cases", *arguments)
    assert run.status == 2 and run.out == "" and run.err.count("\n") == 1
    assert message in run.err and str(recording) not in run.err
    assert not list(recording.glob("cases/*"))
