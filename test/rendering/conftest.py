"""Scenes of all test grids from all sides, and all backends."""

import pytest
from helpers.rendering_scenes import GRIDS, VIEWS, Scene, grid, noise_volume, pose_towards

from fluoro_reg.rendering import RENDERERS, AbstractRenderer, TritonRenderer


@pytest.fixture(params=[(g, v) for g in GRIDS for v in VIEWS], ids=lambda p: f"{p[0]}, {p[1]}")
def scene(request: pytest.FixtureRequest) -> Scene:
    grid_name, view_name = request.param
    volume = noise_volume(*grid(GRIDS[grid_name]))
    return Scene(volume, pose_towards(volume, VIEWS[view_name]))


@pytest.fixture
def sheared_scene() -> Scene:
    volume = noise_volume(*grid(GRIDS["sheared"]))
    return Scene(volume, pose_towards(volume, VIEWS["diagonal"]))


@pytest.fixture(params=RENDERERS.values(), ids=RENDERERS.keys())
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[AbstractRenderer]:
    if request.param is TritonRenderer:
        pytest.importorskip("triton")
        from fluoro_reg.rendering.backends.triton import ops as triton_ops

        if triton_ops.INTERPRETED:  # where a large tile takes as long as a small one
            monkeypatch.setattr(triton_ops, "TILE", (16, 32))
    return request.param
