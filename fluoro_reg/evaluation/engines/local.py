"""Local execution engines, which run jobs in this process or in several processes, and the engines' common interface.

Records are returned in the order in which they are computed. Processes are spawned, because threads of numba and torch do not
survive a fork. The number of threads of each process is set before it imports anything, because kernels read it at import. If a
process dies (out of memory, a crash in a library), only its current job fails, and a new process replaces it.
"""

import multiprocessing
import os
import signal
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from fluoro_reg.evaluation.plan import Job
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.worker import Worker, WorkerSettings, failure_record
from fluoro_reg.rendering import resolve_device
from fluoro_reg.rendering.threads import THREADS

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class AbstractEngine(ABC):
    """Computes the records of jobs."""

    def check(self, settings: WorkerSettings) -> None:
        """Check what all jobs need, before the first job.

        Raises:
            InputError: The device is not available.
        """
        resolve_device(settings.registration.device)

    @abstractmethod
    def map(self, settings: WorkerSettings, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
        """Yield one record per job, as soon as it is ready."""

    @abstractmethod
    def describe(self) -> str:
        """Return a description of the engine for the report."""


class SerialEngine(AbstractEngine):
    """Runs the jobs in this process one after another with all threads, which gives comparable times."""

    def map(self, settings: WorkerSettings, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
        """Yield the records in the order of the jobs."""
        worker = Worker(settings)
        return (worker.run(job) for job in jobs)

    def describe(self) -> str:
        """Return a description of the engine for the report."""
        return f"this process, {THREADS} threads"


@dataclass(frozen=True, slots=True)
class ProcessEngine(AbstractEngine):
    """Runs the jobs in `workers` processes on this machine."""

    workers: int

    @property
    def threads(self) -> int:
        """Number of threads of each process."""
        return max(1, THREADS // self.workers)

    def map(self, settings: WorkerSettings, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
        """Yield each record as soon as it is ready; closing the iterator ends the processes."""
        waiting = deque(jobs)
        running: dict[Any, tuple[_Process, Job]] = {}
        idle = [self._start(settings) for _ in range(min(self.workers, len(jobs)))]
        try:
            for process in idle:
                process.wait_until_ready()
            while waiting or running:
                while waiting and idle:
                    process, job = idle.pop(), waiting.popleft()
                    process.send(job)
                    running[process.pipe] = process, job
                for pipe in wait(list(running)):
                    process, job = running.pop(pipe)
                    record = process.receive()
                    if record is None:
                        record = failure_record(job, f"the process that computed it died ({process.exit_description()})")
                        process.end()
                        process = self._start(settings)
                        process.wait_until_ready()
                    idle.append(process)
                    yield record
        finally:
            for process in [*idle, *(process for process, _ in running.values())]:
                process.end()

    def describe(self) -> str:
        """Return a description of the engine for the report."""
        return f"{self.workers} processes, {self.threads} threads each"

    def _start(self, settings: WorkerSettings) -> "_Process":
        context = multiprocessing.get_context("spawn")
        parent_end, child_end = context.Pipe()
        process = context.Process(target=_serve, args=(child_end, settings), daemon=True)
        with _environment_variables(dict.fromkeys(THREAD_VARIABLES, str(self.threads))):
            process.start()
        child_end.close()
        return _Process(process, parent_end)


@dataclass(frozen=True, slots=True)
class _Process:
    """A worker process and the parent's end of its pipe."""

    process: BaseProcess
    pipe: Connection

    def wait_until_ready(self) -> None:
        """Wait until the process has imported everything.

        Raises:
            RuntimeError: The process died first. No job is to blame, and every other process would die too.
        """
        try:
            self.pipe.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError(f"a worker process died during startup ({self.exit_description()})") from None

    def send(self, job: Job) -> None:
        """Send a job; if the process has died, `receive` finds out."""
        with suppress(ConnectionError):
            self.pipe.send(job)

    def receive(self) -> EvaluationRecord | None:
        """Wait for a record; return None if the process has died."""
        try:
            record: EvaluationRecord = self.pipe.recv()
        except (EOFError, ConnectionError):
            return None
        return record

    def exit_description(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"status {code}"

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, settings: WorkerSettings) -> None:
    """Run a worker process: receive jobs and send records until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    warnings.simplefilter("ignore")  # warnings of readers may quote file contents
    worker = Worker(settings)
    try:
        pipe.send("ready")
        while True:
            pipe.send(worker.run(pipe.recv()))
    except (EOFError, ConnectionError):
        return


@contextmanager
def _environment_variables(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables within the context and restore them afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
