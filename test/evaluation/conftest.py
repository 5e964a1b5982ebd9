"""Fixtures for evaluation tests: small cases to register."""

from pathlib import Path

import pytest

from fluoro_reg.simulation.cases import CaseOptions, simulate_cases


@pytest.fixture(scope="session")
def small_cases(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases, each of which is registered in a fraction of a second."""
    options = CaseOptions(count=4, size_px=64, start_mm=((3.0, 6.0),), variants=("standard", "noisy"), seed=2)
    folder = tmp_path_factory.mktemp("evaluation") / "cases"
    simulate_cases(phantom_folder, folder, options)
    return folder
