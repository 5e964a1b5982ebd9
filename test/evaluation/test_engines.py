"""Engines: all give the same records, a process that dies loses one job, and processes share the threads."""

import os
import socket
import sys
import types
from pathlib import Path

import pytest
from helpers.child_processes import die_at_once, serve_and_die, serve_threads
from helpers.evaluation_cases import METHODS, without_times

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.engines import local as engines
from fluoro_reg.evaluation.engines.local import AbstractEngine, ProcessEngine, SerialEngine
from fluoro_reg.evaluation.engines.ray_cluster import RayEngine
from fluoro_reg.evaluation.plan import Job, plan_cases
from fluoro_reg.evaluation.runner import evaluate
from fluoro_reg.evaluation.worker import WorkerSettings
from fluoro_reg.registration import RegistrationOptions

SETTINGS = WorkerSettings(RegistrationOptions(seed=3))
JOBS = [Job(f"case_{n}", Path("absent"), "ct", "lm-local", n) for n in range(6)]


def records_of(engine: AbstractEngine, cases: Path, folder: Path) -> dict:
    evaluate(folder, plan_cases([cases]), METHODS, SETTINGS, engine)
    return without_times(folder / "records.jsonl")


@pytest.fixture(scope="module")
def serial_records(small_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return records_of(SerialEngine(), small_cases, tmp_path_factory.mktemp("serial") / "out")


def test_two_processes_give_the_same_records_as_one(serial_records: dict, small_cases: Path, tmp_path: Path) -> None:
    assert len(serial_records) == 8
    assert records_of(ProcessEngine(2), small_cases, tmp_path / "out") == serial_records


def test_two_ray_workers_give_the_same_records_as_one_process(serial_records: dict, small_cases: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    assert records_of(RayEngine(2), small_cases, tmp_path / "out") == serial_records


def test_a_cluster_that_does_not_respond_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # a port that nobody listens on
        for address in ("127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:port"):
            monkeypatch.setenv("RAY_ADDRESS", address.format(unused.getsockname()[1]))
            with pytest.raises(InputError, match="RAY_ADDRESS"):
                RayEngine(2).check(SETTINGS)


def test_processes_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_serve", serve_threads)
    monkeypatch.setattr(engines, "THREADS", 2)
    before = os.environ.get("OMP_NUM_THREADS")
    assert {record.reason for record in ProcessEngine(2).map(SETTINGS, JOBS[:2])} == {"1 of 1"}
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert [ProcessEngine(n).threads for n in (1, 2, 3)] == [2, 1, 1]


def test_a_process_that_dies_loses_only_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_serve", serve_and_die)
    reasons = {record.case: record.reason for record in ProcessEngine(2).map(SETTINGS, JOBS)}
    died = "the process that computed it died (status 3)"
    assert reasons == {job.case: died if job.case == "case_1" else "alive" for job in JOBS}


def test_processes_that_cannot_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_serve", die_at_once)
    with pytest.raises(RuntimeError, match="status 4"):
        list(ProcessEngine(2).map(SETTINGS, JOBS))
