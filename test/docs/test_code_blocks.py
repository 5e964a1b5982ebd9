"""The code blocks of the documentation run.

Blocks of the README, the getting-started and the how-to pages run in the order of the page, in a folder of small inputs under
the names that the pages use. Long jobs are shortened by `SHORTER`: a command of the given name gets these options, which
replace the page's own. `how-to/datasets.md` has tests of its own (test/evaluation/datasets).
"""

import contextlib
import io
import json
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.documentation import DOCS, ROOT, blocks_of, commands_of
from helpers.recording_files import write_cine
from helpers.xray_images import write_xa

from fluoro_reg.cli.main import main
from fluoro_reg.formats.bags import read_frames
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu, phantom_labels
from fluoro_reg.training.similarity import SimilarityTraining
from fluoro_reg.xray.encodings import pixels_from_message

RUN = ("README.md", *(f"docs/{path.relative_to(DOCS)}" for path in sorted(DOCS.glob("getting-started/*.md"))))
RUN += tuple(f"docs/{path.relative_to(DOCS)}" for path in sorted(DOCS.glob("how-to/*.md")) if path.stem != "datasets")
SHORTER = {
    "train regressor": "--set steps=4 --set batch=4 --set validations=1 --set validation_images=8 --set network.image_px=32",
    "train similarity": "--set steps=30 --set batch=12 --set validations=2 --set validation_images=16 --set average=0.5 "
    "--set prost.image_px=16 --set prost.samples=8 --set prost.encoder_channels=[8,8]",
    "simulate": "--cases 1 --size 128",
    "simulate --bag": "--frames 3 --size 128",
    "evaluate": "--limit 1 --workers 1",
}
REPLACED = ("--budget", "--cases", "--frames", "--size", "--limit", "--workers")


@pytest.fixture(scope="module")
def inputs(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call by name: CTs, two X-rays of known geometry, a recording as bag, cine and DICOM."""
    folder = tmp_path_factory.mktemp("documentation") / "inputs"
    folder.mkdir()
    (folder / "ct_folder").symlink_to(phantom_folder)
    for number, name in enumerate(("other_ct", "third_ct"), start=1):
        write_dicom_series(folder / name, *phantom_hu(PhantomOptions(spacing_mm=(8.0, 8.0, 8.0), seed=number)))
    write_segmentation(folder / "segmentation.nii.gz")
    simulated = ["simulate", "--ct", str(phantom_folder), "--size", "256", "--json"]
    with contextlib.redirect_stdout(io.StringIO()):
        case = folder / "views" / "case_000"
        settings = ["--set", "second_view_deg=60", "--set", "oblique_fraction=0", "--start-mm", "5", "10"]
        assert main([*simulated, "--cases", "1", "--out", str(case.parent), *settings]) == 0
        assert main([*simulated, "--bag", "--frames", "3", "--set", "blank=[]", "--out", str(folder / "recording")]) == 0
    view = json.loads((case / "view.json").read_text())
    second = case / view["image"]
    for name, source in {"xray.png": "image.png", "frontal.png": "image.png", "camera.json": "camera.json"}.items():
        (folder / name).write_bytes((case / source).read_bytes())
    (folder / "lateral.png").write_bytes(second.read_bytes())
    (folder / "lateral_camera.json").write_bytes((case / view.get("camera", "camera.json")).read_bytes())
    lateral = {**view, "image": "lateral.png", "camera": "lateral_camera.json"}
    (folder / "lateral.json").write_text(json.dumps(lateral))
    (folder / "initial.json").write_bytes((case / "initial.json").read_bytes())
    (folder / "bag_folder").symlink_to(folder / "recording" / "bag")
    for name in ("camera", "initial"):
        (folder / f"bag_{name}.json").write_bytes((folder / "recording" / f"{name}.json").read_bytes())
    frames = np.stack([pixels_from_message(image) for _, image, _ in read_frames(folder / "bag_folder")])
    write_cine(folder / "cine.dcm", frames)
    write_xray_with_geometry(folder / "xray.dcm", frames[0], json.loads((folder / "bag_camera.json").read_text()))
    (folder / "dicom_initial.json").write_bytes((folder / "bag_initial.json").read_bytes())
    return folder


def write_segmentation(path: Path) -> None:
    """The bones of the phantom on another grid than its CT."""
    labels = phantom_labels(PhantomOptions(spacing_mm=(3.0, 3.0, 3.0)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.patient_from_voxel.numpy()
    nibabel.save(nibabel.Nifti1Image(labels.labels.numpy().transpose(2, 1, 0), affine), path)


def write_xray_with_geometry(path: Path, pixels: np.ndarray, camera: dict) -> None:
    """An XA file whose tags give the camera."""
    distance = camera["source_to_detector_mm"]
    spacing = [distance / camera["k"][4], distance / camera["k"][0]]
    write_xa(path, pixels, DistanceSourceToDetector=distance, ImagerPixelSpacing=spacing)


@pytest.mark.parametrize("name", RUN)
def test_code_blocks_run(name: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimilarityTraining, "mean_decrease", lambda training: 1.0)  # in so few steps the value may not decrease
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path.resolve())
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks_of((ROOT / name).read_text(encoding="utf-8")):
        if block.title:
            target = tmp_path / block.title
            target.unlink(missing_ok=True)
            target.write_text(block.code)
        if block.reason:
            continue
        if block.language == "python":
            exec(compile(block.code, name, "exec"), namespace)
        elif block.language == "bash":
            for command in commands_of(block.code):
                run(command)
    if "result" in namespace:  # the last Python block of the page
        assert namespace["result"].accepted, namespace["result"].reason


def run(words: list[str]) -> None:
    """Run one command of the program in this process; `>` is a redirection, as in a shell."""
    assert words[0] == "fluoro-reg", f"only fluoro-reg runs here; mark the block as not run: {shlex.join(words)}"
    words, target = (words[: words.index(">")], Path(words[-1])) if ">" in words else (words, None)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = main(shortened(words[1:]))
    # A network of four steps finds no pose; that the others are accepted is what the pages promise.
    may_be_rejected = words[1] == "register" and ("--model" in words or "--similarity" in words)
    assert status == 0 or (may_be_rejected and status == 1), f"{shlex.join(words)}: {output.getvalue()}"
    if target is not None:
        target.write_text(output.getvalue())


def shortened(words: list[str]) -> list[str]:
    """A command with the options of `SHORTER` in place of its own."""
    kind = [*words[:1], "--bag"] if words[0] == "simulate" and "--bag" in words else words
    name = next((name for name in reversed(SHORTER) if kind[: len(name.split())] == name.split()), None)
    if name is None or "--report-only" in words:
        return words
    kept = [word for i, word in enumerate(words) if word not in REPLACED or (name == "evaluate" and word == "--cases")]
    values = [
        words[i + 1] for i, word in enumerate(words) if word in REPLACED and not (name == "evaluate" and word == "--cases")
    ]
    for value in values:
        kept.remove(value)
    return [*kept, *shlex.split(SHORTER[name])]
