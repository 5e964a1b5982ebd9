"""The page on data sets: its commands run on small files of the same names, and the exported cases can be evaluated."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py", reason="needs the extra 'datasets'")
from helpers.dataset_files import write_deepfluoro, write_ljubljana
from helpers.documentation import page
from helpers.recording_files import write_cine

from fluoro_reg.cli.main import main
from fluoro_reg.formats.bags import read_bag_truth, read_frames
from fluoro_reg.formats.cases import find_cases, read_case
from fluoro_reg.simulation.bags import BagOptions, simulate_bag
from fluoro_reg.xray.encodings import pixels_from_message

FOLDERS = ("one_specimen", "ljubljana_cases", "bag_cases", "cine_cases")


@pytest.fixture(scope="module")
def files(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the page names: downloads, and a recording of three frames."""
    folder = tmp_path_factory.mktemp("downloads") / "here"
    bag = simulate_bag(phantom_folder, folder, BagOptions(frames=3, blank=(1,), size_px=64, motion_mm=4)).bag.rename(
        folder / "bag_folder"
    )
    (folder / "ct_folder").symlink_to(phantom_folder)
    write_cine(folder / "cine.dcm", np.stack([pixels_from_message(image) for _, image, _ in read_frames(bag)]))
    poses = read_bag_truth(folder / "truth.json").values()
    rows = [{"frame": n, "camera_from_patient": pose and pose.matrix().tolist()} for n, pose in enumerate(poses)]
    (folder / "cine_truth.json").write_text(json.dumps({"unit": "mm", "frames": rows}))
    write_deepfluoro(folder / "ipcai_2020_full_res_data.h5")
    write_ljubljana(folder / "ljubljana.h5", left_handed=False)
    return folder


def test_commands_on_the_page_run(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    blocks = re.findall(r"^```bash\n(.*?)^```", page("how-to/datasets.md"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("fluoro-reg ")]
    exports, evaluations = ([command[0] for command in commands].count(name) for name in ("export-dataset", "evaluate"))
    assert (exports, evaluations) == (5, 2) and len(commands) == 7
    for command in commands:
        assert main(command) == 0, command
    names = {folder: [read_case(case).name for case in find_cases(folder)] for folder in FOLDERS}
    assert names == {
        "one_specimen": ["17-1882_000", "17-1882_002"],
        "ljubljana_cases": ["subject01_ap", "subject01_lat"],
        "bag_cases": ["bag_folder_0000", "bag_folder_0002"],
        "cine_cases": ["cine_0000", "cine_0002"],
    }
    assert (files / "deepfluoro_comparison" / "report.html").is_file()
    assert (files / "recorded_comparison" / "report.html").is_file()


def test_a_data_set_can_be_exported_and_evaluated(files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With a small border, since the default one is wider than these images, all three views are exported."""
    data = str(files / "ipcai_2020_full_res_data.h5")
    options = ["--specimen", "17-1882", "--set", "border_px=4", "--start-mm", "3", "5", "--json"]
    assert main(["export-dataset", "deepfluoro", data, "--out", str(tmp_path / "cases"), *options]) == 0
    assert json.loads(capfd.readouterr().out)["cases"] == ["17-1882_000", "17-1882_002", "17-1882_003"]
    cases, out = str(tmp_path / "cases"), tmp_path / "out"
    assert main(["evaluate", "--cases", cases, "--method", "lm-gradient-ncc", "--out", str(out), "--json"]) == 0
    (figures,) = json.loads(capfd.readouterr().out)["methods"]
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert [(record["ct"], record["case"]) for record in records] == [
        ("ct_17-1882", f"cases/17-1882_{view}") for view in ("000", "002", "003")
    ]
    assert all(3 <= record["start_mtre_mm"] <= 5 for record in records)
    errors = sorted(record["errors"]["mtre_mm"] for record in records)
    assert errors[1] < 2.5, "the median error is below the smallest initial error"
    assert figures["p50_mtre_mm"] == pytest.approx(errors[1]) and figures["failed"] == 0
    pixel_mm = records[0]["errors"]["diffpose_scaled_mrpe"] / records[0]["errors"]["mrpe_mm"]
    assert pixel_mm == pytest.approx(2.9, rel=0.05), "pixels of these files are 2.9 mm wide"
    assert "1 method on 3 cases of 1 CT" in (out / "report.html").read_text()
