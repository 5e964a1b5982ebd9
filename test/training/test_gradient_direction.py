"""The double-backward loss: agreement and opposition, the distance against scipy, second derivatives, and training."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from scipy.spatial.transform import Rotation

from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.learned import LearnedProblem, ProST, ProSTOptions, Spherical, SphericalOptions
from fluoro_reg.learned.similarity import attach_pose_gradient
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import make_renderer, project, project_features
from fluoro_reg.training.gradient_direction import LENGTH_MM, Comparison, direction_cosines, squared_geodesic
from fluoro_reg.training.pairs import Pairs

TINY = ProSTOptions(image_px=8, voxel_mm=32.0, samples=6, volume_channels=1, encoder_channels=(4,), embedding_size=6)
CAMERA = CameraIntrinsics(8, 8, 27.2, 27.2, 3.5, 3.5, 1020.0)


def random_poses(count: int, pivot: torch.Tensor) -> RigidTransform:
    twists = torch.randn(count, 6, dtype=torch.float64) * torch.tensor([20.0] * 3 + [0.3] * 3)
    return retract(RigidTransform.stack([ap_pose(pivot, 700.0)] * count), twists, pivot)


def tiny(volume: CTVolume) -> ProST:
    torch.manual_seed(1)
    aim = volume.centre_patient
    return ProST(TINY, ReferenceView(ap_pose(aim, 700.0), aim, CAMERA), volume).double()


def test_the_distance_is_scipys_angle_and_the_pivots_translation():
    pivot = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)
    a, b = random_poses(5, pivot), random_poses(5, pivot)
    rotation = Rotation.from_matrix(a.rotation.numpy()).inv() * Rotation.from_matrix(b.rotation.numpy())
    translation = (a.rotation @ pivot + a.translation - b.rotation @ pivot - b.translation) / LENGTH_MM
    expected = torch.from_numpy(rotation.magnitude()) ** 2 + translation.square().sum(-1)
    torch.testing.assert_close(squared_geodesic(a, b, pivot), expected)


def gradient_of(values, starts: RigidTransform, pivot: torch.Tensor) -> torch.Tensor:
    """The gradient of values with respect to a twist about the pivot, with its graph."""
    twist = torch.zeros(len(starts.translation), 6, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(values(retract(starts, twist, pivot)).sum(), twist, create_graph=True)[0]


@pytest.mark.parametrize(("sign", "loss", "cosine"), [(1, 0.0, 1.0), (-1, 8.0, -1.0)])
@pytest.mark.parametrize("depth_weight", [1.0, 4.0])
def test_the_loss_is_0_where_gradients_agree_and_8_where_they_are_opposite(sign, loss, cosine, depth_weight):
    """Any increasing function of the distance has gradients in the same direction, whatever its scale."""
    pivot = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)
    truth, starts = random_poses(6, pivot), random_poses(6, pivot)
    gradients = gradient_of(lambda poses: sign * 1e-3 * torch.expm1(squared_geodesic(poses, truth, pivot)), starts, pivot)
    found = direction_cosines(gradients.detach(), starts, truth, pivot, depth_weight)
    assert float(found.loss()) == pytest.approx(loss, abs=1e-9)
    for part in (found.rotation, found.translation):
        torch.testing.assert_close(part, torch.full_like(part, cosine))


def test_rotation_and_translation_have_separate_cosines():
    """A gradient that is 60 degrees off in rotation and 90 degrees off in translation."""
    pivot = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)
    start = RigidTransform.stack([ap_pose(pivot, 700.0)])
    moved = retract(start, torch.tensor([[30.0, 0, 0, 0, 0, 0]], dtype=torch.float64), pivot)
    truth = retract(moved, torch.tensor([[0, 0, 0, 0, 0.2, 0]], dtype=torch.float64), pivot)
    slope = torch.tensor([[0.0, 0.0, 5.0, -(0.75**0.5), -0.5, 0.0]], dtype=torch.float64)
    found = direction_cosines(slope, start, truth, pivot)
    assert float(found.rotation) == pytest.approx(0.5)
    assert float(found.translation) == pytest.approx(0.0, abs=1e-9)
    assert float(found.loss()) == pytest.approx(3.0)


def test_a_longer_unit_of_depth_gives_its_error_more_weight():
    """30 mm in the image plane and 30 mm in depth, with a gradient that ignores depth: 45 degrees off, or more."""
    pivot = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)
    start = RigidTransform.stack([ap_pose(pivot, 700.0)])
    camera = torch.tensor([[30.0, 0.0, 30.0]], dtype=torch.float64)
    truth = RigidTransform(start.rotation, start.translation + camera)
    across = (start.rotation.mT @ torch.tensor([-1.0, 0, 0], dtype=torch.float64)).expand(1, 3)
    gradients = torch.cat([across, torch.ones(1, 3, dtype=torch.float64)], dim=1)
    for weight, cosine in ((1.0, 0.5**0.5), (3.0, 0.1**0.5)):
        assert float(direction_cosines(gradients, start, truth, pivot, weight).translation) == pytest.approx(cosine)


def test_second_derivatives_through_projector_encoders_and_loss(volume):
    """A gradcheck of the loss checks the mixed derivative with respect to pose and weights, which it changes in place."""
    prost, pivot = tiny(volume), volume.centre_patient
    start, truth = random_poses(1, pivot), random_poses(1, pivot)
    images = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    names = ("moving_encoder.trunk.0.1.bias", "fixed_encoder.head.mlp.2.bias")
    factor, field = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.rand(prost.bone.shape, dtype=torch.float64)
    weights = (factor, *(prost.get_parameter(name) for name in names))

    def projector():
        return partial(prost._project, prost.volume_network(prost.bone) + factor * field)

    def at(twist: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        image = project_features(prost.volume_network(prost.bone) + factor * field, prost.voxels, moved(twist), CAMERA, 6)
        return prost.metric.residuals(prost.embed_moving(image), prost.embed_fixed(images)).square().sum(-1)

    def moved(twist: torch.Tensor) -> RigidTransform:
        return retract(start, twist * torch.tensor([LENGTH_MM] * 3 + [1.0] * 3), pivot)

    def loss(*_: torch.Tensor) -> torch.Tensor:
        only = torch.zeros(1, dtype=torch.long)
        compared = Comparison.of_pairs(prost, projector(), start, prost.embed_fixed(images), only, only)
        return direction_cosines(compared.gradients, start, truth, pivot).loss()

    twist = torch.full((1, 6), 1e-3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(at, (twist, *weights), eps=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(loss, weights, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", ["prost", "spherical"])
def test_gradients_of_all_pairs_agree_with_double_backward_of_each_pair(volume, kind):
    """Value, gradient with respect to the pose, and its derivative with respect to the weights, against the papers' method."""
    pivot, reference = (
        volume.centre_patient,
        ReferenceView(ap_pose(volume.centre_patient, 700.0), volume.centre_patient, CAMERA),
    )
    torch.manual_seed(1)
    if kind == "prost":
        network = ProST(TINY, reference, volume)
    else:
        network = Spherical(SphericalOptions(embedding_size=8, width=8, heads=2, layers=1), reference, volume)
    network, made = network.double(), network.make_projector()

    def projector(poses: RigidTransform) -> tuple[torch.Tensor, torch.Tensor]:
        image, by_twist = made(RigidTransform(poses.rotation.detach(), poses.translation.detach()))
        return attach_pose_gradient((image.double(), by_twist.double()), poses, pivot)

    starts, images = random_poses(2, pivot), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    rows, columns = Pairs(images, starts, starts).all_pairs()
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == list(itertools.product(range(2), range(3)))
    compared = Comparison.of_pairs(network, projector, starts, network.embed_fixed(images), rows, columns)
    probe = torch.randn(6, dtype=torch.float64) * torch.tensor([30.0] * 3 + [0.3] * 3)
    weights = [p for p in network.parameters() if p is not network.calibration.log_per_mm]
    found = torch.autograd.grad((compared.gradients @ probe).sum(), weights, retain_graph=True)
    problems = [LearnedProblem(network, projector, network.embed_fixed(images[n : n + 1])) for n in range(3)]
    expected, slopes = [], []
    for start, image in zip(rows.tolist(), columns.tolist(), strict=True):
        expected.append(problems[image].values_at(starts[start : start + 1]))
        slopes.append(gradient_of(problems[image].values_at, starts[start : start + 1], pivot))
    torch.testing.assert_close(compared.values, torch.cat(expected))
    torch.testing.assert_close(compared.gradients, torch.cat(slopes))
    by_backward = torch.autograd.grad((torch.cat(slopes) @ probe).sum(), weights)
    scale = max(float(part.abs().max()) for part in by_backward)
    for one, other in zip(found, by_backward, strict=True):
        assert float((one - other).abs().max()) < 1e-8 * scale


def test_the_loss_decreases_in_a_few_steps(volume):
    """On four pairs of a small CT, with the projected CT as the X-ray: from chance level to half of it."""
    aim = volume.centre_patient
    camera = CameraIntrinsics(16, 16, 54.4, 54.4, 7.5, 7.5, 1020.0)
    options = replace(TINY, image_px=16, samples=12, encoder_channels=(8, 8))
    prost = ProST(options, ReferenceView(ap_pose(aim, 700.0), aim, camera), volume)
    starts, truth = random_poses(4, aim), random_poses(4, aim)
    images = project(make_renderer(volume, "cpu"), truth, camera)[:, None]
    optimiser = torch.optim.Adam(prost.parameters(), 5e-3)
    losses = []
    for _ in range(40):
        own = torch.arange(4)
        compared = Comparison.of_pairs(prost, prost.make_projector(), starts, prost.embed_fixed(images), own, own)
        loss = direction_cosines(compared.gradients, starts, truth, aim).loss()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
