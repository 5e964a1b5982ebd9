"""Export of recordings: the image of a case is the recorded frame, and an evaluation finds the same poses as a registrar."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.evaluation_cases import record
from helpers.recording_files import write_cine

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.datasets import InitialPoseOptions, RecordingFiles, cases_from_recording, own_recording
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.evaluation.plan import case_digest, plan_cases, plan_jobs
from fluoro_reg.evaluation.report.pictures import xray_webp
from fluoro_reg.evaluation.report.worst_cases import _WorstCaseRenderer
from fluoro_reg.evaluation.worker import Worker, WorkerSettings
from fluoro_reg.formats.bags import read_bag_truth, read_frames
from fluoro_reg.formats.cameras import read_camera
from fluoro_reg.formats.cases import find_cases, read_case
from fluoro_reg.formats.landmarks import read_landmarks
from fluoro_reg.formats.recordings import RecordedFrame, RecordingSource, read_recording
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.simulation.bags import BagOptions, SimulatedBag, simulate_bag
from fluoro_reg.xray.encodings import pixels_from_message
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.reader import read_xray, xray_from_pixels

TRANSMITTED = Intensity.TRANSMITTED
START = InitialPoseOptions(start_mm=(3.0, 5.0))


@pytest.fixture(scope="module")
def recorded(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimulatedBag:
    """A recording of four frames, the third of which is blank."""
    folder = tmp_path_factory.mktemp("recorded") / "recording"
    return simulate_bag(phantom_folder, folder, BagOptions(frames=4, blank=(2,), size_px=64, motion_mm=4))


@pytest.fixture(scope="module")
def cine(recorded: SimulatedBag) -> Path:
    """The bag's frames as a cine with geometry, shutter and display rotation, with cine_truth.json beside it."""
    pixels = np.stack([pixels_from_message(image) for _, image, _ in read_frames(recorded.bag)])
    camera, folder = read_camera(recorded.camera), recorded.bag.parent
    poses = read_bag_truth(recorded.truth).values()
    rows = [{"frame": n, "camera_from_patient": p and p.matrix().tolist()} for n, p in enumerate(poses)]
    (folder / "cine_truth.json").write_text(json.dumps({"unit": "mm", "frames": rows}))
    edges = {"LeftVerticalEdge": 9, "RightVerticalEdge": 64, "UpperHorizontalEdge": 1, "LowerHorizontalEdge": 64}
    return write_cine(
        folder / "cine.dcm",
        np.rot90(pixels, -1, (1, 2)),
        DistanceSourceToDetector=camera.source_to_detector_mm,
        ImagerPixelSpacing=[camera.source_to_detector_mm / camera.fx] * 2,
        FieldOfViewRotation=90,
        ShutterShape="RECTANGULAR",
        **{f"Shutter{name}": value for name, value in edges.items()},
        PixelIntensityRelationship="LIN",
    )


def files(recording: Path, ct: Path, beside: Path, truth: str = "truth.json") -> RecordingFiles:
    return RecordingFiles(recording, ct, beside / truth, beside / "landmarks.json")


def as_read(case_folder: Path) -> XrayImage:
    case = read_case(case_folder)
    return read_xray(case.image, case.intrinsics, case.intensity, case.frame)


def assert_same(a: XrayImage, b: XrayImage) -> None:
    assert torch.equal(a.pixels, b.pixels) and torch.equal(a.mask, b.mask)
    assert a.intrinsics == b.intrinsics and a.intensity is b.intensity


