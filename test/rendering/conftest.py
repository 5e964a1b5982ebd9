"""Scenes: every awkward grid from every side."""

import pytest
from rendering_scenes import GRIDS, VIEWS, Scene, grid, looking, lumpy


@pytest.fixture(params=[(g, v) for g in GRIDS for v in VIEWS], ids=lambda p: f"{p[0]}, {p[1]}")
def scene(request: pytest.FixtureRequest) -> Scene:
    grid_name, view_name = request.param
    volume = lumpy(*grid(GRIDS[grid_name]))
    return Scene(volume, looking(volume, VIEWS[view_name]))


@pytest.fixture
def sheared_scene() -> Scene:
    volume = lumpy(*grid(GRIDS["sheared"]))
    return Scene(volume, looking(volume, VIEWS["diagonal"]))
