"""The page on data sets: its commands run, on small files of the same names; and what they write is compared like any cases."""

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("h5py", reason="needs the extra 'datasets'")
from dataset_files import write_deepfluoro, write_ljubljana

from fluoro_reg.cli.main import main
from fluoro_reg.evaluation.cases import find_cases, read_case

PAGE = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downloads")
    write_deepfluoro(folder / "ipcai_2020_full_res_data.h5")
    write_ljubljana(folder / "ljubljana.h5", left_handed=False)
    return folder


def test_commands_on_the_page_run(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("fluoro-reg ")]
    assert [command[0] for command in commands] == ["export-dataset", "evaluate", "export-dataset", "export-dataset"]
    for command in commands:
        assert main(command) == 0, command
    names = {folder: [read_case(case).name for case in find_cases(folder)] for folder in ("one_specimen", "ljubljana_cases")}
    assert names == {"one_specimen": ["17-1882_000", "17-1882_002"], "ljubljana_cases": ["subject01_ap", "subject01_lat"]}
    assert (files / "deepfluoro_comparison" / "report.html").is_file()


def test_from_the_data_sets_file_to_the_report(files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without the border, which is wider than these small images, all three views are found."""
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
    assert errors[1] < 2.5, "the median is nearer than the nearest start"
    assert figures["p50_mtre_mm"] == pytest.approx(errors[1]) and figures["failed"] == 0
    width = records[0]["errors"]["diffpose_scaled_mrpe"] / records[0]["errors"]["mrpe_mm"]
    assert width == pytest.approx(2.9, rel=0.05), "pixels of these files are 2.9 mm wide"
    assert "1 method on 3 cases of 1 CT" in (out / "report.html").read_text()
