"""What tests run in child processes: functions that a spawned child can import."""

import multiprocessing.connection
import os
from typing import Any

from fluoro_reg.evaluation.worker import failure
from fluoro_reg.rendering import NumbaRenderer, project
from helpers.rendering_scenes import CAMERA, VIEWS, pose_towards


def render_all(renderer: NumbaRenderer) -> list[list[float]]:
    """Every view, as plain numbers that travel between processes."""
    return [
        project(renderer, pose_towards(renderer.volume, rotation), CAMERA).flatten().tolist() for rotation in VIEWS.values()
    ]


def send_all(renderer: NumbaRenderer, pipe: multiprocessing.connection.Connection) -> None:
    pipe.send(render_all(renderer))


def serve_threads(pipe: Any, recipe: Any) -> None:
    """An evaluation worker that answers with its number of threads."""
    from fluoro_reg.rendering.threads import THREADS

    pipe.send("ready")
    while True:
        job = pipe.recv()
        pipe.send(failure(job, f"{THREADS} of {os.environ['OMP_NUM_THREADS']}"))


def serve_and_die(pipe: Any, recipe: Any) -> None:
    """An evaluation worker that dies of one of the jobs."""
    pipe.send("ready")
    while True:
        job = pipe.recv()
        if job.case == "case_1":
            os._exit(3)
        pipe.send(failure(job, "alive"))


def die_at_once(pipe: Any, recipe: Any) -> None:
    """An evaluation worker that does not start."""
    os._exit(4)
