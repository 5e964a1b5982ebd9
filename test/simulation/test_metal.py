"""Path lengths through cylinders, against lengths calculated by hand and against counted sample points."""

import math

import numpy as np
import pytest
import torch

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.simulation.metal import Cylinder, cylinder_path_length_mm, k_wire, metal_thickness_mm, screw

AHEAD = np.array([[[0.0, 0.0, 1.0]]])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ((-50, 0, 100), (50, 0, 100), 6.0),  # across: the diameter
        ((0, 0, 100), (0, 0, 140), 40.0),  # along: the length
        ((-50, 0, 50), (50, 0, 150), 6.0 * math.sqrt(2)),  # at 45 degrees
        ((0, 0, -20), (0, 0, 15), 15.0),  # only the part in front of the focal spot
        ((-50, 2, 100), (50, 2, 100), 2 * math.sqrt(5)),  # a chord, 2 mm off the axis
        ((-50, 3.1, 100), (50, 3.1, 100), 0.0),  # a narrow miss
        ((10, 0, 100), (50, 0, 100), 0.0),  # ends beside the ray
        ((0, 0, -100), (0, 0, -50), 0.0),  # behind the focal spot
    ],
)
def test_path_length_of_a_ray_through_a_cylinder(start: tuple, end: tuple, expected: float) -> None:
    length = cylinder_path_length_mm(AHEAD, np.array(start, float), np.array(end, float), 3.0)
    assert length[0, 0] == pytest.approx(expected, abs=1e-5)


def test_oblique_rays_agree_with_counted_points() -> None:
    generator = np.random.default_rng(0)
    start, end, radius = np.array([-8.0, 5.0, 90.0]), np.array([12.0, -3.0, 120.0]), 5.0
    rays = np.concatenate([generator.uniform(-0.15, 0.15, (20, 20, 2)), np.ones((20, 20, 1))], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    step = 0.01
    points = rays[..., None, :] * np.arange(70, 140, step)[:, None]
    axis = (end - start) / np.linalg.norm(end - start)
    along = (points - start) @ axis
    off = np.linalg.norm(points - start - along[..., None] * axis, axis=-1)
    counted = ((along > 0) & (along < np.linalg.norm(end - start)) & (off < radius)).sum(-1) * step
    exact = cylinder_path_length_mm(rays, start, end, radius)
    assert (counted > 0).sum() > 30
    np.testing.assert_allclose(exact, counted, atol=3 * step)


def test_the_shadow_of_a_tool_lies_at_the_projection_of_its_centre() -> None:
    camera = CameraIntrinsics(80, 60, 500.0, 400.0, 20.0, 45.0, 500.0)
    pose = RigidTransform(torch.eye(3).double(), torch.tensor([0.0, 0, 500], dtype=torch.float64))
    centre = torch.tensor([10.0, -20.0, 0.0], dtype=torch.float64)
    rod = Cylinder(centre + torch.tensor([0.0, 0, -1]), centre + torch.tensor([0.0, 0, 1]), 3.0, "steel")
    shadow = metal_thickness_mm((rod,), pose, camera)["steel"]
    v, u = np.average(np.indices(shadow.shape).reshape(2, -1), weights=shadow.ravel(), axis=1)
    expected = camera.project(pose.apply(centre[None]))[0]
    assert (u, v) == (pytest.approx(expected[0].item(), abs=0.2), pytest.approx(expected[1].item(), abs=0.2))


def test_wires_and_screws_end_at_their_tips() -> None:
    tip, generator = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), torch.Generator().manual_seed(0)
    wire, (shaft, head) = k_wire(tip, generator)[0], screw(tip, generator)
    assert torch.equal(wire.end, tip) and torch.equal(shaft.start, tip) and torch.equal(shaft.end, head.start)
    assert wire.material == "steel" and (wire.end - wire.start).norm().item() == pytest.approx(240)
    assert 40 <= (shaft.end - shaft.start).norm().item() <= 80 and head.radius > shaft.radius
