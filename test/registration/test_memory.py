"""A registration that runs out of the GPU's memory is tried once more, after torch has freed what it keeps."""

import pytest
import torch

from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.memory import with_freed_memory


def failing(times):
    """A function that runs out of memory the first few times, and the list of its calls."""
    calls = []

    def call():
        calls.append(None)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    return call, calls


def test_one_failure_is_tried_again():
    call, calls = failing(1)
    assert with_freed_memory(call) == "done"
    assert len(calls) == 2


def test_a_second_failure_is_not():
    call, calls = failing(2)
    with pytest.raises(torch.OutOfMemoryError):
        with_freed_memory(call)
    assert len(calls) == 2


def test_a_registration_is_tried_again(world, monkeypatch):
    registrar = Registrar(world.volume, RegistrationOptions())
    fail, calls = failing(1)
    run = registrar._run
    monkeypatch.setattr(registrar, "_run", lambda *arguments: (fail(), run(*arguments))[1])
    assert registrar.register(world.xray(), world.truth).accepted
    assert len(calls) == 2
