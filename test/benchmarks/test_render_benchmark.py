"""The benchmarks of the renderers: the exact oracle compared with closed forms, the output of the script, and our accuracy."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from render_bench.contenders import contenders
from render_bench.entries import ratios_to_ours
from render_bench.fidelity import agreement, image_error
from render_bench.oracle import exact_derivatives, exact_integrals, rays_of_pixels
from render_bench.scene import Scene, body, make_scene
from render_bench.timing import time_in_turn
from scipy.ndimage import map_coordinates

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform

PROJECT = Path(__file__).resolve().parents[2]
VOXEL_MM, VOXELS, SLOPES, CENTRE_ATTENUATION = 2.0, (40, 40, 10), (2e-4, -3e-4), 0.02  # mm, (i, j, k), 1/mm^2, 1/mm


def slab_with_a_linear_field() -> Scene:
    """Return a wide slab with attenuation that is linear across it, seen along k by rays that leave through its large faces."""
    i, j = (torch.arange(n) - (n - 1) / 2 for n in VOXELS[:2])
    values = CENTRE_ATTENUATION + VOXEL_MM * (SLOPES[0] * i[None, :] + SLOPES[1] * j[:, None])
    patient_from_voxel = torch.diag(torch.tensor([VOXEL_MM] * 3 + [1.0], dtype=torch.float64))
    volume = CTVolume(values.expand(VOXELS[2], -1, -1).float().contiguous(), patient_from_voxel)
    camera = CameraIntrinsics(9, 7, 150.0, 150.0, 4.0, 3.0, 1000.0)
    centre_camera = torch.tensor([0.4, -0.7, 500.0], dtype=torch.float64)
    pose = RigidTransform(torch.eye(3, dtype=torch.float64), centre_camera - volume.centre_patient)
    return Scene(volume, camera, pose)


def rays_at_the_middle_plane(scene: Scene, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return positions in the slab's middle plane (mm from its centre, along i and j), and the ray length per mm of depth."""
    across = (pixels - torch.tensor([4.0, 3.0], dtype=torch.float64)) / 150.0
    return 500.0 * across - torch.tensor([0.4, -0.7], dtype=torch.float64), (1 + across.square().sum(-1)).sqrt()


def test_the_oracle_is_exact_for_a_linear_field_in_a_slab():
    scene = slab_with_a_linear_field()
    pixels = scene.pixels(63)
    middle, per_mm = rays_at_the_middle_plane(scene, pixels)
    thickness_mm = VOXELS[2] * VOXEL_MM * per_mm  # air begins one voxel beyond the last centre: half a voxel at either face
    expected = thickness_mm * (CENTRE_ATTENUATION + middle @ torch.tensor(SLOPES, dtype=torch.float64))
    integrals = exact_integrals(scene.volume, scene.camera_from_patient, scene.camera, pixels)
    torch.testing.assert_close(integrals, expected, rtol=1e-6, atol=0)  # the voxels are float32


def test_the_derivatives_of_the_oracle_are_exact_for_a_linear_field():
    scene = slab_with_a_linear_field()
    pixels = scene.pixels(63)
    _, per_mm = rays_at_the_middle_plane(scene, pixels)
    thickness_mm, slopes = VOXELS[2] * VOXEL_MM * per_mm, torch.tensor(SLOPES, dtype=torch.float64)
    across = (pixels - torch.tensor([4.0, 3.0], dtype=torch.float64)) / 150.0
    derivatives = exact_derivatives(scene, pixels)
    for axis in (0, 1):  # the ray crosses the body in the direction opposite to its motion
        torch.testing.assert_close(derivatives[:, axis], -thickness_mm * slopes[axis], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(derivatives[:, 2], thickness_mm * (across @ slopes), rtol=1e-5, atol=1e-9)


def test_the_oracle_agrees_with_fine_sampling_by_scipy():
    generator = torch.Generator().manual_seed(3)
    linear = torch.tensor([[1.5, 0.2, 0.0], [0.0, 1.1, 0.4], [0.1, 0.0, 2.3]], dtype=torch.float64)
    patient_from_voxel = torch.eye(4, dtype=torch.float64)
    patient_from_voxel[:3, :3], patient_from_voxel[:3, 3] = linear, torch.tensor([5.0, -7.0, 30.0])
    scene = make_scene(CTVolume(0.05 * torch.rand(7, 9, 8, generator=generator), patient_from_voxel), 8)
    camera = CameraIntrinsics(5, 5, 300.0, 300.0, 2.2, 1.9, 1000.0)
    pixels = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0)).double()
    integrals = exact_integrals(scene.volume, scene.camera_from_patient, camera, pixels)
    source, directions, mm = rays_of_pixels(scene.volume, scene.camera_from_patient, camera, pixels)
    depth = np.linspace(670, 730, 60001)
    for n in range(len(pixels)):
        points = source.numpy()[:, None] + directions[n].numpy()[:, None] * depth
        values = map_coordinates(scene.volume.attenuation.double().numpy(), points[::-1], order=1, mode="grid-constant")
        assert float(integrals[n]) == pytest.approx(np.trapezoid(values, depth) * float(mm[n]), abs=1e-6)
    assert integrals.max() > 0.3


