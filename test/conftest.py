"""Shared fixtures: the folder of real data, seeds; Triton's interpreter where there is no GPU."""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported: its kernels then run here, as Python


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data beside the project (or FLUORO_REG_DATA); skips where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FLUORO_REG_DATA", beside))
    if not folder.is_dir():
        pytest.skip("the real data folder is absent: set FLUORO_REG_DATA to it")
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
