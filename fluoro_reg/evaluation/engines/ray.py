"""Ray as an engine: the same jobs on several machines.

The cluster is the one that `RAY_ADDRESS` names, as everywhere in Ray; without it Ray makes one of this machine for the time of
the run. Every machine needs the package, and the cases and CTs under the same paths. A worker is an actor on one core (or with
one GPU), since images are registered fastest side by side; records come to the machine that was asked, which alone writes.
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
from fluoro_reg.evaluation.worker import Recipe, Worker, failure

_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class RayEngine(AbstractEngine):
    """So many actors; by default as many as the cluster has cores, or GPUs where those compute."""

    workers: int | None = None

    def check(self, recipe: Recipe) -> None:
        """That Ray is there, and answers.

        Raises:
            InputError: it is not.
        """
        _ray()
        _check_address()

    def map(self, recipe: Recipe, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
        """As they are ready.

        Raises:
            InputError: Ray is not installed, or has less than was asked for.
        """
        ray, cuda = _ray(), recipe.options.device == "cuda"
        with redirect_stdout(sys.stderr):  # where Ray tells of workers that died
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            try:
                present = int(ray.cluster_resources().get("GPU" if cuda else "CPU", 0))
                if (self.workers or 1) > present:
                    raise InputError(f"the Ray cluster has {present} {'GPUs' if cuda else 'cores'}; ask for no more workers")
                actor = ray.remote(num_cpus=1, num_gpus=int(cuda))(Worker)
                workers = min(self.workers or present, len(jobs))
                yield from _mapped(ray, lambda: actor.remote(recipe), workers, jobs)
            finally:
                ray.shutdown()

    def describe(self) -> str:
        """Who computes."""
        return f"Ray, {self.workers or 'as many workers as there are cores'}, one core each"


def _mapped(ray: Any, make_worker: Any, workers: int, jobs: Sequence[Job]) -> Generator[EvaluationRecord, None, None]:
    waiting = deque(jobs)
    at_work: dict[Any, tuple[Any, Job]] = {}
    idle = [make_worker() for _ in range(workers)]
    while waiting or at_work:
        while waiting and idle:
            worker, job = idle.pop(), waiting.popleft()
            at_work[worker.run.remote(job)] = worker, job
        ready, _ = ray.wait(list(at_work), num_returns=1)
        worker, job = at_work.pop(ready[0])
        try:
            record = ray.get(ready[0])
        except ray.exceptions.RayError as error:
            record, worker = failure(job, f"the worker that computed it died ({type(error).__name__})"), make_worker()
        idle.append(worker)
        yield record


def _check_address() -> None:
    """Whether somebody answers at RAY_ADDRESS, where that is a place; Ray itself would try for minutes.

    Raises:
        InputError: nobody does.
    """
    host, separator, port = os.environ.get("RAY_ADDRESS", "").removeprefix("ray://").rpartition(":")
    if not separator:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except (OSError, ValueError) as error:
        raise InputError("no Ray cluster answers at RAY_ADDRESS; start one, or leave RAY_ADDRESS unset") from error


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError('the engine ray needs Ray: pip install "fluoro_reg[ray]"') from error
    return ray
