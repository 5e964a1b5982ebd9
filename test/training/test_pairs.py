"""Pairs: the published spread, starts that know nothing of the truth but where the range is, images of the true pose."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from fluoro_reg.evaluation.carm_range import CarmRange
from fluoro_reg.regressor import ReferenceView
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.pairs import PairOptions, PoseSpread, make_pairs
from fluoro_reg.training.samples import SampleMaker

AIM = torch.tensor([12.0, -40.0, 300.0], dtype=torch.float64)
MANY = 4000


def spread_of(poses, about) -> tuple[torch.Tensor, torch.Tensor]:
    """Euler angles (deg) and shifts (mm) along the camera's axes, from one pose to each, by scipy."""
    turns = Rotation.from_matrix((poses.rotation @ about.rotation.mT).numpy())
    shifts = poses.apply(AIM[None])[:, 0] - about.apply(AIM[None]).squeeze(-2)
    return torch.from_numpy(turns.as_euler("XYZ", degrees=True).copy()), shifts


def test_start_and_truth_have_the_published_spread_about_the_middle():
    carm, generator = CarmRange(), torch.Generator().manual_seed(0)
    spread = PoseSpread(carm, PairOptions())
    truth = spread.sample(AIM, MANY, generator)
    both = [spread_of(poses, carm.middle(AIM)) for poses in (truth, spread.starts(truth, AIM, generator))]
    assert math.degrees(0.15 * 0.35 * math.pi) == pytest.approx(9.45)
    for angles, shifts in both:
        torch.testing.assert_close(angles.std(0), torch.full((3,), 9.45).double(), rtol=0.05, atol=0)
        torch.testing.assert_close(shifts.std(0), torch.full((3,), 22.4).double(), rtol=0.05, atol=0)
        assert angles.mean(0).abs().max() < 0.6 and shifts.mean(0).abs().max() < 1.5
    numbers = torch.cat([part for pair in both for part in pair], dim=1)
    correlation = torch.corrcoef(numbers.T) - torch.eye(12)
    assert correlation.abs().max() < 0.07  # four standard deviations


def test_about_a_range_the_truth_is_of_the_range_and_the_start_as_far_off():
    carm = CarmRange(views=("AP",), primary_deg=(-60, 60))
    generator = torch.Generator().manual_seed(1)
    spread = PoseSpread(carm, PairOptions(around="range"))
    truth = spread.sample(AIM, MANY, generator)
    starts = spread.starts(truth, AIM, generator)
    angles, shifts = spread_of(starts, truth)
    torch.testing.assert_close(angles.std(0), torch.full((3,), 2**0.5 * 9.45).double(), rtol=0.05, atol=0)
    torch.testing.assert_close(shifts.std(0), torch.full((3,), 2**0.5 * 22.4).double(), rtol=0.05, atol=0)
    primary = torch.rad2deg(torch.atan2(-truth.rotation[:, 2, 0], truth.rotation[:, 2, 1]))
    assert 50 < float(primary.max()) < 62 and -62 < float(primary.min()) < -50


def test_the_image_is_of_the_true_pose_and_batches_differ(volume, carm):
    """Seeds that a generator takes for the same would give starts that are the truth."""
    aim = volume.centre_patient
    spread = PoseSpread(carm, PairOptions())
    reference = ReferenceView(carm.middle(aim), aim, carm.camera(24))
    maker = SampleMaker(volume, spread, reference, DegradationOptions(bone_contrast=(1, 1)))
    pairs = make_pairs(maker, spread, 3, seed=4, number=0)
    rendered = project(make_renderer(volume), pairs.views.camera_from_patient, maker.intrinsics)
    torch.testing.assert_close(pairs.views.integrals, rendered, atol=2e-2, rtol=2e-2)
    apart = (pairs.starts.rotation - pairs.views.camera_from_patient.rotation).abs().amax((1, 2))
    assert float(apart.min()) > 1e-3
    again, other = (make_pairs(maker, spread, 3, 4, number) for number in (0, 1))
    assert torch.equal(again.starts.rotation, pairs.starts.rotation)
    assert not torch.equal(other.starts.rotation, pairs.starts.rotation)
