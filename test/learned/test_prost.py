"""ProST: each pose on its own, no say for what an X-ray does not show, air without features, settings that make no network."""

import dataclasses

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.learned import ProSTOptions, VolumeNetwork
from fluoro_reg.learned.prost import ProSTProblem
from fluoro_reg.learned.similarity import mean_shown, shown
from fluoro_reg.learned.volume_network import SliceConvolution


def poses_of(reference, count: int) -> RigidTransform:
    twists = 0.05 * torch.arange(count, dtype=torch.float64)[:, None].expand(-1, 6) * torch.tensor([60.0] * 3 + [1.0] * 3)
    return retract(RigidTransform.stack([reference.camera_from_patient] * count), twists, reference.pivot)


def test_every_pose_has_its_own_value_whatever_its_neighbours(prost, reference):
    images, mask, poses = torch.randn(3, 1, 16, 16), torch.ones(3, 16, 16, dtype=torch.bool), poses_of(reference, 3)
    projector = prost.projector()
    together = prost.problem(projector, images, mask).at(poses)
    assert together.shape == (3,) and (together > 0).all() and together.unique().numel() == 3
    alone = [prost.problem(projector, images[n : n + 1], mask[:1]).at(poses[n : n + 1]) for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    one_image = prost.problem(projector, images[:1], mask[:1]).at(poses)
    torch.testing.assert_close(one_image[:1], together[:1])
    assert not torch.allclose(one_image[1:], together[1:])


def test_what_the_x_ray_does_not_show_has_no_say(prost, reference):
    """Features of places under the mask are replaced: the value stays."""
    projector, poses = prost.projector(), poses_of(reference, 1)
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    mask[:, :, :8] = False
    fixed = prost.problem(projector, torch.randn(1, 1, 16, 16), mask)
    assert torch.equal(fixed.weight[0, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    other = ProSTProblem(prost, projector, torch.where(fixed.weight[:, None] > 0, fixed.grid, 9.0), fixed.weight)
    torch.testing.assert_close(fixed.at(poses), other.at(poses))
    nothing = prost.problem(projector, torch.randn(1, 1, 16, 16), torch.zeros_like(mask))
    assert float(nothing.at(poses).detach()) == 0


def test_the_mean_is_weighted_by_what_is_shown():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, :2], mask[0, 0, 2] = True, True
    weight = shown(mask, torch.zeros(1, 5, 2, 2))
    torch.testing.assert_close(weight, torch.tensor([[[1.0, 0.25], [0.0, 0.0]]]))
    assert float(mean_shown(torch.tensor([[[2.0, 4.0], [7.0, 7.0]]]), weight)) == pytest.approx(3 / 1.25)


def test_air_has_no_features():
    """Five voxels from a bone there is nothing: the edges of the CT's box must not be seen."""
    network, bone = VolumeNetwork(3), torch.zeros(15, 15, 15)
    bone[7, 7, 7] = 1
    features = network(bone)
    reach = (torch.nonzero(features.abs().sum(0)) - 7).abs().amax()
    assert 0 < int(reach) <= 4 and features.shape == (3, 15, 15, 15)


def test_the_convolution_over_slices_is_torchs_of_volumes():
    ours, theirs = SliceConvolution(2, 3), torch.nn.Conv3d(2, 3, 3, padding=1, bias=False)
    theirs.weight.data = ours.planes.weight.data.unflatten(1, (3, 2)).movedim(1, 2)
    volume = torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(ours(volume.movedim(0, 1)).movedim(1, 0), theirs(volume[None])[0])


def test_the_value_follows_poses_and_every_weight(prost, reference):
    """In float64, where neither is lost: some derivative to each parameter, by the mixed derivative that training needs."""
    prost = prost.double()
    twist = torch.full((1, 6), 0.01, dtype=torch.float64, requires_grad=True)
    image, mask = torch.randn(1, 1, 16, 16, dtype=torch.float64), torch.ones(1, 16, 16, dtype=torch.bool)
    problem = prost.problem(prost.projector(), image, mask)
    (slope,) = torch.autograd.grad(problem.values(poses_of(reference, 1), twist).sum(), twist, create_graph=True)
    assert (slope != 0).all()
    slope.square().sum().backward()
    for name, parameter in (pair for pair in prost.named_parameters() if not pair[0].startswith("calibration")):
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_settings_that_make_no_network_are_refused():
    with pytest.raises(InputError, match="multiples of 4"):
        ProSTOptions(encoder_channels=(6,))
    with pytest.raises(InputError, match="4 halvings leave nothing"):
        dataclasses.replace(ProSTOptions(), image_px=8, encoder_channels=(4, 4, 4, 4))


def test_the_table_holds_every_pose_with_every_x_ray(prost, reference):
    images, mask, poses = torch.randn(2, 1, 16, 16), torch.ones(2, 16, 16, dtype=torch.bool), poses_of(reference, 4)
    mask[1, :, :8] = False
    problem = prost.problem(prost.projector(), images, mask)
    table = problem.table(poses)
    for n in range(2):
        alone = prost.problem(prost.projector(), images[n : n + 1], mask[n : n + 1])
        torch.testing.assert_close(table[:, n], alone.at(poses))
