"""Training pairs: the published spread, starts that are independent of the truth, and images at the true poses."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.networks.opposite_view import is_opposite_view, opposite_view
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.pairs import PairMaker, PairOptions, PosesAround
from fluoro_reg.training.samples import SampleMaker

AIM = torch.tensor([12.0, -40.0, 300.0], dtype=torch.float64)
MANY = 4000
STRENGTHS = ("saturation", "scatter", "noise", "blur_px", "shading", "tools", "writing", "collimation", "beyond", "background")
NOTHING = dict.fromkeys((*STRENGTHS, "couch", "offset", "attenuation"), 0.0)
CLEAN = DegradationOptions(bone_contrast=(1, 1), density=(1, 1), gamma=(1, 1), **NOTHING)


def spread_of(poses, about) -> tuple[torch.Tensor, torch.Tensor]:
    """Euler angles (deg) and translations (mm) along the camera's axes from one pose to others, by scipy."""
    rotations = Rotation.from_matrix((poses.rotation @ about.rotation.mT).numpy())
    translations = poses.apply(AIM[None])[:, 0] - about.apply(AIM[None]).squeeze(-2)
    return torch.from_numpy(rotations.as_euler("XYZ", degrees=True).copy()), translations


def test_poses_around_the_middle_have_the_published_spread():
    view = CarmRange().central_view(AIM)
    poses = PosesAround(view, PairOptions()).sample(AIM, MANY, torch.Generator().manual_seed(0))
    assert math.degrees(0.15 * 0.35 * math.pi) == pytest.approx(9.45)
    angles, translations = spread_of(poses, view)
    torch.testing.assert_close(angles.std(0), torch.full((3,), 9.45).double(), rtol=0.05, atol=0)
    torch.testing.assert_close(translations.std(0), torch.full((3,), 22.4).double(), rtol=0.05, atol=0)
    assert angles.mean(0).abs().max() < 0.6 and translations.mean(0).abs().max() < 1.5
    correlation = torch.corrcoef(torch.cat([angles, translations], dim=1).T) - torch.eye(6)
    assert correlation.abs().max() < 0.07  # four standard deviations


def test_depth_has_its_own_spread_along_the_cameras_axis():
    view = CarmRange().central_view(AIM)
    options = PairOptions(rotation_deg=20.0, translation_mm=30.0, depth_mm=60.0)
    _, translations = spread_of(PosesAround(view, options).sample(AIM, MANY, torch.Generator().manual_seed(0)), view)
    torch.testing.assert_close(translations.std(0), torch.tensor([30.0, 30.0, 60.0]).double(), rtol=0.05, atol=0)


@pytest.fixture(scope="module")
def maker(volume, carm) -> SampleMaker:
    aim = volume.centre_patient
    reference = ReferenceView(carm.central_view(aim), aim, carm.camera(24))
    return SampleMaker(volume, carm, reference, CLEAN)


def correlation(images: torch.Tensor, integrals: torch.Tensor) -> float:
    """The mean over the images, each of which is standardised by itself."""
    pairs = zip(images.flatten(1), integrals.flatten(1), strict=True)
    return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean())


def test_starts_and_true_poses_are_independent(maker, carm):
    """With seeds that a generator cannot tell apart, the starts would equal the true poses."""
    pairs = PairMaker(maker, carm, PairOptions(around="middle")).batch(200, 200, seed=4, number=0)
    truth, starts = (spread_of(p, carm.central_view(maker.reference.pivot)) for p in (pairs.truth, pairs.starts))
    values = torch.cat([*truth, *starts], dim=1)
    across = torch.corrcoef(values.T)[:6, 6:]
    assert across.abs().max() < 0.25  # three and a half standard deviations


def test_around_a_range_each_batch_has_its_own_view(maker):
    carm = CarmRange(views=("AP",), primary_deg=(-60, 60))
    options = PairOptions(around="range", rotation_deg=1.0, translation_mm=1.0, depth_mm=1.0)
    middles = []
    for number in range(12):
        pairs = PairMaker(maker, carm, options).batch(6, 3, seed=4, number=number)
        views = RigidTransform.cat([pairs.truth, pairs.starts])
        primary = torch.rad2deg(torch.atan2(-views.rotation[:, 2, 0], views.rotation[:, 2, 1]))
        assert float(primary.max() - primary.min()) < 8
        middles.append(float(primary.mean()))
    assert min(middles) < -30 and max(middles) > 30


@pytest.mark.parametrize("around", ["range", "middle"])
def test_pairs_seen_from_behind_are_mirrored(volume, around):
    """The network sees the patient from one side: X-rays from behind are mirrored, and their poses are the opposite views."""
    carm = CarmRange(views=("AP", "PA") if around == "range" else ("AP",), primary_deg=(-30, 30))
    aim = volume.centre_patient
    reference = ReferenceView(carm.central_view(aim), aim, carm.camera(24))
    maker = SampleMaker(volume, carm, reference, CLEAN)
    renderer, directions = make_renderer(volume, "cpu"), set()
    for number in range(8):
        pairs = PairMaker(maker, carm, PairOptions(around=around)).batch(3, 2, seed=1, number=number)
        poses = pairs.truth
        assert not is_opposite_view(RigidTransform.cat([poses, pairs.starts]), reference.camera_from_patient).any()
        seen_from = [poses, opposite_view(poses, aim)]
        direct, behind = (project(renderer, pose, reference.intrinsics) for pose in seen_from)
        differences = [1 - correlation(pairs.images, image) for image in (direct, behind.flip(-1))]
        assert min(differences) < 0.6 * max(differences) and min(differences) < 0.01
        directions.add(differences[0] < differences[1])
    assert directions == ({True, False} if around == "range" else {True})


def test_images_show_the_true_poses_and_batches_differ(volume, carm, maker):
    pairs = PairMaker(maker, carm, PairOptions()).batch(3, 2, seed=4, number=0)
    assert pairs.images.shape[0] == 3 and pairs.starts.translation.shape == (2, 3)
    rendered = project(make_renderer(volume, "cpu"), pairs.truth, maker.intrinsics)
    assert correlation(pairs.images, rendered) > 0.99
    again, other = (PairMaker(maker, carm, PairOptions()).batch(3, 2, 4, number) for number in (0, 1))
    assert torch.equal(again.starts.rotation, pairs.starts.rotation)
    assert not torch.equal(other.starts.rotation, pairs.starts.rotation)