@pytest.mark.parametrize("kind", ["bag", "cine"])
def test_a_case_has_the_image_of_its_frame_and_gives_the_same_pose(recorded, cine, phantom_folder, phantom, tmp_path, kind):
    beside = recorded.bag.parent
    source = RecordingSource(intensity=TRANSMITTED) if kind == "bag" else RecordingSource()
    recording, truth = (recorded.bag, "truth.json") if kind == "bag" else (cine, "cine_truth.json")
    exported = cases_from_recording(files(recording, phantom_folder, beside, truth), tmp_path / "out", source, START)
    assert [case.name for case in exported.cases] == [f"{kind}_000{n}" for n in (0, 1, 3)]
    assert (exported.without_truth, exported.unreadable) == (1, 0)
    frames = [frame for frame in read_recording(recording, source) if frame.number != 2]
    truths = [pose for pose in read_bag_truth(recorded.truth).values() if pose is not None]
    for folder, frame, pose in zip(exported.cases, frames, truths, strict=True):
        case = read_case(folder)
        assert_same(as_read(folder), frame.xray())
        torch.testing.assert_close(case.truth.matrix(), pose.matrix(), rtol=0, atol=1e-9)
        assert torch.equal(case.landmarks_patient, read_landmarks(recorded.landmarks))
        assert 3 <= target_registration_errors(case.initial, case.truth, case.landmarks_patient).mtre_mm <= 5
    assert as_read(exported.cases[0]).mask.all() == (kind == "bag"), "the cine has a shutter"
    assert_same_poses(tmp_path / "out", frames, phantom)
    last, image = exported.cases[-1], frames[-1].xray()
    shown = _WorstCaseRenderer().render(record("last", mtre_mm=None), last)
    assert shown.xray == xray_webp(image.pixels, image.intrinsics) and shown.missing == ""


def assert_same_poses(out: Path, frames: list[RecordedFrame], phantom: CTVolume) -> None:
    """The poses of an evaluation of the cases are those of a registrar on the original frames."""
    worker = Worker(WorkerSettings(RegistrationOptions(device="cpu")))
    registrar = Registrar(phantom, RegistrationOptions(method="lm-local", device="cpu"))
    for job, frame in zip(plan_jobs(plan_cases([out]), ["lm-local"], 0), frames, strict=True):
        result, initial = worker.run(job), read_case(job.folder).initial
        assert not result.failed, result.reason
        expected = registrar.register(frame.xray(), initial).camera_from_patient
        assert result.camera_from_patient == expected.matrix().tolist()
        assert result.errors["mtre_mm"] < result.start_mtre_mm


def test_the_same_frames_as_bag_and_as_cine_give_equal_cases(recorded, phantom_folder, tmp_path) -> None:
    beside = recorded.bag.parent
    pixels = np.stack([pixels_from_message(image) for _, image, _ in read_frames(recorded.bag)])
    write_cine(tmp_path / "bag.dcm", pixels)
    rows = [{**row, "frame": n} for n, row in enumerate(json.loads(recorded.truth.read_text())["frames"])]
    (tmp_path / "truth.json").write_text(json.dumps({"unit": "mm", "frames": rows}))
    shutil.copy(recorded.landmarks, tmp_path)
    camera = next(read_recording(recorded.bag)).xray().intrinsics
    of_bag = cases_from_recording(
        files(recorded.bag, phantom_folder, beside), tmp_path / "a", RecordingSource(intensity=TRANSMITTED), START
    )
    of_cine = cases_from_recording(
        files(tmp_path / "bag.dcm", phantom_folder, tmp_path),
        tmp_path / "b",
        RecordingSource(camera=camera, intensity=TRANSMITTED),
        START,
    )
    for a, b in zip(of_bag.cases, of_cine.cases, strict=True):
        assert_same(as_read(a), as_read(b))
        for name in ("camera.json", "truth.json", "initial.json", "landmarks.json"):
            assert (a / name).read_text() == (b / name).read_text()
    assert json.loads((of_cine.cases[2] / "case.json").read_text())["frame"] == 3
    assert not (of_cine.cases[2] / "image.npy").exists()


def test_an_initial_pose_depends_on_seed_and_name_alone(recorded, phantom_folder, tmp_path) -> None:
    beside = recorded.bag.parent
    content = json.loads(recorded.truth.read_text())
    (tmp_path / "truth.json").write_text(json.dumps({**content, "frames": content["frames"][1:2]}))
    known = files(recorded.bag, phantom_folder, beside)
    fewer = RecordingFiles(recorded.bag, phantom_folder, tmp_path / "truth.json", recorded.landmarks)
    for name, of, seed in (("all", known, 0), ("fewer", fewer, 0), ("other", fewer, 1)):
        cases_from_recording(of, tmp_path / name, options=InitialPoseOptions(seed=seed))
    initial_poses = [(tmp_path / name / "bag_0001" / "initial.json").read_text() for name in ("all", "fewer", "other")]
    assert initial_poses[0] == initial_poses[1] != initial_poses[2]


