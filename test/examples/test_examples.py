"""Every program in `examples/` runs on simulated X-rays and finds the pose."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import fluoro_reg as fr
from fluoro_reg.formats.cases import read_case
from fluoro_reg.simulation.bags import BagOptions, simulate_bag
from fluoro_reg.simulation.cases import CaseOptions, simulate_cases

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def case(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case with a second view."""
    options = CaseOptions(count=1, size_px=128, start_mm=((5.0, 8.0),), variants=("standard",), second_view_deg=60.0)
    return simulate_cases(phantom_folder, tmp_path_factory.mktemp("examples") / "cases", options)[0]


def distance_mm(result: fr.RegistrationResult, case: Path) -> float:
    """Mean distance of the landmarks from where they are."""
    truth = read_case(case)
    found, expected = (pose.apply(truth.landmarks_patient) for pose in (result.camera_from_patient, truth.truth))
    return float((found - expected).norm(dim=-1).mean())


def files(case: Path, phantom_folder: Path) -> list[str]:
    return [str(path) for path in (phantom_folder, case / "image.png", case / "camera.json")]


@pytest.mark.parametrize("name", ["register_xray", "own_method"])
def test_a_single_xray_is_registered(name: str, case: Path, phantom_folder: Path) -> None:
    result = example(name).main(*files(case, phantom_folder), str(case / "initial.json"))
    assert result.accepted, result.reason
    assert distance_mm(result, case) < 2.0
    assert result.method == ("mine" if name == "own_method" else "lm-gradient-ncc")


def test_two_views_are_registered(case: Path, phantom_folder: Path) -> None:
    result = example("register_two_views").main(
        *files(case, phantom_folder), str(case / "view.json"), str(case / "initial.json")
    )
    assert result.accepted, result.reason
    assert distance_mm(result, case) < 1.0


def test_a_recording_is_tracked(phantom_folder: Path, tmp_path: Path) -> None:
    recording = simulate_bag(phantom_folder, tmp_path / "recording", BagOptions(frames=4, size_px=128, blank=(2,)))
    assert example("track_recording").main(str(phantom_folder), str(recording.bag), str(recording.initial)) == 3


def test_every_example_is_run_here() -> None:
    run = {"register_xray", "own_method", "register_two_views", "track_recording"}
    elsewhere = {"follow_patient", "openigtlink_bridge"}  # nodes, in test/ros
    assert {path.stem for path in EXAMPLES.glob("*.py")} == run | elsewhere
