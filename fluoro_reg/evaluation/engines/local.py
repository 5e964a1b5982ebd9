"""Engines: what maps a worker over the jobs. One process, several of this machine, or Ray's on several machines.

Records come as they are ready, in any order. Processes are spawned, since threads of numba and torch do not survive a fork,
and each gets its share of the cores before it imports anything: the number of kernel threads is fixed at import. A process
that dies (out of memory, a fault in a library) costs the job it was at, and another takes its place.
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
from fluoro_reg.evaluation.worker import Recipe, Worker, failure
from fluoro_reg.rendering import resolve_device
from fluoro_reg.rendering.threads import THREADS

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class AbstractEngine(ABC):
    """Computes jobs."""

    def check(self, recipe: Recipe) -> None:
        """What would come to light at the first job, and is no job's fault.

        Raises:
            InputError: the device is not there.
        """
        resolve_device(recipe.options.device)

    @abstractmethod
    def map(self, recipe: Recipe, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
        """A record a job, as they are ready."""

    @abstractmethod
    def describe(self) -> str:
        """For the report: who computes."""


class SerialEngine(AbstractEngine):
    """Here, one after another, with all threads: the honest way to take times."""

    def map(self, recipe: Recipe, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
        """In order."""
        worker = Worker(recipe)
        return (worker.run(job) for job in jobs)

    def describe(self) -> str:
        """Who computes."""
        return f"this process, {THREADS} threads"


@dataclass(frozen=True, slots=True)
class ProcessEngine(AbstractEngine):
    """So many processes of this machine."""

    workers: int

    @property
    def threads(self) -> int:
        """Of each process."""
        return max(1, THREADS // self.workers)

    def map(self, recipe: Recipe, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
        """As they are ready; closing the iterator ends the processes."""
        waiting = deque(jobs)
        at_work: dict[Any, tuple[_Process, Job]] = {}
        idle = [self._start(recipe) for _ in range(min(self.workers, len(jobs)))]
        try:
            for process in idle:
                process.expect_ready()
            while waiting or at_work:
                while waiting and idle:
                    process, job = idle.pop(), waiting.popleft()
                    process.send(job)
                    at_work[process.pipe] = process, job
                for pipe in wait(list(at_work)):
                    process, job = at_work.pop(pipe)
                    record = process.received()
                    if record is None:
                        record = failure(job, f"the process that computed it died ({process.how_it_died()})")
                        process.end()
                        process = self._start(recipe)
                        process.expect_ready()
                    idle.append(process)
                    yield record
        finally:
            for process in [*idle, *(process for process, _ in at_work.values())]:
                process.end()

    def describe(self) -> str:
        """Who computes."""
        return f"{self.workers} processes, {self.threads} threads each"

    def _start(self, recipe: Recipe) -> "_Process":
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, recipe), daemon=True)
        with _environment(dict.fromkeys(THREAD_VARIABLES, str(self.threads))):
            process.start()
        theirs.close()
        return _Process(process, ours)


@dataclass(frozen=True, slots=True)
class _Process:
    """A worker's process and our end of its pipe."""

    process: BaseProcess
    pipe: Connection

    def expect_ready(self) -> None:
        """Waits until it has imported everything: what dies before is no job's fault, and would take every job with it."""
        try:
            self.pipe.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError(f"a worker's process died as it started ({self.how_it_died()})") from None

    def send(self, job: Job) -> None:
        """To a process that has died as well: that comes to light when its answer is awaited."""
        with suppress(ConnectionError):
            self.pipe.send(job)

    def received(self) -> EvaluationRecord | None:
        """None: it has died."""
        try:
            record: EvaluationRecord = self.pipe.recv()
        except (EOFError, ConnectionError):
            return None
        return record

    def how_it_died(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"status {code}"

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, recipe: Recipe) -> None:
    """A worker's process: jobs in, records out, until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    warnings.simplefilter("ignore")  # readers' warnings quote file contents
    worker = Worker(recipe)
    try:
        pipe.send("ready")
        while True:
            pipe.send(worker.run(pipe.recv()))
    except (EOFError, ConnectionError):
        return


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
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