def test_without_landmarks_each_case_has_visible_points_on_bone(recorded, phantom_folder, phantom, tmp_path) -> None:
    known = RecordingFiles(recorded.bag, phantom_folder, recorded.truth)
    case = read_case(cases_from_recording(known, tmp_path / "out").cases[1])
    points = case.landmarks_patient
    pixels = case.intrinsics.project(case.truth.apply(points))
    assert len(points) == 40 and ((pixels >= 0) & (pixels <= 63)).all()
    voxel = (
        torch.linalg.solve(phantom.patient_from_voxel, torch.cat([points, torch.ones(40, 1)], 1).double().T)[:3].round().int()
    )
    bone = float(attenuation_from_hu(np.array([300.0], np.float32))[0])
    assert (phantom.attenuation[voxel[2], voxel[1], voxel[0]] > bone).all()


def test_pixels_that_are_not_finite_stay_masked(recorded, phantom_folder, tmp_path, monkeypatch) -> None:
    camera = read_camera(recorded.camera)
    pixels = np.random.default_rng(1).normal(size=(64, 64))
    pixels[3, 5], pixels[40, 7] = np.nan, np.inf
    image = xray_from_pixels(pixels, camera)
    stamp = next(read_recording(recorded.bag)).stamp_ns
    monkeypatch.setattr(own_recording, "read_recording", lambda *_: iter([RecordedFrame(0, stamp, lambda: image)]))
    (case,) = cases_from_recording(files(recorded.bag, phantom_folder, recorded.bag.parent), tmp_path / "out").cases
    assert_same(as_read(case), image)
    assert int((~image.mask).sum()) == 2


def test_the_digest_of_a_case_depends_on_its_cine(recorded, cine, phantom_folder, tmp_path) -> None:
    copy = Path(shutil.copy(cine, tmp_path / "cine.dcm"))
    cases_from_recording(files(copy, phantom_folder, recorded.bag.parent, "cine_truth.json"), tmp_path / "out")
    before = [case_digest(case) for case in plan_cases([tmp_path / "out"])]
    with copy.open("ab") as file:
        file.write(b"\0\0")
    after = [case_digest(case) for case in plan_cases([tmp_path / "out"])]
    assert len(set(before)) == 3 and not set(before) & set(after)


def test_unreadable_frames_are_counted_and_an_error_if_there_are_no_others(
    recorded, cine, phantom_folder, tmp_path, monkeypatch
) -> None:
    known = files(recorded.bag, phantom_folder, recorded.bag.parent)

    def damaged() -> XrayImage:
        raise InputError("the image is damaged")

    frames = list(read_recording(recorded.bag))
    broken = [RecordedFrame(f.number, f.stamp_ns, damaged) for f in frames]
    monkeypatch.setattr(own_recording, "read_recording", lambda *_: iter([broken[0], *frames[1:]]))
    exported = cases_from_recording(known, tmp_path / "one")
    assert [case.name for case in exported.cases] == ["bag_0001", "bag_0003"] and exported.unreadable == 1
    monkeypatch.setattr(own_recording, "read_recording", lambda *_: iter(broken))
    with pytest.raises(InputError, match="none of the 3 frames with a true pose can be read; the first: the image is damaged"):
        cases_from_recording(known, tmp_path / "all")
    assert [path.name for path in find_cases(tmp_path / "one")] == ["bag_0001", "bag_0003"]


def test_the_true_poses_of_another_recording_are_rejected(recorded, phantom_folder, tmp_path) -> None:
    rows = [{"stamp_ns": 12, "camera_from_patient": np.eye(4).tolist()}]
    (tmp_path / "truth.json").write_text(json.dumps({"unit": "mm", "frames": rows}))
    known = RecordingFiles(recorded.bag, phantom_folder, tmp_path / "truth.json", recorded.landmarks)
    with pytest.raises(
        InputError, match=r"truth.json has no pose for any of the 4 frames of bag.*stamps from 1700000000000000000"
    ):
        cases_from_recording(known, tmp_path / "out")
    with pytest.raises(InputError, match="low <= high"):
        cases_from_recording(
            files(recorded.bag, phantom_folder, recorded.bag.parent), tmp_path / "out", None, InitialPoseOptions((5.0, 3.0))
        )
    assert not list((tmp_path / "out").iterdir())
