"""ProST: independent poses, no features in air, derivatives with respect to every weight, and invalid settings."""

import dataclasses

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.learned import LearnedProblem, ProST, ProSTOptions, VolumeNetwork
from fluoro_reg.learned.volume_network import SliceConvolution


def problem_of(prost: ProST, images: torch.Tensor) -> LearnedProblem:
    return LearnedProblem(prost, prost.make_projector(), prost.embed_fixed(images))


def poses_of(reference, count: int) -> RigidTransform:
    twists = 0.05 * torch.arange(count, dtype=torch.float64)[:, None].expand(-1, 6) * torch.tensor([60.0] * 3 + [1.0] * 3)
    return retract(RigidTransform.stack([reference.camera_from_patient] * count), twists, reference.pivot)


def test_the_value_of_a_pose_does_not_depend_on_the_others(prost, reference):
    images, poses = torch.randn(3, 1, 16, 16), poses_of(reference, 3)
    together = problem_of(prost, images).values_at(poses)
    assert together.shape == (3,) and (together > 0).all() and together.unique().numel() == 3
    alone = [problem_of(prost, images[n : n + 1]).values_at(poses[n : n + 1]) for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=0)
    one_image = problem_of(prost, images[:1]).values_at(poses)
    torch.testing.assert_close(one_image[:1], together[:1], rtol=1e-4, atol=0)
    assert not torch.allclose(one_image[1:], together[1:])


def test_air_has_no_features():
    """Features are zero five voxels from a bone, so that the edges of the CT's box do not show."""
    network, bone = VolumeNetwork(3), torch.zeros(15, 15, 15)
    bone[7, 7, 7] = 1
    features = network(bone)
    reach = (torch.nonzero(features.abs().sum(0)) - 7).abs().amax()
    assert 0 < int(reach) <= 4 and features.shape == (3, 15, 15, 15)


def test_the_slice_convolution_agrees_with_torchs_3_d_convolution():
    ours, theirs = SliceConvolution(2, 3), torch.nn.Conv3d(2, 3, 3, padding=1, bias=False)
    theirs.weight.data = ours.convolution.weight.data.unflatten(1, (3, 2)).movedim(1, 2)
    volume = torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(ours(volume.movedim(0, 1)).movedim(1, 0), theirs(volume[None])[0])


def test_the_value_depends_on_the_pose_and_on_every_weight(prost, reference):
    """The mixed derivative that training needs is not zero for any parameter; float64 keeps small ones."""
    prost = prost.double()
    twist = torch.full((1, 6), 0.01, dtype=torch.float64, requires_grad=True)
    problem = problem_of(prost, torch.randn(1, 1, 16, 16, dtype=torch.float64))
    (slope,) = torch.autograd.grad(problem.values(poses_of(reference, 1), twist).sum(), twist, create_graph=True)
    assert (slope != 0).all()
    slope.square().sum().backward()
    for name, parameter in (pair for pair in prost.named_parameters() if not pair[0].startswith("calibration")):
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_settings_without_a_valid_network_are_refused():
    with pytest.raises(InputError, match="multiples of 4"):
        ProSTOptions(encoder_channels=(6,))
    with pytest.raises(InputError, match="4 halvings leave nothing"):
        dataclasses.replace(ProSTOptions(), image_px=8, encoder_channels=(4, 4, 4, 4))
