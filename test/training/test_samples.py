"""Samples: poses match their images, soft tissue and bone add up to the CT, and every view shows bone."""

import dataclasses

import pytest
import torch

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.ct.bone import split_soft_tissue_and_bone
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.networks.opposite_view import opposite_view
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.samples import SampleMaker, shows_enough_bone

PLAIN = DegradationOptions(bone_contrast=(1, 1))


def maker_of(volume, carm, options=PLAIN, size=32) -> SampleMaker:
    aim = volume.centre_patient
    return SampleMaker(volume, carm, ReferenceView(carm.central_view(aim), aim, carm.camera(size)), options)


def test_the_image_belongs_to_the_pose(volume, carm):
    maker = maker_of(volume, carm)
    samples = maker.batch(4, seed=1, number=0)
    expected = project(make_renderer(volume, "cpu"), samples.camera_from_patient, maker.intrinsics)
    torch.testing.assert_close(samples.projections.integrals, expected, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(
        maker.project(samples.camera_from_patient, samples.projections.bone_contrast), samples.projections.integrals
    )


def test_opposite_views_are_mirrored_and_their_target_is_the_opposite_pose(volume, carm):
    """Without degradations the input increases with the line integrals, so that their pixels are correlated."""
    strengths = ("saturation", "scatter", "noise", "blur_px", "shading", "tools", "writing", "collimation")
    nothing = dict.fromkeys((*strengths, "beyond", "background", "couch", "offset", "attenuation"), 0.0)
    clean = DegradationOptions(bone_contrast=(1, 1), density=(1, 1), gamma=(1, 1), **nothing)
    maker = maker_of(volume, dataclasses.replace(carm, views=("AP", "PA")), clean)
    samples = maker.batch(16, seed=1, number=0)
    assert 2 < int(samples.opposite.sum()) < 14
    for n in range(16):
        expected_image = samples.projections.integrals[n].flip(-1) if samples.opposite[n] else samples.projections.integrals[n]
        assert float(torch.corrcoef(torch.stack([samples.inputs[n, 0].flatten(), expected_image.flatten()]))[0, 1]) > 0.95
        pose = samples.camera_from_patient[n]
        expected = opposite_view(pose, maker.reference.pivot) if samples.opposite[n] else pose
        torch.testing.assert_close(samples.target[n].matrix(), expected.matrix().float())
        assert float(samples.target[n].rotation[2, 1]) > 0.5  # the optical axis points to the back


def test_a_batch_is_reproducible_from_its_number(volume, carm):
    first, again, other = (maker_of(volume, carm, DegradationOptions()).batch(3, 5, number) for number in (8, 8, 9))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.camera_from_patient.rotation, again.camera_from_patient.rotation)
    assert not torch.equal(first.inputs, other.inputs)


def test_every_image_has_its_own_bone_contrast(volume, carm):
    maker = maker_of(volume, carm, DegradationOptions(bone_contrast=(0.5, 2)))
    contrast = maker.batch(32, 0, 0).projections.bone_contrast
    assert 0.5 <= float(contrast.min()) < 0.7 and 1.4 < float(contrast.max()) <= 2


def test_every_sample_shows_bone_though_the_range_reaches_past_it(volume, carm):
    wide = dataclasses.replace(carm, left_mm=(-250, 250))
    maker = maker_of(volume, wide)
    samples = maker.batch(24, 0, 0)
    _, bone = split_soft_tissue_and_bone(volume)
    visible = shows_enough_bone(project(make_renderer(bone, "cpu"), samples.camera_from_patient, maker.intrinsics))
    assert visible.all()
    sampled: RigidTransform = wide.sample(volume.centre_patient, 200, torch.Generator().manual_seed(0))
    assert not shows_enough_bone(project(make_renderer(bone, "cpu"), sampled, maker.intrinsics)).all()


def test_a_range_that_misses_the_patient_is_refused(volume, carm):
    with pytest.raises(InputError, match="hardly any view"):
        maker_of(volume, dataclasses.replace(carm, left_mm=(900, 950))).batch(4, 0, 0)


@dataclasses.dataclass(frozen=True)
class RarelyTowardsBone:
    """Poses of a range, of which all but one in twenty look past the patient."""

    carm: CarmRange

    def sample(self, aim_patient: torch.Tensor, count: int, generator: torch.Generator) -> RigidTransform:
        poses = self.carm.sample(aim_patient, count, generator)
        away = torch.rand(count, generator=generator) > 0.05
        poses.translation[away] += torch.tensor([5000.0, 0.0, 0.0], dtype=torch.float64)
        return poses


def test_a_large_batch_finds_views_that_rarely_show_bone(volume, carm):
    maker = maker_of(volume, carm)
    views = maker.projections(256, 0, 0, RarelyTowardsBone(carm))
    assert float(views.camera_from_patient.translation[:, 0].abs().max()) < 4000
