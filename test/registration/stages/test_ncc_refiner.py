"""`NCCRefiner`: refinement from sums alone ends where the optimiser that stops early ends, in one graph."""

import pytest
import torch
from helpers.registration_world import bony_volume
from torch.fx.experimental.proxy_tensor import make_fx

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, se3
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.registration.stages.ncc_refiner import GramObjective, NCCRefiner
from fluoro_reg.rendering import AbstractRenderer, NumbaRenderer, TorchRenderer, TritonRenderer, project

CAMERA = CameraIntrinsics(width=40, height=36, fx=170.0, fy=165.0, cx=19.0, cy=18.2, source_to_detector_mm=1000.0)
VOLUME = bony_volume().downsampled((2, 2, 2))
PIVOT = VOLUME.centre_patient


@pytest.fixture(scope="module")
def truth() -> RigidTransform:
    rotation = se3.exp(torch.tensor([0.0, 0, 0, 1.5, 0.1, -0.2], dtype=torch.float64)).rotation
    return RigidTransform(rotation, torch.tensor([3.0, -5, 700], dtype=torch.float64) - rotation @ PIVOT)


@pytest.fixture(scope="module")
def starts(truth: RigidTransform) -> RigidTransform:
    twists = torch.tensor([[4.0, -3, 6, 0.03, -0.05, 0.02], [-5.0, 6, -8, -0.04, 0.02, 0.05]], dtype=torch.float64)
    return RigidTransform.stack([retract(truth, twist, PIVOT) for twist in twists])


def xray(truth: RigidTransform) -> torch.Tensor:
    return 3.0 * project(TorchRenderer(VOLUME, dtype=torch.float64), truth, CAMERA).float() + 5.0


def test_every_start_ends_at_the_truth(truth: RigidTransform, starts: RigidTransform) -> None:
    refiner = NCCRefiner(NumbaRenderer(VOLUME), CAMERA, PIVOT, batch=2, optimiser=LevenbergMarquardt(iterations=14))
    poses, cost, _ = refiner.refine(starts, xray(truth), torch.ones(CAMERA.height, CAMERA.width))
    error = se3.local(RigidTransform.stack([truth, truth]), poses, PIVOT)
    assert float(se3.local(RigidTransform.stack([truth, truth]), starts, PIVOT)[:, :3].norm(dim=-1).min()) > 5
    assert float(error[:, :3].norm(dim=-1).max()) < 0.05
    assert float(cost.max()) < 1e-5


