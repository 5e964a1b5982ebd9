"""The files in the demo's folder, which document the run and allow it to be repeated.

demo.json (program, versions)  configuration.yaml  node.yaml  phantom_regressor.safetensors (if trained on the phantom)
ct/  bodies.yaml and labels.nii.gz (if bones move)  recording/  *.log  frames.json  summary.json  report.html
overlay.png (the first frame with the CT's bone edges at the initial and at the estimated pose)
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from fluoro_reg.config import to_mapping
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.demo.assessment import PATIENT_FRAME, DemoTruth, FrameRecord
from fluoro_reg.demo.initial_pose import PHANTOM_WEIGHTS, given_initial_pose, predicted_initial_pose
from fluoro_reg.demo.pictures import before_and_after, render_images
from fluoro_reg.demo.report import DemoReport, RunDetails, demo_html
from fluoro_reg.demo.scene import DemoOptions, DemoScene
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.environment import versions
from fluoro_reg.formats.json_file import json_line
from fluoro_reg.simulation.phantom.bodies import BODIES_FILE, LABELS_FILE

MARKER = "demo.json"
SETTINGS = (MARKER, "configuration.yaml", "node.yaml")
LOGS = ("node.log", "listener.log", "player.log")
RESULTS = ("frames.json", "summary.json", "report.html", "overlay.png")
WRITTEN = (*SETTINGS, PHANTOM_WEIGHTS, "ct", BODIES_FILE, LABELS_FILE, "recording", *LOGS, *RESULTS)
PACKAGES = ("torch", "numpy", "numba", "scipy", "pydicom", "rosbags", "ros-rclpy")

COMMANDS = """\
# the whole demo, in another folder
fluoro-reg demo --out demo_again --config configuration.yaml

# the processes by hand, each in its own terminal;
# FASTDDS_DEFAULT_PROFILES_FILE must be <project>/embedded_ros/fastdds_loopback.xml
registration_node --ros-args --params-file node.yaml -r image:={image} -r camera_info:={camera_info}
tf_listener{child}
bag_player recording/bag --await /tf --answers /registration_node/result

# the same frames with the same tracker, without ROS
fluoro-reg replay recording/bag --ct ct{bodies} {initial} --intensity transmitted"""


def prepare_folder(folder: Path, options: DemoOptions) -> None:
    """Create the folder with the settings; only files of an earlier demo are removed.

    Raises:
        InputError: The folder contains other files.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder.name} is a file; give a folder to write")
    folder.mkdir(parents=True, exist_ok=True)
    other_files = sorted(path.name for path in folder.iterdir() if path.name not in WRITTEN)
    if other_files or (any(folder.iterdir()) and not (folder / MARKER).is_file()):
        example = f" ({other_files[0]})" if other_files else ""
        raise InputError(f"{folder.name} contains files that no demo wrote{example}; give a new or empty folder")
    for name in WRITTEN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _write(folder / MARKER, json.dumps({"program": "fluoro-reg demo", "versions": versions(PACKAGES)}, indent=2) + "\n")
    _write(folder / "configuration.yaml", _yaml(to_mapping(options)))


def write_node_parameters(folder: Path, scene: DemoScene, options: DemoOptions) -> None:
    """Write a parameters file as a user would; paths are relative to the folder, in which the node runs."""
    initial = {} if options.registration.model else {"initial.path": str(scene.recording.initial.relative_to(folder))}
    parameters = {
        "autostart": True,
        "ct.path": str(scene.ct.relative_to(folder)),
        **initial,
        **({} if scene.bodies is None else {"bodies.path": scene.bodies.bodies.name, "labels.path": scene.bodies.labels.name}),
        "intensity": "transmitted",
        "qos.image": "reliable",
        **to_mapping(options.registration),
    }
    _write(folder / "node.yaml", _yaml({"registration_node": {"ros__parameters": parameters}}))


def write_results(folder: Path, records: list[FrameRecord], summary: dict[str, Any]) -> None:
    """Write frames.json and summary.json."""
    frames = [
        {
            **{field.name: getattr(record, field.name) for field in dataclasses.fields(record)},
            "errors": None if record.errors is None else dataclasses.asdict(record.errors),
            "camera_from_patient": None if record.camera_from_patient is None else record.camera_from_patient.matrix().tolist(),
            "bodies": {name: body.to_json() for name, body in record.bodies.items()},
        }
        for record in records
    ]
    _write(folder / "frames.json", json_line({"unit": "mm", "frames": frames}))
    _write(folder / "summary.json", json_line(summary))


@dataclasses.dataclass(frozen=True, slots=True)
class DemoOutcome:
    """The results of a demo; it succeeded if `failed_checks` is empty."""

    records: list[FrameRecord]
    summary: dict[str, Any]
    failed_checks: list[str]


def write_report(
    folder: Path, scene: DemoScene, truth: DemoTruth, outcome: DemoOutcome, options: DemoOptions, topics: dict[str, str]
) -> None:
    """Write report.html and overlay.png."""
    model, volume = options.registration.model, read_ct(scene.ct)
    initial = predicted_initial_pose(volume, scene, truth, folder / model) if model else given_initial_pose(scene, truth)
    images = render_images(volume, scene, initial, outcome.records)
    configuration = (folder / "configuration.yaml").read_text(encoding="utf-8")
    seed = yaml.safe_load(configuration)["recording"]["seed"]
    arguments = f"--model {model}" if model else "--initial recording/initial.json"
    several = f" --bodies {BODIES_FILE} --labels {LABELS_FILE}" if scene.bodies else ""
    child = "" if scene.bodies else f" --child {PATIENT_FRAME}"
    details = RunDetails(
        COMMANDS.format(initial=arguments, bodies=several, child=child, **topics),
        configuration,
        versions(PACKAGES),
        len(truth.points_patient),
        seed,
    )
    report = DemoReport(outcome.records, outcome.summary, outcome.failed_checks, images, details)
    _write(folder / "report.html", demo_html(report))
    before_and_after(images).save(folder / "overlay.png", optimize=True)


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False)  # through JSON: tuples become lists


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
