"""`PoseValues`: the twist, the gradient, sparse patches, and poses that leave nothing to compare."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.registration_world import bony_volume

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.optimisers import AutogradProblem
from fluoro_reg.registration.method import Restraint, SparsePatches
from fluoro_reg.registration.stages import pose_values
from fluoro_reg.registration.stages.masks import Extent
from fluoro_reg.registration.stages.objective import MINIMUM_PIXELS, ObjectModel, PosePrior, Scale
from fluoro_reg.registration.stages.pose_values import Patches, PoseValues, moved
from fluoro_reg.rendering import TorchRenderer, project
from fluoro_reg.similarity import GMNCC, GradientNCC, MultiscaleNCC

CAMERA = CameraIntrinsics(width=44, height=40, fx=170.0, fy=165.0, cx=21.0, cy=20.2, source_to_detector_mm=1000.0)
VOLUME = bony_volume().downsampled((2, 2, 2))
PIVOT = VOLUME.centre_patient
RENDERER = TorchRenderer(VOLUME, dtype=torch.float64)
START = view_pose(PIVOT, 25.0, 10.0, 5.0, 700.0)
TWISTS = torch.tensor(
    [[0.0, 0, 0, 0, 0, 0], [4.0, -3, 9, 0.03, -0.05, 0.08], [-2.0, 5, -7, -0.04, 0.02, -0.05]], dtype=torch.float64
)


def _problem(similarity, roi="full", saturation=0.0, **settings):
    nowhere = torch.zeros(3, dtype=torch.bool)
    extent = replace(Extent.of(VOLUME), cut_low=nowhere, cut_high=nowhere)
    truth = retract(START, torch.tensor([3.0, -4, 5, 0.04, 0.03, -0.02], dtype=torch.float64), PIVOT)
    fixed = 2 * project(RENDERER, truth, CAMERA)[None] + 1
    scale = Scale(RENDERER, CAMERA, fixed, torch.ones(1, CAMERA.height, CAMERA.width, dtype=torch.float64), extent, 3.0)
    return PoseValues(scale, ObjectModel(PIVOT, roi, saturation), similarity, **settings)


def _starts(n):
    return RigidTransform.stack([START] * n)


def test_a_twist_moves_the_ct_along_and_about_the_axes_of_the_camera_through_the_pivot():
    """Against the matrix exponential in camera coordinates."""
    centre = START.apply(PIVOT[None])[0]
    to_centre = torch.eye(4, dtype=torch.float64)
    to_centre[:3, 3] = -centre
    for pose, twist in zip(moved(_starts(3), TWISTS, PIVOT).matrix(), TWISTS, strict=True):
        x, y, z = twist[3:].tolist()
        generator = torch.tensor([[0, -z, y, 0], [z, 0, -x, 0], [-y, x, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
        generator[:3, 3] = twist[:3]
        expected = torch.linalg.inv(to_centre) @ torch.matrix_exp(generator) @ to_centre @ START.matrix()
        torch.testing.assert_close(pose, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("saturation", [0.0, 0.4])
@pytest.mark.parametrize("sparse", [SparsePatches(), SparsePatches(count=12, side=9)])
def test_the_gradient_equals_finite_differences(sparse, saturation):
    prior = PosePrior(START, torch.diag(torch.tensor([0.5, 0.4, 0.1, 900.0, 800.0, 700.0], dtype=torch.float64)))
    problem = _problem(GMNCC(), saturation=saturation, prior=prior, restraint=Restraint(weight=0.2))
    problem.prepare(_starts(1), sparse, seed=0)
    starts, twists = _starts(2), TWISTS[1:]
    values, gradient = AutogradProblem(problem).values_and_gradient(starts, twists)
    torch.testing.assert_close(values, problem.values(starts, twists))
    for axis, step in enumerate([1e-5] * 3 + [1e-7] * 3):  # too short to meet a kink of the interpolation
        nudge = torch.zeros(6, dtype=torch.float64)
        nudge[axis] = step
        slope = (problem.values(starts, twists + nudge) - problem.values(starts, twists - nudge)) / (2 * step)
        torch.testing.assert_close(gradient[:, axis], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sparse", [SparsePatches(), SparsePatches(count=5, side=9)])
def test_a_batch_has_the_values_of_its_single_poses(sparse, monkeypatch):
    problem = _problem(GMNCC(), roi="moving-support")
    problem.prepare(_starts(1), sparse, seed=0)
    together = problem.values(_starts(3), TWISTS)
    alone = torch.cat([problem.values(_starts(1), twist[None]) for twist in TWISTS])
    monkeypatch.setattr(pose_values, "CHUNK_PIXELS", 2 * CAMERA.height * CAMERA.width)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(together, problem.values(_starts(3), TWISTS), rtol=1e-9, atol=1e-12)
    assert problem.n_renders == 1 + 3 * 3


def test_sparse_patches_are_compared_one_by_one():
    """Compared with correlation coefficients of patches that the test cuts from whole images."""
    problem = _problem(MultiscaleNCC(patches=(0,)))
    problem.prepare(_starts(1), SparsePatches(count=6, side=11), seed=3)
    images = project(RENDERER, moved(_starts(3), TWISTS, PIVOT), CAMERA)
    for value, image in zip(problem.values(_starts(3), TWISTS), images, strict=True):
        patches = [np.s_[v : v + 11, u : u + 11] for u, v in problem.patches.corners.tolist()]
        pairs = [(image.numpy()[patch].ravel(), problem.scale.fixed[0].numpy()[patch].ravel()) for patch in patches]
        assert float(value) == pytest.approx(1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]), abs=1e-5)


def test_patches_are_sampled_at_edges_and_depend_on_the_seed():
    image, weight = torch.zeros(1, 40, 60), torch.ones(1, 40, 60)
    image[:, 10:20, 45:50] = 1.0
    weight[:, :, 50:] = 0.0
    first, again, other = (Patches.sampled(SparsePatches(count=50, side=9), image, weight, seed).corners for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert int(first[:, 0].min()) >= 44 - 8
    assert int(first[:, 0].max()) <= 60 - 9
    assert 10 - 9 <= int(first[:, 1].min()) <= int(first[:, 1].max()) <= 20


def test_a_pose_that_leaves_little_to_compare_has_an_infinite_value():
    problem = _problem(GradientNCC(), roi="moving-support")
    problem.prepare(_starts(1), SparsePatches(), seed=0)
    away = torch.tensor([[0.0, 0, 0, 0, 0, 0], [170.0, 0, 0, 0, 0, 0], [0.0, 0, 900, 0, 0, 0]], dtype=torch.float64)
    assert torch.isfinite(problem.values(_starts(3), away)).tolist() == [True, False, False]
    problem.minimum_pixels = MINIMUM_PIXELS  # what is left there is enough to compare by itself, though not to win by
    assert torch.isfinite(problem.values(_starts(3), away)).all()


def test_the_restraint_is_a_gaussian_around_the_starting_pose():
    sigma = (10.0, 20.0, 40.0, 0.1, 0.2, 0.4)
    free, held = _problem(GMNCC()), _problem(GMNCC(), restraint=Restraint(weight=0.25, sigma=sigma))
    squares = [sum((x / s) ** 2 for x, s in zip(twist, sigma, strict=True)) for twist in TWISTS.tolist()]
    expected = 0.75 * free.values(_starts(3), TWISTS) + 0.125 * torch.tensor(squares, dtype=torch.float64)
    torch.testing.assert_close(held.values(_starts(3), TWISTS), expected)


def test_the_prior_is_weighted_against_the_independent_pixels():
    deviations = torch.tensor([2.0, 3.0, 9.0, 0.02, 0.03, 0.05], dtype=torch.float64)
    belief = retract(START, torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64), PIVOT)
    problem = _problem(GMNCC(), prior=PosePrior(belief, torch.diag(deviations**-2)))
    ratio = problem.values(_starts(1), TWISTS[:1]) / _problem(GMNCC()).values(_starts(1), TWISTS[:1])
    assert float(ratio) == pytest.approx(1 + (1 / 2) ** 2 / (CAMERA.width * CAMERA.height / 9), abs=1e-9)