def test_a_fixed_number_of_rounds_gives_what_stopping_early_gives(truth: RigidTransform, starts: RigidTransform) -> None:
    optimiser, weight = LevenbergMarquardt(iterations=12), torch.ones(CAMERA.height, CAMERA.width)
    both = NCCRefiner(NumbaRenderer(VOLUME), CAMERA, PIVOT, batch=2, optimiser=optimiser).refine(starts, xray(truth), weight)
    for n in range(2):
        alone = NCCRefiner(NumbaRenderer(VOLUME), CAMERA, PIVOT, optimiser=optimiser)
        alone.refine(starts[n : n + 1], xray(truth), weight)
        objective: GramObjective = alone._objective
        at, here, stopped = optimiser.minimise(objective, objective.evaluate(starts[n : n + 1]))
        torch.testing.assert_close(both[0].translation[n], at.poses.translation[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(both[0].rotation[n], at.poses.rotation[0], rtol=0, atol=1e-8)
        torch.testing.assert_close(both[1][n], here.cost[0], rtol=1e-6, atol=1e-9)
        assert bool(both[2][n]) == bool(stopped[0])


def test_pixels_without_weight_have_no_influence(truth: RigidTransform, starts: RigidTransform) -> None:
    image, weight = xray(truth), torch.ones(CAMERA.height, CAMERA.width)
    image[10:20, 5:15], weight[10:20, 5:15] = 1e4, 0.0
    refiner = NCCRefiner(NumbaRenderer(VOLUME), CAMERA, PIVOT, optimiser=LevenbergMarquardt(iterations=14))
    poses, _, _ = refiner.refine(starts[:1], image, weight)
    assert float(se3.local(truth, poses[0], PIVOT)[:3].norm()) < 0.05


def triton() -> AbstractRenderer:
    pytest.importorskip("triton")
    return TritonRenderer(VOLUME)


def test_all_rounds_are_one_graph_without_a_host_read(truth: RigidTransform, starts: RigidTransform) -> None:
    """A CUDA graph allows no decision on the content of a tensor: traced with tensors that have none."""
    refiner = NCCRefiner(triton(), CAMERA, PIVOT, batch=2, optimiser=LevenbergMarquardt(iterations=3))
    objective = refiner._objective

    def run(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
        start = objective.evaluate(RigidTransform(rotation, translation))
        return refiner.optimiser.minimise_unrolled(objective, start)[0].poses.translation

    graph = make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)(
        *(t.to(objective.pivot.device) for t in (starts.rotation, starts.translation))
    )
    launches = [node for node in graph.graph.nodes if "fluoro_reg.gram" in str(node.target)]
    assert len(launches) == 4
    assert not [
        node for node in graph.graph.nodes if "lift_fresh" in str(node.target)
    ]  # a constant of Python's, copied each time


def test_nothing_to_compare_is_not_a_success(truth: RigidTransform, starts: RigidTransform) -> None:
    refiner = NCCRefiner(NumbaRenderer(VOLUME), CAMERA, PIVOT)
    whole = torch.ones(CAMERA.height, CAMERA.width)
    beside = RigidTransform(starts.rotation[:1], starts.translation[:1] + torch.tensor([900.0, 0.0, 0.0], dtype=torch.float64))
    for pose, weight in ((beside, whole), (starts[:1], 0 * whole)):
        _, cost, converged = refiner.refine(pose, xray(truth), weight)
        assert torch.isinf(cost).all()
        assert not converged.any()


def test_a_large_offset_does_not_cost_precision(truth: RigidTransform, starts: RigidTransform) -> None:
    refiner = NCCRefiner(NumbaRenderer(VOLUME), CAMERA, PIVOT, optimiser=LevenbergMarquardt(iterations=14))
    weight = torch.ones(CAMERA.height, CAMERA.width)
    poses, cost, _ = refiner.refine(starts[:1], 1000 * xray(truth) + 30000.0, weight)
    assert float(se3.local(truth, poses[0], PIVOT)[:3].norm()) < 0.05
    assert 0 <= float(cost[0]) < 1e-4


@pytest.mark.gpu
def test_the_captured_graph_gives_the_result_of_its_operations(truth: RigidTransform, starts: RigidTransform) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: the captured graph was not run")
    captured = NCCRefiner(triton(), CAMERA, PIVOT, batch=2)
    other = retract(truth, torch.tensor([2.0, 1, -3, 0.01, 0.02, 0], dtype=torch.float64), PIVOT)
    weight = torch.ones(CAMERA.height, CAMERA.width).cuda()
    for pose, start in ((truth, starts), (other, starts[[1, 0]])):  # the second call replays the graph with other contents
        replayed = captured.refine(start, xray(pose).cuda(), weight)
        one_by_one = captured._run()
        torch.testing.assert_close(replayed[0].translation, one_by_one[0].translation, rtol=0, atol=1e-9)
        torch.testing.assert_close(replayed[0].rotation, one_by_one[0].rotation, rtol=0, atol=1e-12)
        assert torch.equal(replayed[2], one_by_one[2])
        errors = se3.local(RigidTransform.stack([pose, pose]), replayed[0].to("cpu"), PIVOT)
        assert float(errors[:, :3].norm(dim=-1).max()) < 0.2  # float32 sums determine the depth no better
