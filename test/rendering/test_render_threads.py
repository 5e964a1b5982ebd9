"""The CPU backend in forked and spawned workers, and entered by several threads at once."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.child_processes import render_all, send_all
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, grid, looking, lumpy

from fluoro_reg.rendering import NumbaRenderer, project_with_jacobian
from fluoro_reg.rendering.threads import distribute


@pytest.fixture(scope="module")
def renderer() -> NumbaRenderer:
    return NumbaRenderer(lumpy(*grid(GRIDS["sheared"])))


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_child_process_renders_what_its_parent_does(renderer: NumbaRenderer, start_method: str) -> None:
    expected = render_all(renderer)  # the parent's threads exist by now
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


def test_threads_at_once_do_not_disturb_each_other() -> None:
    renderer = NumbaRenderer(lumpy(*grid(GRIDS["oblique"])))  # its copies per march axis are still to be made, too
    alone = NumbaRenderer(renderer.volume)
    rotations = list(VIEWS.values()) * 5
    expected = [project_with_jacobian(alone, looking(alone.volume, r), CAMERA, alone.volume.centre_patient) for r in rotations]
    with ThreadPoolExecutor(4) as callers:
        tasks = [
            callers.submit(project_with_jacobian, renderer, looking(renderer.volume, r), CAMERA, renderer.volume.centre_patient)
            for r in rotations
        ]
    for task, (image, jacobian) in zip(tasks, expected, strict=True):
        assert torch.equal(task.result()[0], image)
        assert torch.equal(task.result()[1], jacobian)


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_every_piece_is_done_once(count: int) -> None:
    done, lock = [], threading.Lock()

    def work(first: int, last: int) -> None:
        with lock:
            done.extend(range(first, last))

    distribute(work, count)
    assert sorted(done) == list(range(count))


def test_work_may_share_out_work() -> None:
    done, lock = [], threading.Lock()

    def inner(first: int, last: int) -> None:
        with lock:
            done.append(last - first)

    distribute(lambda first, last: distribute(inner, last - first), 64)
    assert sum(done) == 64


def test_a_failure_in_any_piece_reaches_the_caller() -> None:
    def fail_late(first: int, last: int) -> None:
        if last == 100:
            raise ArithmeticError("the last piece")

    with pytest.raises(ArithmeticError, match="the last piece"):
        distribute(fail_late, 100)
