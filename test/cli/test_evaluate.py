"""`fluoro-reg evaluate`: a run that is killed goes on as if it had not been; what is asked wrongly is refused in a sentence."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fluoro_reg.cli.main import main
from fluoro_reg.simulation.cases import CaseOptions, simulate_cases

TIMES = ("seconds", "stage_seconds", "warm")
METHODS = ("--methods", "lm-local,lm-patch-ncc")


def records(out: Path) -> dict[tuple[str, str], dict]:
    """By case and method, less what may differ."""
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    found = {(line["case"], line["method"]): {k: v for k, v in line.items() if k not in TIMES} for line in lines}
    assert len(found) == len(lines), "a record twice"
    return found


@pytest.fixture(scope="module")
def cases(view, tmp_path_factory):
    folder = tmp_path_factory.mktemp("problems") / "cases"
    simulate_cases(view.ct, folder, CaseOptions(count=5, size_px=64, start_mm=((3.0, 5.0), (5.0, 8.0)), seed=4))
    return folder


@pytest.fixture(scope="module")
def evaluation(cases, tmp_path_factory):
    """An evaluation of ten registrations, done at once; with what it printed."""
    out = tmp_path_factory.mktemp("evaluation") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["evaluate", "--cases", str(cases), *METHODS, "--out", str(out), "--json"]) == 0
    return out, json.loads(printed.getvalue())


@pytest.fixture
def out(evaluation, tmp_path):
    """A copy of it at the same depth, so that it finds its cases."""
    folder = evaluation[0].parent.parent / tmp_path.name / "out"
    shutil.copytree(evaluation[0], folder)
    return folder


def test_it_leaves_records_tables_and_a_report(evaluation, cases):
    out, answer = evaluation
    assert (answer["cases"], answer["records"], answer["computed"], answer["failed"]) == (5, 10, 10, 0)
    assert [method["method"] for method in answer["methods"]] == ["lm-local", "lm-patch-ncc"]
    assert {path.name for path in out.iterdir()} == {"run.json", "records.jsonl", "records.csv", "summary.csv", "report.html"}
    errors = sorted(line["errors"]["mtre_mm"] for line in records(out).values() if line["method"] == "lm-local")
    assert answer["methods"][0]["p50_mtre_mm"] == pytest.approx(errors[2])
    page = (out / "report.html").read_text()
    assert f"<td>{errors[2]:.2f}<small" in page or f'<td class="best">{errors[2]:.2f}<small' in page
    assert "starts 3 to 5 mm" in page and page.count('alt="the pose found"') >= 8
    assert str(cases.parent) not in page + json.dumps(answer)


def test_the_report_can_be_made_again_from_the_records(cli, evaluation, out):
    before = (out / "report.html").read_bytes()
    for name in ("report.html", "summary.csv", "records.csv"):
        (out / name).unlink()
    again = cli("evaluate", "--out", out, "--report-only", "--json")
    assert again.status == 0 and again.json() == {**evaluation[1], "computed": 0}
    assert (out / "report.html").read_bytes() == before


def test_the_same_command_has_nothing_left_to_do(cli, cases, out):
    before = (out / "records.jsonl").read_bytes()
    again = cli("evaluate", "--cases", cases, *METHODS, "--out", out)
    assert again.status == 0 and "lm-patch-ncc" in again.out and again.err == ""
    assert (out / "records.jsonl").read_bytes() == before


def test_a_run_that_is_killed_goes_on_where_it_was(cli, evaluation, cases, tmp_path):
    killed, whole = tmp_path / "killed", records(evaluation[0])
    command = ["evaluate", "--cases", str(cases), *METHODS, "--out", str(killed)]
    process = subprocess.Popen([sys.executable, "-m", "fluoro_reg.cli.main", *command], stderr=subprocess.DEVNULL)
    file, give_up = killed / "records.jsonl", time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = records(killed)
    assert 2 <= len(left) < len(whole), "killed on the way"
    with file.open("ab") as target:
        target.write(b'{"case": "cases/case_0')  # as a kill in the middle of a line leaves it
    resumed = cli(*command, "--json")
    assert resumed.status == 0 and resumed.json()["computed"] == len(whole) - len(left)
    assert records(killed) == whole


def test_two_workers_are_as_good_as_one(cli, evaluation, cases, tmp_path):
    two = ("--method", "lm-local", "--limit", 2, "--workers", 2)
    run = cli("evaluate", "--cases", cases, *two, "--out", tmp_path / "two", "--json")
    assert run.status == 0 and run.json()["computed"] == 2
    assert records(tmp_path / "two").items() <= records(evaluation[0]).items()
    assert "2 processes" in (tmp_path / "two" / "run.json").read_text()


@pytest.fixture
def spoilt(cases, view, tmp_path):
    """A folder of one case whose image is none."""
    shutil.copytree(cases / "case_000", tmp_path / "spoilt" / "case_000")
    case = tmp_path / "spoilt" / "case_000" / "case.json"
    case.write_text(json.dumps({**json.loads(case.read_text()), "ct": str(view.ct)}))
    (case.parent / "image.png").write_bytes(b"none")
    return tmp_path / "spoilt"


def test_a_case_that_fails_is_a_record_and_no_end(cli, cases, spoilt, tmp_path):
    both = ("--cases", spoilt, "--cases", cases, "--limit", 1, "--method", "lm-local")
    run = cli("evaluate", *both, "--out", tmp_path / "out", "--json")
    assert run.status == 0 and (run.json()["records"], run.json()["failed"]) == (2, 1)
    failed = records(tmp_path / "out")["spoilt/case_000", "lm-local"]
    assert failed["outcome"] == "failed" and "image.png" in failed["reason"]
    assert "<h2>Failures</h2>" in (tmp_path / "out" / "report.html").read_text()


def test_nothing_but_failures_is_a_result_that_is_rejected(cli, spoilt, tmp_path):
    run = cli("evaluate", "--cases", spoilt, "--out", tmp_path / "out", "--json")
    assert run.status == 1 and run.json()["failed"] == 1
    assert run.json()["methods"][0]["method"] == "lm-gradient-ncc", "the default"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--cases"),
        (("--cases", "{empty}"), "no case folder"),
        (("--cases", "{cases}", "--cases", "{cases}"), "twice"),
        (("--cases", "{cases}", "--method", "lm-lokal"), "lm-local, lm-patch-ncc"),
        (("--cases", "{cases}", "--method", ","), "lm-local, lm-patch-ncc"),
        (("--cases", "{cases}", "--method", "diffpose"), "needs weights"),
        (("--cases", "{cases}", "--model", "absent.safetensors"), "absent.safetensors"),
        (("--cases", "{cases}", "--set", "gate.minimum_similarty=0.9"), "gate.minimum_similarity"),
        (("--cases", "{cases}", "--workers", "0"), "--workers"),
        (("--cases", "{cases}", "--engine", "spark"), "--engine"),
        (("--report-only",), "no evaluation"),
        (("--report-only", "--cases", "{cases}"), "leave cases"),
        (("--report-only", "--seed", "0"), "leave cases"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(cli, cases, tmp_path, arguments, said):
    (tmp_path / "empty").mkdir()
    words = [word.format(cases=cases, empty=tmp_path / "empty") for word in arguments]
    run = cli("evaluate", *words, "--out", tmp_path / "out", "--json")
    assert run.status == 2 and run.out == "" and run.err.count("\n") == 1 and said in run.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused(cli, cases, tmp_path):
    (tmp_path / "file").write_text("mine")
    run = cli("evaluate", "--cases", cases, "--out", tmp_path / "file" / "out")
    assert run.status == 2 and "cannot write into out" in run.err
    if os.geteuid() == 0:
        return  # root may write everywhere
    (tmp_path / "locked").mkdir(mode=0o500)
    run = cli("evaluate", "--cases", cases, "--out", tmp_path / "locked" / "out")
    assert run.status == 2 and "cannot write into out" in run.err


def test_the_folder_of_another_run_is_refused(cli, cases, out):
    for change, said in ((("--seed", 9), "seed"), (("--set", "roi=box"), "roi"), (("--intensity", "transmitted"), "intensity")):
        run = cli("evaluate", "--cases", cases, *METHODS, *change, "--out", out)
        assert run.status == 2 and f"was begun with {said}" in run.err, run
    run = cli("evaluate", "--cases", cases, "--out", out.parent)
    assert run.status == 2 and "no evaluation's (out)" in run.err


def test_ray_is_asked_for_where_it_is_absent(cli, cases, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    run = cli("evaluate", "--cases", cases, "--engine", "ray", "--out", tmp_path / "out")
    assert run.status == 2 and 'pip install "fluoro_reg[ray]"' in run.err
