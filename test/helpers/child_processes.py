"""Functions that tests run in spawned child processes, which must be able to import them."""

import multiprocessing.connection
import os
from typing import Any

from fluoro_reg.evaluation.worker import failure_record
from fluoro_reg.rendering import NumbaRenderer, project
from helpers.rendering_scenes import CAMERA, VIEWS, pose_towards


def render_all(renderer: NumbaRenderer) -> list[list[float]]:
    """Render every view as lists of numbers, which can be sent between processes."""
    return [
        project(renderer, pose_towards(renderer.volume, rotation), CAMERA).flatten().tolist() for rotation in VIEWS.values()
    ]


def send_all(renderer: NumbaRenderer, pipe: multiprocessing.connection.Connection) -> None:
    pipe.send(render_all(renderer))


def serve_threads(pipe: Any, settings: Any) -> None:
    """Run an evaluation worker that returns its number of threads."""
    from fluoro_reg.rendering.threads import THREADS

    pipe.send("ready")
    while True:
        job = pipe.recv()
        pipe.send(failure_record(job, f"{THREADS} of {os.environ['OMP_NUM_THREADS']}"))


def serve_and_die(pipe: Any, settings: Any) -> None:
    """Run an evaluation worker that dies during one of the jobs."""
    pipe.send("ready")
    while True:
        job = pipe.recv()
        if job.case == "case_1":
            os._exit(3)
        pipe.send(failure_record(job, "alive"))


def die_at_once(pipe: Any, settings: Any) -> None:
    """Run an evaluation worker that dies at its start."""
    os._exit(4)
