"""What only the GPU backend has: half precision, split marches, torch operators, code for real GPUs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, grid, noise_volume, pose_towards

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.rendering import TorchRenderer, TritonRenderer, project, project_with_jacobian
from fluoro_reg.rendering.rays import rays_of_views
from fluoro_reg.rendering.renderer import Rays, RayTangents

pytest.importorskip("triton")
from fluoro_reg.rendering.backends.triton import ops as triton_ops


@pytest.fixture
def volume() -> CTVolume:
    return noise_volume(*grid(GRIDS["anisotropic"]))


@pytest.fixture
def rays(volume: CTVolume) -> Rays:
    return rays_of_views(volume, RigidTransform.stack([pose_towards(volume, VIEWS[v]) for v in ("along k", "along i")]), CAMERA)


@pytest.mark.parametrize("view", ["along k", "along j", "along i"])
def test_half_precision_voxels_have_the_documented_error(volume: CTVolume, view: str) -> None:
    pose = pose_towards(volume, VIEWS[view])
    expected = project_with_jacobian(TorchRenderer(volume, dtype=torch.float64), pose, CAMERA, volume.centre_patient)
    half = TritonRenderer(volume, dtype=torch.float16)
    image, jacobian = (t.cpu() for t in project_with_jacobian(half, pose, CAMERA, volume.centre_patient))
    rms = (image - expected[0]).square().mean().sqrt() / expected[0].max()
    assert 1e-7 < float(rms) < 1e-4
    error = (jacobian - expected[1]).flatten(0, 1).norm(dim=0) / expected[1].flatten(0, 1).norm(dim=0)
    assert float(error.max()) < 3e-3


@pytest.mark.parametrize("min_parallel_rays", [0, 1 << 10, 1 << 30])
def test_splitting_the_planes_among_lanes_changes_nothing(
    volume: CTVolume, rays: Rays, min_parallel_rays: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_ops, "_MIN_PARALLEL_RAYS", min_parallel_rays)
    moments = TritonRenderer(volume).moments(rays).cpu()
    expected = TorchRenderer(volume, dtype=torch.float64).moments(rays)
    scale = expected.flatten(0, 2).abs().amax(0)
    assert float(((moments - expected).abs() / scale).max()) < 1e-5


def test_the_operators_pass_the_checks_of_torch(volume: CTVolume, rays: Rays) -> None:
    renderer = TritonRenderer(volume)
    arguments = renderer._arguments(rays, RayTangents.unit(2, renderer.device))
    grid, views, tangents = tuple(renderer._grid), arguments[:3], arguments[3:]
    image = torch.rand(2, 3, 5, device=renderer.device)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(triton_ops.march, (*grid, *views, *tangents, 3, 5), test_utils=checks)
    torch.library.opcheck(triton_ops.gram, (*grid, *views, *tangents, image, image), test_utils=checks)
    source, direction = (t.clone().requires_grad_() for t in views[:2])
    torch.library.opcheck(triton_ops.project, (*grid, source, direction, views[2], 3, 5), test_utils=checks)


def test_torch_compile_includes_the_kernel_and_its_backward_pass(volume: CTVolume, rays: Rays) -> None:
    renderer = TritonRenderer(volume)
    shifted, direction, axes, *_ = renderer._arguments(rays, RayTangents.empty(len(rays.source)))
    grid = tuple(renderer._grid)

    def loss(source: torch.Tensor) -> torch.Tensor:
        return triton_ops.project(*grid, source, direction, axes, 5, 7)[0].square().sum()

    def gradient(function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        source = shifted.clone().requires_grad_()
        function(source).backward()
        return source.grad

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gradient(compiled), gradient(loss))
    assert gradient(loss).abs().max() > 0


def test_a_second_derivative_is_rejected(volume: CTVolume) -> None:
    pose = pose_towards(volume, VIEWS["along k"])
    moving = RigidTransform(pose.rotation, pose.translation.clone().requires_grad_())
    image = project(TritonRenderer(volume), moving, CAMERA)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice; use the torch renderer"):
        torch.autograd.grad(image.sum(), moving.translation, create_graph=True)


def test_without_triton_the_error_says_what_to_install(volume: CTVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fluoro_reg.rendering.backends.triton.ops")
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delattr("fluoro_reg.rendering.backends.triton.ops")
    with pytest.raises(ValueError, match="needs Triton, which comes with CUDA builds of torch"):
        TritonRenderer(volume)


def test_without_a_gpu_the_error_names_the_other_renderer(volume: CTVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a CUDA device, and none was found; use the numba renderer"):
        TritonRenderer(volume, device="cuda")


def test_the_kernels_compile_for_gpus_without_spilling(tmp_path) -> None:
    """Check registers and local memory as ptxas counts them, which needs no GPU."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "benchmarks/gpu_code.py", "--json", "--capability", "80", "--capability", "90"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    variants = json.loads(answer.stdout)["variants"]
    assert {variant["capability"] for variant in variants} == {80, 90}
    assert {v["kernel"] for v in variants} == {
        "march_kernel", "gram_kernel", "gradient_sums_kernel", "patch_sums_kernel", "batch_sums_kernel",
    }  # fmt: skip
    for variant in variants:
        assert variant["local_bytes"] == 0, variant
        assert variant["registers"] <= 80, variant
        if variant["instructions_per_sample"] is not None:  # those that only sum do not march
            assert 20 < variant["instructions_per_sample"] < 80, variant
