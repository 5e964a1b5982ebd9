"""What the demo leaves in its folder besides the scene: enough to understand it and to run it again.

demo.json (program, versions)  configuration.yaml  node.yaml  phantom_regressor.safetensors (where it knows the phantom)
    ct/  recording/  *.log  frames.json  summary.json  report.html
    overlay.png (the first frame with the CT's bone edges: at the start, and at the pose found)
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from fluoro_reg.config import to_mapping
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.demo.assessment import DemoTruth, FrameRecord
from fluoro_reg.demo.initial_pose import PHANTOM_WEIGHTS, given_start, predicted_initial_pose
from fluoro_reg.demo.pictures import before_and_after, paint
from fluoro_reg.demo.report import Circumstances, DemoReport, demo_html
from fluoro_reg.demo.scene import DemoOptions, DemoScene
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.environment import versions
from fluoro_reg.formats.json_file import json_line

MARK = "demo.json"
SETTINGS = (MARK, "configuration.yaml", "node.yaml")
LOGS = ("node.log", "listener.log", "player.log")
ANSWERS = ("frames.json", "summary.json", "report.html", "overlay.png")
WRITTEN = (*SETTINGS, PHANTOM_WEIGHTS, "ct", "recording", *LOGS, *ANSWERS)
PACKAGES = ("torch", "numpy", "numba", "scipy", "pydicom", "rosbags", "ros-rclpy")

COMMANDS = """\
# all of it, in another folder
fluoro-reg demo --out demo_again --config configuration.yaml

# by hand, each in a terminal of its own, with FASTDDS_DEFAULT_PROFILES_FILE=<project>/embedded_ros/fastdds_loopback.xml
registration_node --ros-args --params-file node.yaml -r image:={image} -r camera_info:={camera_info}
tf_listener --child patient
bag_player recording/bag --await /tf --answers /registration_node/result

# the same frames through the same tracker without ROS
fluoro-reg replay recording/bag --ct ct {start} --intensity transmitted"""


def prepare(folder: Path, options: DemoOptions) -> None:
    """A folder with nothing in it but the settings; what an earlier demo wrote is removed, nothing else ever is.

    Raises:
        InputError: it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder.name} is a file; give a folder to write")
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in WRITTEN)
    if strangers or (any(folder.iterdir()) and not (folder / MARK).is_file()):
        what = f" ({strangers[0]})" if strangers else ""
        raise InputError(f"{folder.name} holds something that is no demo's{what}; give a new or empty folder")
    for name in WRITTEN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _write(folder / MARK, json.dumps({"program": "fluoro-reg demo", "versions": versions(PACKAGES)}, indent=2) + "\n")
    _write(folder / "configuration.yaml", _yaml(to_mapping(options)))


def write_node_parameters(folder: Path, scene: DemoScene, options: DemoOptions) -> None:
    """A parameters file as a user would write it; paths are relative to the folder, in which the node runs."""
    start = {} if options.registration.model else {"initial.path": str(scene.recording.initial.relative_to(folder))}
    parameters = {
        "autostart": True,
        "ct.path": str(scene.ct.relative_to(folder)),
        **start,
        "intensity": "transmitted",
        "qos.image": "reliable",
        **to_mapping(options.registration),
    }
    _write(folder / "node.yaml", _yaml({"registration_node": {"ros__parameters": parameters}}))


def write_answers(folder: Path, records: list[FrameRecord], content: dict[str, Any]) -> None:
    """frames.json and summary.json."""
    frames = [
        {
            **{field.name: getattr(record, field.name) for field in dataclasses.fields(record)},
            "errors": None if record.errors is None else dataclasses.asdict(record.errors),
            "camera_from_patient": None if record.camera_from_patient is None else record.camera_from_patient.matrix().tolist(),
        }
        for record in records
    ]
    _write(folder / "frames.json", json_line({"unit": "mm", "frames": frames}))
    _write(folder / "summary.json", json_line(content))


@dataclasses.dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What the report is about."""

    records: list[FrameRecord]
    summary: dict[str, Any]
    shortcomings: list[str]


def write_report(
    folder: Path, scene: DemoScene, truth: DemoTruth, outcome: DemoOutcome, options: DemoOptions, topics: dict[str, str]
) -> None:
    """report.html and overlay.png."""
    model, volume = options.registration.model, read_ct(scene.ct)
    start = predicted_initial_pose(volume, scene, truth, folder / model) if model else given_start(scene, truth)
    pictures = paint(volume, scene, start, outcome.records)
    configuration = (folder / "configuration.yaml").read_text(encoding="utf-8")
    seed = yaml.safe_load(configuration)["recording"]["seed"]
    words = f"--model {model}" if model else "--initial recording/initial.json"
    about = Circumstances(
        COMMANDS.format(start=words, **topics), configuration, versions(PACKAGES), len(truth.points_patient), seed
    )
    report = DemoReport(outcome.records, outcome.summary, outcome.shortcomings, pictures, about)
    _write(folder / "report.html", demo_html(report))
    before_and_after(pictures).save(folder / "overlay.png", optimize=True)


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False)  # through JSON: tuples become lists


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
