"""Execution engine that runs the jobs on a Ray cluster.

The cluster is that of `RAY_ADDRESS`, as usual with Ray. Without the variable, Ray starts a local cluster for the run. Every
machine needs the package, and the cases and CTs under the same paths. A worker is an actor on one core (or with one GPU),
because throughput is highest with many single-threaded registrations. Records are sent to the calling machine, which alone
writes files.
"""

import os
import socket
import sys
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.engines.local import AbstractEngine
from fluoro_reg.evaluation.plan import Job
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.worker import Worker, WorkerSettings, failure_record

_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class RayEngine(AbstractEngine):
    """Runs the jobs in `workers` actors, by default as many as the cluster has cores (or GPUs, with the device `cuda`)."""

    workers: int | None = None

    def check(self, settings: WorkerSettings) -> None:
        """Check that Ray is installed and its cluster responds.

        Raises:
            InputError: Ray is not installed, or the cluster does not respond.
        """
        _import_ray()
        _check_address()

    def map(self, settings: WorkerSettings, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
        """Yield each record as soon as it is ready.

        Raises:
            InputError: Ray is not installed, or the cluster has fewer cores or GPUs than `workers`.
        """
        ray, cuda = _import_ray(), settings.registration.device == "cuda"
        with redirect_stdout(sys.stderr):  # Ray prints messages about dead workers
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            try:
                present = int(ray.cluster_resources().get("GPU" if cuda else "CPU", 0))
                if (self.workers or 1) > present:
                    raise InputError(f"the Ray cluster has only {present} {'GPUs' if cuda else 'cores'}; use fewer workers")
                actor = ray.remote(num_cpus=1, num_gpus=int(cuda))(Worker)
                workers = min(self.workers or present, len(jobs))
                yield from _map_jobs(ray, lambda: actor.remote(settings), workers, jobs)
            finally:
                ray.shutdown()

    def describe(self) -> str:
        """Return a description of the engine for the report."""
        return f"Ray, {self.workers or 'as many workers as there are cores'}, one core each"


def _map_jobs(ray: Any, make_worker: Any, workers: int, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
    waiting = deque(jobs)
    running: dict[Any, tuple[Any, Job]] = {}
    idle = [make_worker() for _ in range(workers)]
    while waiting or running:
        while waiting and idle:
            worker, job = idle.pop(), waiting.popleft()
            running[worker.run.remote(job)] = worker, job
        ready, _ = ray.wait(list(running), num_returns=1)
        worker, job = running.pop(ready[0])
        try:
            record = ray.get(ready[0])
        except ray.exceptions.RayError as error:
            record, worker = failure_record(job, f"the worker that computed it died ({type(error).__name__})"), make_worker()
        idle.append(worker)
        yield record


def _check_address() -> None:
    """Check that a cluster responds at RAY_ADDRESS, if that is a network address; Ray itself would try for minutes.

    Raises:
        InputError: No cluster responds.
    """
    host, separator, port = os.environ.get("RAY_ADDRESS", "").removeprefix("ray://").rpartition(":")
    if not separator:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise InputError("no Ray cluster responds at RAY_ADDRESS; start one or unset RAY_ADDRESS") from error


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError('the engine ray needs Ray; run pip install "fluoro_reg[ray]"') from error
    return ray
