"""The double-backward loss: agreement, opposition, the metric against scipy, second derivatives, and a loss that falls."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from scipy.spatial.transform import Rotation

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, se3
from fluoro_reg.geometry.pose_sampling import ap_pose
from fluoro_reg.learned import ProST, ProSTOptions
from fluoro_reg.regressor import ReferenceView
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.training.gradient_direction import directions, squared_geodesic

TINY = ProSTOptions(image_px=8, voxel_mm=32.0, samples=6, volume_channels=1, encoder_channels=(4,), embedding=2)
CAMERA = CameraIntrinsics(8, 8, 27.2, 27.2, 3.5, 3.5, 1020.0)
LENGTH_MM = 100.0


def random_poses(count: int, pivot: torch.Tensor) -> RigidTransform:
    twists = torch.randn(count, 6, dtype=torch.float64) * torch.tensor([20.0] * 3 + [0.3] * 3)
    return retract(RigidTransform.stack([ap_pose(pivot, 700.0)] * count), twists, pivot)


def tiny(volume: CTVolume) -> ProST:
    torch.manual_seed(1)
    aim = volume.centre_patient
    return ProST(TINY, ReferenceView(ap_pose(aim, 700.0), aim, CAMERA), volume).double()


def test_the_distance_is_scipys_angle_and_the_pivots_shift():
    pivot = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)
    a, b = random_poses(5, pivot), random_poses(5, pivot)
    turn = Rotation.from_matrix(a.rotation.numpy()).inv() * Rotation.from_matrix(b.rotation.numpy())
    shift = (a.rotation @ pivot + a.translation - b.rotation @ pivot - b.translation) / LENGTH_MM
    expected = torch.from_numpy(turn.magnitude()) ** 2 + shift.square().sum(-1)
    torch.testing.assert_close(squared_geodesic(a, b, pivot, LENGTH_MM), expected)


@pytest.mark.parametrize(("sign", "loss", "cosine"), [(1, 0.0, 1.0), (-1, 8.0, -1.0)])
def test_the_loss_is_0_where_gradients_agree_and_8_where_they_are_opposite(sign, loss, cosine):
    """Any increasing function of the distance agrees with it, whatever its scale."""
    pivot = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)
    truth = random_poses(6, pivot)
    found = directions(
        lambda poses: sign * 1e-3 * torch.expm1(squared_geodesic(poses, truth, pivot, LENGTH_MM)),
        random_poses(6, pivot),
        truth,
        pivot,
        LENGTH_MM,
    )
    assert float(found.loss().detach()) == pytest.approx(loss, abs=1e-9)
    for part in (found.rotation, found.translation):
        torch.testing.assert_close(part, torch.full_like(part, cosine))


def test_turns_and_shifts_are_told_apart_by_known_angles():
    """A similarity linear in the motion from the start, 60 degrees off in turns and at a right angle in shifts."""
    pivot = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)
    start = RigidTransform.stack([ap_pose(pivot, 700.0)])
    shifted = retract(start, torch.tensor([[30.0, 0, 0, 0, 0, 0]], dtype=torch.float64), pivot)
    truth = retract(shifted, torch.tensor([[0, 0, 0, 0, 0.2, 0]], dtype=torch.float64), pivot)
    slope = torch.tensor([0.0, 0.0, 5.0, -(0.75**0.5), -0.5, 0.0], dtype=torch.float64)
    found = directions(lambda poses: se3.local(start, poses, pivot) @ slope, start, truth, pivot, LENGTH_MM)
    assert float(found.rotation.detach()) == pytest.approx(0.5)
    assert float(found.translation.detach()) == pytest.approx(0.0, abs=1e-9)
    assert float(found.loss().detach()) == pytest.approx(3.0)


def test_second_derivatives_through_projector_encoders_and_loss(volume):
    """A gradcheck of the loss is one of the mixed derivative to pose and weights, which it moves in place."""
    prost, pivot = tiny(volume), volume.centre_patient
    start, truth = random_poses(1, pivot), random_poses(1, pivot)
    images, mask = torch.randn(1, 1, 8, 8, dtype=torch.float64), torch.ones(1, 8, 8, dtype=torch.bool)
    names = ("moving_encoder.layers.0.1.bias", "fixed_encoder.layers.4.bias")
    share, field = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.rand(prost.bone.shape, dtype=torch.float64)
    weights = (share, *(prost.get_parameter(name) for name in names))

    def values(poses: RigidTransform) -> torch.Tensor:
        projector = partial(prost._projected, prost.volume_network(prost.bone) + share * field)
        return prost.problem(projector, images, mask).at(poses)

    def at(twist: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return values(retract(start, twist * torch.tensor([LENGTH_MM] * 3 + [1.0] * 3), pivot))

    twist = torch.full((1, 6), 1e-3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(at, (twist, *weights), eps=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(
        lambda *_: directions(values, start, truth, pivot, LENGTH_MM).loss(), weights, eps=1e-6, atol=1e-5
    )


def test_the_loss_falls_in_a_few_steps(volume):
    """On four pairs of one toy CT, its own bone for the fixed image: from chance level to half of it."""
    aim = volume.centre_patient
    camera = CameraIntrinsics(16, 16, 54.4, 54.4, 7.5, 7.5, 1020.0)
    options = replace(TINY, image_px=16, samples=12, encoder_channels=(8, 8))
    prost = ProST(options, ReferenceView(ap_pose(aim, 700.0), aim, camera), volume)
    starts, truth = random_poses(4, aim), random_poses(4, aim)
    images = project(make_renderer(volume), truth, camera)[:, None]
    mask, optimiser = torch.ones(4, 16, 16, dtype=torch.bool), torch.optim.Adam(prost.parameters(), 5e-3)
    losses = []
    for _ in range(40):
        loss = directions(prost.problem(prost.projector(), images, mask).at, starts, truth, aim, LENGTH_MM).loss()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
