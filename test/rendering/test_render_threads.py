"""The CPU backend in forked and spawned processes, and called by several threads at once."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.child_processes import render_all, send_all
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, grid, noise_volume, pose_towards

from fluoro_reg.rendering import NumbaRenderer, project_with_jacobian
from fluoro_reg.rendering.threads import parallel_for


@pytest.fixture(scope="module")
def renderer() -> NumbaRenderer:
    return NumbaRenderer(noise_volume(*grid(GRIDS["sheared"])))


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_child_process_renders_what_its_parent_does(renderer: NumbaRenderer, start_method: str) -> None:
    expected = render_all(renderer)  # this starts the parent's threads
    context = multiprocessing.get_context(start_method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=send_all, args=(renderer, sender))
    child.start()
    try:
        assert receiver.poll(120), "the child hangs or died"
        assert receiver.recv() == expected
    finally:
        child.join(30)
        if child.is_alive():
            child.kill()
    assert child.exitcode == 0


def test_concurrent_threads_do_not_disturb_each_other() -> None:
    renderer = NumbaRenderer(
        noise_volume(*grid(GRIDS["oblique"]))
    )  # new, so that its copies for each march axis are not made yet
    sequential = NumbaRenderer(renderer.volume)
    rotations = list(VIEWS.values()) * 5
    expected = [
        project_with_jacobian(sequential, pose_towards(sequential.volume, r), CAMERA, sequential.volume.centre_patient)
        for r in rotations
    ]
    with ThreadPoolExecutor(4) as callers:
        tasks = [
            callers.submit(
                project_with_jacobian, renderer, pose_towards(renderer.volume, r), CAMERA, renderer.volume.centre_patient
            )
            for r in rotations
        ]
    for task, (image, jacobian) in zip(tasks, expected, strict=True):
        assert torch.equal(task.result()[0], image)
        assert torch.equal(task.result()[1], jacobian)


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_every_piece_is_processed_once(count: int) -> None:
    done, lock = [], threading.Lock()

    def work(first: int, last: int) -> None:
        with lock:
            done.extend(range(first, last))

    parallel_for(work, count)
    assert sorted(done) == list(range(count))


def test_parallel_loops_can_be_nested() -> None:
    done, lock = [], threading.Lock()

    def inner(first: int, last: int) -> None:
        with lock:
            done.append(last - first)

    parallel_for(lambda first, last: parallel_for(inner, last - first), 64)
    assert sum(done) == 64


def test_a_failure_in_any_piece_reaches_the_caller() -> None:
    def fail_late(first: int, last: int) -> None:
        if last == 100:
            raise ArithmeticError("the last piece")

    with pytest.raises(ArithmeticError, match="the last piece"):
        parallel_for(fail_late, 100)
