"""A registration that runs out of the GPU's memory is done once more with few views at once, with the same result."""

import pytest
import torch

from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions
from fluoro_reg.registration.memory import FEW, parts_of, retried_smaller
from fluoro_reg.registration.stages.solver import Solver


def many_poses(world, n=10):
    return type(world.truth).stack([world.truth] * n)


def sizes(parts):
    return [len(part.translation) for part in parts]


def test_a_batch_is_parted_only_while_the_memory_is_short(world):
    seen = []

    def call():
        seen.append(sizes(parts_of(many_poses(world))))
        if len(seen) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert retried_smaller(call, lambda: seen.append("freed")) == "done"
    assert seen == [[10], "freed", [FEW, FEW, 10 - 2 * FEW]]
    assert sizes(parts_of(many_poses(world))) == [10]


def test_a_second_failure_is_not_tried_again(world):
    calls = []

    def call():
        calls.append(None)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        retried_smaller(call, lambda: None)
    assert len(calls) == 2
    assert sizes(parts_of(many_poses(world))) == [10]


@pytest.fixture
def small_gpu(world, monkeypatch):
    """Make a renderer that can render so many views at once, and return the numbers of views that it was asked for."""

    def make(registrar, at_most):
        asked = []
        kind = type(registrar.readings.whole.renderers.for_pixel(2.0)[0])

        def limited(method):
            render = getattr(kind, method)

            def call(self, rays, *arguments):
                asked.append(len(rays.source))
                if asked[-1] > at_most:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return render(self, rays, *arguments)

            monkeypatch.setattr(kind, method, call)

        for method in ("integrals", "jacobian", "gram"):
            limited(method)
        return asked

    return make


@pytest.mark.parametrize("method", ["lm-gradient-ncc", "lm-ncc"])
@pytest.mark.parametrize(("on_device", "within_mm"), [(False, 1e-6), (True, 0.05)])  # there, a batch ends when all of it has
def test_few_views_at_once_give_the_same_result(world, small_gpu, monkeypatch, method, on_device, within_mm):
    monkeypatch.setattr(Solver, "_stays_on_device", lambda *_: on_device)  # its operations have a twin without a GPU
    registrar = Registrar(world.volume, RegistrationOptions(), method=method)
    expected = registrar.register(world.xray(), world.truth)
    asked = small_gpu(registrar, FEW)
    result = registrar.register(world.xray(), world.truth)
    assert max(asked) > FEW
    assert result.accepted
    assert registrar.displacement_mm(result.camera_from_patient, expected.camera_from_patient) < within_mm


def test_a_registration_for_which_the_memory_does_not_suffice_is_rejected(world, small_gpu):
    registrar = Registrar(world.volume, RegistrationOptions())
    xray = world.xray()
    small_gpu(registrar, 0)
    result = registrar.register(xray, world.truth)
    assert result.outcome is Outcome.NOT_CONVERGED
    assert result.reason.startswith("the memory does not suffice for this CT and image; end other programs on this device")
    assert result.camera_from_patient is None
