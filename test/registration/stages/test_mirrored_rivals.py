"""Symmetric objects: the pose on the other side of a plane of symmetry is tried beside the one that a search has found."""

import math

import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, se3, so3
from fluoro_reg.registration import Registrar
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.rivals import mirrored_poses, principal_axes, with_mirrored_rivals
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

CAMERA = CameraIntrinsics(128, 128, 1000.0, 1000.0, 63.5, 63.5)
AXES = torch.eye(3, dtype=torch.float64)


@pytest.fixture(scope="module")
def implant() -> CTVolume:
    """A plate with a keel, in metal: symmetric about x = 0 (patient), but for a peg on one side."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (40, 44, 60)), indexing="ij")
    solid = ((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1) & (z > 0.5) | (x.abs() < 0.12) & (y.abs() < 0.5) & (z > -0.7)
    peg = ((x - 0.5) ** 2 + (y - 0.1) ** 2 < 0.02) & (z > -0.1)
    placed = torch.eye(4, dtype=torch.float64)
    placed[:3, 3] = torch.tensor([-29.5, -21.5, -19.5])
    return CTVolume(0.2 * (solid | peg).float(), placed, fingerprint="implant")


@pytest.fixture(scope="module")
def truth(implant) -> RigidTransform:
    return view_pose(implant.centre_patient, 22.0, 14.0, 8.0, 900.0)


def test_mirroring_twice_returns_the_pose(implant, truth):
    once = mirrored_poses(RigidTransform.stack([truth]), implant.centre_patient, AXES)
    assert torch.linalg.det(once.rotation) == pytest.approx(torch.ones(3, dtype=torch.float64))
    for plane in range(3):
        twice = mirrored_poses(once[plane : plane + 1], implant.centre_patient, AXES[plane : plane + 1])[0]
        torch.testing.assert_close(twice.matrix(), truth.matrix())


def test_a_symmetric_object_looks_nearly_the_same(implant, truth):
    symmetric = CTVolume(torch.maximum(implant.attenuation, implant.attenuation.flip(2)), implant.patient_from_voxel, "")
    other = mirrored_poses(RigidTransform.stack([truth]), symmetric.centre_patient, AXES[:1])[0]
    renderer = make_renderer(symmetric, "cpu")
    images = project(renderer, RigidTransform.stack([truth, other]), CAMERA)
    assert (images[0] - images[1]).abs().mean() < 0.1 * images[0].mean()
    metric = PoseMetric(symmetric.points_patient(40 * torch.rand(20, 3, dtype=torch.float64)))
    assert metric.distances(RigidTransform.stack([other]), truth) > 5.0


def test_principal_axes_are_those_of_the_shape(implant):
    centre, axes = principal_axes(implant)
    torch.testing.assert_close(axes @ axes.T, AXES)
    assert axes[:, 0].abs().max() > 0.98, "the plane of symmetry is found in spite of the peg"
    assert (centre - implant.centre_patient).norm() < 15.0


def turned_deg(pose: RigidTransform, truth: RigidTransform) -> float:
    return math.degrees(float(so3.log(pose.rotation @ truth.rotation.T).norm()))


def solver_of(registrar: Registrar, xray: XrayImage, pose: RigidTransform) -> Solver:
    """A solver after a search."""
    reading, prepared = registrar.readings.whole, preprocess(xray, PreprocessOptions())
    refiners = registrar._candidates.refiners
    return Solver(reading.scales(prepared, pose), reading.model, registrar.metric, refiners, None, 5.0, keeps_rivals=True)


def test_the_right_pose_is_found_from_its_mirror_pose(implant, truth):
    """As of the tibial part of a knee implant, of which a search had found the wrong one."""
    registrar = Registrar(implant)
    pixels = project(make_renderer(implant, "cpu"), RigidTransform.stack([truth]), CAMERA)[0]
    mask = torch.ones_like(pixels, dtype=torch.bool)
    solver = solver_of(registrar, XrayImage(1000 * torch.exp(-pixels), CAMERA, Intensity.TRANSMITTED, mask), truth)
    centre, axes = principal_axes(implant)
    plane = int(axes[:, 0].abs().argmax())
    wrong = mirrored_poses(RigidTransform.stack([truth]), centre, axes)[plane]
    wrong = RigidTransform.stack([se3.retract(wrong, torch.full((6,), 0.02, dtype=torch.float64), implant.centre_patient)])
    assert turned_deg(wrong[0], truth) > 30.0
    everything = with_mirrored_rivals(solver, wrong, registrar.method.search, registrar.method.stages)
    assert torch.equal(everything[0].rotation, wrong[0].rotation), "what was found stays first"
    refined = solver.run_last(everything, registrar.method.stages).poses
    assert turned_deg(refined[0], truth) < 5.0


def test_bodies_are_searched_from_all_sides_already(world):
    registrar, poses = Registrar(world.volume), RigidTransform.stack([world.truth])
    solver = solver_of(registrar, world.xray(), world.truth)
    assert with_mirrored_rivals(solver, poses, None, registrar.method.stages) is poses
