"""`fluoro-reg evaluate`: a killed run continues as if it had not been interrupted; wrong arguments are errors."""

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
    """Return the records by case and method, without the times."""
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    found = {(line["case"], line["method"]): {k: v for k, v in line.items() if k not in TIMES} for line in lines}
    assert len(found) == len(lines), "a record appears twice"
    return found


@pytest.fixture(scope="module")
def cases(view, tmp_path_factory):
    folder = tmp_path_factory.mktemp("problems") / "cases"
    simulate_cases(view.ct, folder, CaseOptions(count=5, size_px=64, start_mm=((3.0, 5.0), (5.0, 8.0)), seed=4))
    return folder


@pytest.fixture(scope="module")
def evaluation(cases, tmp_path_factory):
    """A folder with an evaluation of ten registrations, and the JSON that was printed."""
    out = tmp_path_factory.mktemp("evaluation") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["evaluate", "--cases", str(cases), *METHODS, "--out", str(out), "--json"]) == 0
    return out, json.loads(printed.getvalue())


@pytest.fixture
def out(evaluation, tmp_path):
    """A copy of the evaluation, at the same depth because paths to its cases are relative."""
    folder = evaluation[0].parent.parent / tmp_path.name / "out"
    shutil.copytree(evaluation[0], folder)
    return folder


def test_records_tables_and_a_report_are_written(evaluation, cases):
    out, answer = evaluation
    assert (answer["cases"], answer["records"], answer["computed"], answer["failed"]) == (5, 10, 10, 0)
    assert [method["method"] for method in answer["methods"]] == ["lm-local", "lm-patch-ncc"]
    assert {path.name for path in out.iterdir()} == {"run.json", "records.jsonl", "records.csv", "summary.csv", "report.html"}
    errors = sorted(line["errors"]["mtre_mm"] for line in records(out).values() if line["method"] == "lm-local")
    assert answer["methods"][0]["p50_mtre_mm"] == pytest.approx(errors[2])
    page = (out / "report.html").read_text()
    assert f"<td>{errors[2]:.2f}<small" in page or f'<td class="best">{errors[2]:.2f}<small' in page
    assert "initial mTRE 3 to 5 mm" in page and page.count('alt="the estimated pose"') >= 8
    assert str(cases.parent) not in page + json.dumps(answer)


def test_the_report_can_be_written_again_from_the_records(cli, evaluation, out):
    before = (out / "report.html").read_bytes()
    for name in ("report.html", "summary.csv", "records.csv"):
        (out / name).unlink()
    again = cli("evaluate", "--out", out, "--report-only", "--json")
    assert again.status == 0 and again.json() == {**evaluation[1], "computed": 0}
    assert (out / "report.html").read_bytes() == before


def test_repeating_a_finished_evaluation_computes_nothing(cli, cases, out):
    before = (out / "records.jsonl").read_bytes()
    again = cli("evaluate", "--cases", cases, *METHODS, "--out", out)
    assert again.status == 0 and "lm-patch-ncc" in again.out and again.err == ""
    assert (out / "records.jsonl").read_bytes() == before


def test_a_killed_run_continues_where_it_stopped(cli, evaluation, cases, tmp_path):
    killed, complete = tmp_path / "killed", records(evaluation[0])
    command = ["evaluate", "--cases", str(cases), *METHODS, "--out", str(killed)]
    process = subprocess.Popen([sys.executable, "-m", "fluoro_reg.cli.main", *command], stderr=subprocess.DEVNULL)
    file, deadline = killed / "records.jsonl", time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = records(killed)
    assert 2 <= len(left) < len(complete), "killed before it was finished"
    with file.open("ab") as target:
        target.write(b'{"case": "cases/case_0')  # as if killed while writing a line
    resumed = cli(*command, "--json")
    assert resumed.status == 0 and resumed.json()["computed"] == len(complete) - len(left)
    assert records(killed) == complete