def test_the_script_prints_one_json_object_with_plausible_values():
    command = [
        sys.executable,
        "benchmarks/render.py",
        "--quick",
        "--size",
        "16",
        "--json",
        "--peers",
        "none",
        "--device",
        "cpu",
    ]
    process = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    record = json.loads(process.stdout)
    names = {f"ours-numba/{row}/batch{n}" for row in ("forward", "forward+backward", "image+jacobian") for n in (1, 8)}
    for key in ("seconds", "ratio_to_ours", "memory_bytes"):
        assert names <= set(record[key])
        assert all(math.isfinite(value) and value > 0 for value in record[key].values())
    assert min(record["ratio_to_ours"].values()) == 1
    assert (record["size"], record["detector"], record["device"], record["not_run"]) == (16, 16, "cpu", {})
    assert record["threads"] >= 1
    assert record["machine"]["cores"] >= 1
    assert {"python", "torch", "numba"} <= set(record["versions"])
    assert 0 < record["accuracy"]["ours-numba"]["image_rms"] < 0.005


def test_ratios_charge_this_project_with_the_full_jacobian():
    seconds = {
        "ours-numba/forward/batch1": 2.0,
        "ours-torch/forward/batch1": 6.0,
        "ours-numba/forward+backward/batch1": 3.0,
        "ours-numba/image+jacobian/batch1": 4.0,
        "nanodrr/forward/batch1": 20.0,
        "nanodrr/forward+backward/batch1": 60.0,
        "nanodrr/forward/batch8": 1.0,  # no entry of ours to compare with
    }
    ratios = ratios_to_ours(seconds)
    assert ratios["nanodrr/forward/batch1"] == 10
    assert ratios["nanodrr/forward+backward/batch1"] == 15
    assert ratios["ours-torch/forward/batch1"] == 3
    assert "nanodrr/forward/batch8" not in ratios


def test_warm_ups_do_not_count_and_a_budget_ends_an_entry():
    durations = {"slow": iter([1.0, 9.0, 8.0]), "fast": iter([5.0, *[0.01] * 100]), "slowest": iter([50.0, 99.0])}
    timed_functions = {name: lambda times=times: next(times) for name, times in durations.items()}
    runs = time_in_turn(timed_functions, rounds=3, budget_s=12.0, seconds_of=lambda work: work())
    assert runs == {"slow": [9.0, 8.0], "fast": [0.01] * 30, "slowest": [99.0]}


def test_our_image_and_derivatives_are_accurate():
    scene = make_scene(body(64), 32)
    contender = contenders("cpu", [])["ours-numba"](scene)
    pixels = scene.pixels(300)
    exact = exact_integrals(scene.volume, scene.camera_from_patient, scene.camera, pixels)
    assert image_error(contender, pixels, exact) < 5e-4
    expected = exact_derivatives(scene, pixels)
    relative = (contender.derivatives(pixels) - expected).square().mean(0).sqrt() / expected.square().mean(0).sqrt()
    assert relative[:3].max() < 0.1
    assert relative.max() < 0.2


def test_a_camera_that_is_half_a_pixel_off_is_not_comparable():
    scene = make_scene(body(48), 48)
    make_contender = contenders("cpu", [])["ours-numba"]
    shifted_scene = make_scene(scene.volume, 48)
    shifted_scene = Scene(
        shifted_scene.volume,
        CameraIntrinsics(48, 48, *shifted_scene.camera.k[:5:4], 24.0, 24.0, 1000.0),
        shifted_scene.camera_from_patient,
    )
    assert agreement(make_contender(scene), make_contender(scene)).comparable
    assert not agreement(make_contender(shifted_scene), make_contender(scene)).comparable
