"""A group of two processes: gradients become their mean, and values are broadcast from the main process."""

import os
import socket
import subprocess
import sys

import torch

from fluoro_reg.training.distributed import ProcessGroup

PROCESS = """
import torch
from fluoro_reg.training.distributed import ProcessGroup
processes = ProcessGroup.join("cpu")
weight, bias, unused = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (2,), (1,)))
weight.grad, bias.grad = torch.full((2, 3), float(processes.rank + 1)), torch.arange(2.0) * 4 * processes.rank
processes.average_gradients([weight, bias, unused])
assert torch.equal(weight.grad, torch.full((2, 3), 1.5)), weight.grad
assert torch.equal(bias.grad, torch.tensor([0.0, 2.0])), bias.grad
assert unused.grad is None
assert processes.broadcast(7.0 + processes.rank, "cpu") == 7.0
assert processes.size == 2 and processes.is_main == (processes.rank == 0)
processes.close()
"""


def test_gradients_become_their_mean_and_the_main_process_broadcasts():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen([sys.executable, "-c", PROCESS], env={**common, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors


def test_a_single_process_exchanges_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = ProcessGroup.join("cpu")
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([1.0, 2.0])
    processes.average_gradients([weight])
    assert processes == ProcessGroup(0, 1) and processes.is_main and processes.broadcast(3.5, "cpu") == 3.5
    assert torch.equal(weight.grad, torch.tensor([1.0, 2.0]))