def test_two_workers_give_the_same_records_as_one(cli, evaluation, cases, tmp_path):
    two = ("--method", "lm-local", "--limit", 2, "--workers", 2)
    run = cli("evaluate", "--cases", cases, *two, "--out", tmp_path / "two", "--json")
    assert run.status == 0 and run.json()["computed"] == 2
    assert records(tmp_path / "two").items() <= records(evaluation[0]).items()
    assert "2 processes" in (tmp_path / "two" / "run.json").read_text()


@pytest.fixture
def broken(cases, view, tmp_path):
    """A folder of one case whose image cannot be read."""
    shutil.copytree(cases / "case_000", tmp_path / "broken" / "case_000")
    case = tmp_path / "broken" / "case_000" / "case.json"
    case.write_text(json.dumps({**json.loads(case.read_text()), "ct": str(view.ct)}))
    (case.parent / "image.png").write_bytes(b"not an image")
    return tmp_path / "broken"


def test_a_failed_case_becomes_a_record_and_the_run_continues(cli, cases, broken, tmp_path):
    both = ("--cases", broken, "--cases", cases, "--limit", 1, "--method", "lm-local")
    run = cli("evaluate", *both, "--out", tmp_path / "out", "--json")
    assert run.status == 0 and (run.json()["records"], run.json()["failed"]) == (2, 1)
    failed = records(tmp_path / "out")["broken/case_000", "lm-local"]
    assert failed["outcome"] == "failed" and "image.png" in failed["reason"]
    assert "<h2>Failures</h2>" in (tmp_path / "out" / "report.html").read_text()


def test_the_exit_status_is_1_if_every_case_fails(cli, broken, tmp_path):
    run = cli("evaluate", "--cases", broken, "--out", tmp_path / "out", "--json")
    assert run.status == 1 and run.json()["failed"] == 1
    assert run.json()["methods"][0]["method"] == "lm-gradient-ncc", "the default method"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--cases"),
        (("--cases", "{empty}"), "no case folder"),
        (("--cases", "{cases}", "--cases", "{cases}"), "twice"),
        (("--cases", "{cases}", "--method", "lm-lokal"), "lm-local, lm-ncc, lm-patch-ncc"),
        (("--cases", "{cases}", "--method", ","), "lm-local, lm-ncc, lm-patch-ncc"),
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
def test_wrong_arguments_are_an_error_and_nothing_is_written(cli, cases, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    arguments = [argument.format(cases=cases, empty=tmp_path / "empty") for argument in arguments]
    run = cli("evaluate", *arguments, "--out", tmp_path / "out", "--json")
    assert run.status == 2 and run.out == "" and run.err.count("\n") == 1 and message in run.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_an_error(cli, cases, tmp_path):
    (tmp_path / "file").write_text("mine")
    run = cli("evaluate", "--cases", cases, "--out", tmp_path / "file" / "out")
    assert run.status == 2 and "cannot write into out" in run.err
    if os.geteuid() == 0:
        return  # root may write everywhere
    (tmp_path / "locked").mkdir(mode=0o500)
    run = cli("evaluate", "--cases", cases, "--out", tmp_path / "locked" / "out")
    assert run.status == 2 and "cannot write into out" in run.err


def test_the_folder_of_a_different_evaluation_is_an_error(cli, cases, out):
    for change, name in ((("--seed", 9), "seed"), (("--set", "roi=box"), "roi"), (("--intensity", "transmitted"), "intensity")):
        run = cli("evaluate", "--cases", cases, *METHODS, *change, "--out", out)
        assert run.status == 2 and f"was computed with {name}" in run.err, run
    run = cli("evaluate", "--cases", cases, "--out", out.parent)
    assert run.status == 2 and "does not contain an evaluation but out" in run.err


def test_the_error_says_how_to_install_ray(cli, cases, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    run = cli("evaluate", "--cases", cases, "--engine", "ray", "--out", tmp_path / "out")
    assert run.status == 2 and 'pip install "fluoro_reg[ray]"' in run.err
