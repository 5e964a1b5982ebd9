"""X-rays for validation: they show the CT at its pose, vary, and are not those of the training."""

import dataclasses
import itertools

import pytest
import torch

from fluoro_reg.ct.bone import lacks_soft_tissue, tissue_beyond
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.pairs import PairMaker, PairOptions
from fluoro_reg.training.samples import BONE_BACKGROUND, SampleMaker
from fluoro_reg.training.simulated_xrays import XraysForValidation, XrayThreads, joined, within_body


@pytest.fixture(scope="module")
def reference(volume, carm) -> ReferenceView:
    return ReferenceView(carm.central_view(volume.centre_patient), volume.centre_patient, carm.camera(24))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_they_resemble_the_projection_at_their_pose(volume, reference):
    """On average, more than at a pose beside it; each X-ray is another."""
    pose = reference.camera_from_patient
    beside = retract(pose, torch.tensor([30.0, 0, 0, 0, 0, 0], dtype=torch.float64), reference.pivot)
    inputs = XraysForValidation(volume, reference).inputs(RigidTransform.stack([pose] * 8), seeded(1))
    assert inputs.shape == (8, 1, 24, 24) and len(torch.unique(inputs.flatten(1), dim=0)) == 8
    here, there = project(make_renderer(volume, "cpu"), RigidTransform.stack([pose, beside]), reference.intrinsics)
    shown = (inputs != 0).all(0)[0] & (here > 0)  # in every X-ray

    def correlation(image: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([inputs.mean(0)[0][shown], image[shown]]))[0, 1])

    assert correlation(here) > 0.8 and correlation(here) > correlation(there) + 0.1


def test_validation_pairs_show_them_at_the_poses_of_the_pairs(volume, carm, reference):
    maker = PairMaker(SampleMaker(volume, carm, reference, DegradationOptions()), carm, PairOptions())
    trained, threads = maker.batch(1, 1, seed=3, number=0, groups=4), XrayThreads("cpu")
    simulated = maker.validation_pairs(4, 3, 0, XraysForValidation(volume, reference), threads)()
    assert threads.have_finished()
    assert torch.equal(trained.truth.rotation, simulated.truth.rotation)
    assert torch.equal(trained.starts.translation, simulated.starts.translation)
    assert trained.images.shape == simulated.images.shape and not torch.equal(trained.images, simulated.images)


def test_a_training_that_ends_early_is_validated_with_some_of_them(volume, carm, reference):
    """Those that were made belong to the poses of their pairs."""
    maker = PairMaker(SampleMaker(volume, carm, reference, DegradationOptions()), carm, PairOptions())
    every, threads = (
        maker.validation_pairs(40, 3, 0, XraysForValidation(volume, reference), XrayThreads("cpu"))(),
        XrayThreads("cpu"),
    )
    wait = maker.validation_pairs(40, 3, 0, XraysForValidation(volume, reference), threads)
    threads.stop()
    some = wait()
    assert 8 <= some.groups < 20 and len(some.images) == len(some.truth.translation) == some.groups
    assert torch.equal(some.images, every.images[: some.groups])
    assert torch.equal(some.truth.rotation, every.truth.rotation[: some.groups])
    assert torch.equal(some.starts.rotation, every.starts.rotation[: some.groups])


def test_they_are_the_same_from_threads(volume, carm, reference):
    poses = carm.sample(reference.pivot, 5, seeded(2))
    threads = XrayThreads("cuda")  # several
    made, found = XraysForValidation(volume, reference).start(poses, seeded(1), threads).wait()
    expected = XraysForValidation(volume, reference).inputs(poses, seeded(1))
    assert made.tolist() == list(range(5)) and torch.equal(found, expected)
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(expected, 2))


def cut(volume: CTVolume) -> CTVolume:
    """The middle half along k, so that the body ends at both ends."""
    patient_from_voxel = volume.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] += 5 * patient_from_voxel[:3, 2]
    return dataclasses.replace(volume, attenuation=volume.attenuation[5:15].clone(), patient_from_voxel=patient_from_voxel)


def test_a_body_goes_on_where_the_ct_is_cut(volume):
    part = cut(volume)
    beyond = tissue_beyond(part, 24.0)
    whole = joined(part, beyond)
    assert whole.attenuation.shape == (16, 26, 26)
    points = whole.points_patient(torch.tensor([[13.0, 13.0, 3.0]]).double())  # the first slice of the part
    torch.testing.assert_close(points, part.points_patient(torch.tensor([[10.0, 10.0, 0.0]]).double()))
    assert torch.equal(whole.attenuation[3:13, 3:23, 3:23], part.attenuation)
    water = volume.attenuation[0, 10, 10]
    torch.testing.assert_close(whole.attenuation[0, 13, 13], water)
    assert float(beyond.attenuation[3:13, 3:23, 3:23].max()) == 0
    in_air = dataclasses.replace(volume, attenuation=torch.nn.functional.pad(volume.attenuation, (1,) * 6))
    assert tissue_beyond(in_air, 24.0) is None


def test_bone_alone_is_surrounded_by_tissue(volume, carm, reference):
    bone = dataclasses.replace(volume, attenuation=volume.attenuation * (volume.attenuation > 0.025))
    assert lacks_soft_tissue(bone) and not lacks_soft_tissue(volume)
    patient = within_body(bone)
    is_bone = patient.attenuation > 0.025
    assert int(is_bone.sum()) == int((bone.attenuation > 0.025).sum())
    assert float((patient.attenuation > 0.015).float().mean()) > 0.6
    assert SampleMaker(bone, carm, reference, DegradationOptions()).degradations.background == BONE_BACKGROUND
    assert SampleMaker(volume, carm, reference, DegradationOptions()).degradations == DegradationOptions()


def test_the_body_of_a_training_goes_on_in_a_part_of_its_images(volume, carm, reference):
    plain = DegradationOptions(beyond=0.0)
    makers = [SampleMaker(cut(volume), carm, reference, options) for options in (plain, DegradationOptions(beyond=1.0))]
    ends, goes_on = (maker.views(12, 2, 0) for maker in makers)
    assert torch.equal(ends.projections.integrals, goes_on.projections.integrals)
    assert not torch.equal(ends.images, goes_on.images)
