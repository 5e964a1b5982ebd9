"""`GradientRefiner`: a stage that stays on the device ends where the stage with images on the host ends."""

from dataclasses import replace

import pytest
import torch
from helpers.registration_world import bony_volume
from torch.fx.experimental.proxy_tensor import make_fx

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, se3
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.stages.device_objective import clip_limit
from fluoro_reg.registration.stages.device_sums import gradient_sums_by_kernel, gradient_sums_in_torch
from fluoro_reg.registration.stages.gradient_refiner import GradientRefiner
from fluoro_reg.registration.stages.masks import (
    Extent,
    complete_rays,
    complete_rays_in_torch,
    dilated,
    dilated_in_torch,
    eroded,
)
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import PoseObjective, Scale, image_evidence
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.rendering import NumbaRenderer, TritonRenderer, project
from fluoro_reg.rendering.rays import rays_of_views
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.similarity.kernels import image_gradients
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

CAMERA = CameraIntrinsics(width=52, height=46, fx=190.0, fy=185.0, cx=25.0, cy=22.2, source_to_detector_mm=1000.0)
VOLUME = bony_volume().downsampled((2, 2, 2))
PIVOT = VOLUME.centre_patient
SIMILARITY = GradientNCC()
UNCLIPPED = GradientNCC(clip=1.0)
MODELS = {
    "body": ObjectModel(PIVOT, "full", 0.0),
    "object": ObjectModel(PIVOT, "moving-support", 0.0),
    "box of metal": ObjectModel(PIVOT, "box", 0.5),
}


@pytest.fixture(scope="module")
def truth() -> RigidTransform:
    rotation = se3.exp(torch.tensor([0.0, 0, 0, 1.5, 0.1, -0.2], dtype=torch.float64)).rotation
    return RigidTransform(rotation, torch.tensor([3.0, -5, 700], dtype=torch.float64) - rotation @ PIVOT)


@pytest.fixture(scope="module")
def starts(truth: RigidTransform) -> RigidTransform:
    twists = torch.tensor(
        [[4.0, -3, 6, 0.03, -0.05, 0.02], [-5.0, 6, -8, -0.04, 0.02, 0.05], [2.0, 2, 20, 0.0, 0.1, 0.0]], dtype=torch.float64
    )
    return RigidTransform.stack([retract(truth, twist, PIVOT) for twist in twists])


def scale_of(truth: RigidTransform, model: ObjectModel, volume: CTVolume = VOLUME) -> Scale:
    """An X-ray with a blur, noise and a hole in its mask."""
    renderer = NumbaRenderer(volume)
    line = project(renderer, truth, CAMERA)
    seen = -torch.expm1(-model.saturation * line) if model.saturation > 0 else line
    noise = torch.randn(line.shape, generator=torch.Generator().manual_seed(2))
    seen = torch.nn.functional.avg_pool2d(seen[None, None], 3, stride=1, padding=1)[0] * 3 + 5 + 0.02 * noise
    mask = torch.ones(line.shape, dtype=torch.bool)
    mask[10:14, 30:36] = False
    return Scale(renderer, CAMERA, seen, eroded(mask), Extent.of(volume), 3.0)


def host_stage(scale, model, optimiser, starts, similarity=SIMILARITY):
    objective = PoseObjective(scale, model, similarity)
    at, here, converged = optimiser.minimise(objective, objective.evaluate(starts))
    return at.poses, image_evidence(at.moving, scale.fixed, here.weight), converged


def device_stage(scale, model, optimiser, starts, similarity=SIMILARITY):
    found = GradientRefiner(scale, model, optimiser, similarity, 4).refine(starts, scale.fixed, scale.usable)
    return found.poses, found.evidence, found.converged


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("similarity", "apart_mm"), [(UNCLIPPED, 0.02), (SIMILARITY, 0.5)], ids=["unclipped", "clipped"])
def test_every_start_ends_where_it_ends_on_the_host(
    truth: RigidTransform, starts: RigidTransform, name: str, similarity: GradientNCC, apart_mm: float
) -> None:
    """A pixel is 4 mm. The quantile at which gradients are clipped is that of other pixels, which moves an optimum a little."""
    model, optimiser = MODELS[name], LevenbergMarquardt(iterations=20)
    scale = scale_of(truth, model)
    assert scale.extent.is_cut
    poses, evidence, converged = device_stage(scale, model, optimiser, starts, similarity)
    on_host, evidence_on_host, converged_on_host = host_stage(scale, model, optimiser, starts, similarity)
    assert float(se3.local(starts, on_host, PIVOT)[:, :3].norm(dim=-1).min()) > 3
    assert float(se3.local(on_host, poses, PIVOT)[:, :3].norm(dim=-1).max()) < apart_mm
    assert torch.equal(converged, converged_on_host)
    if similarity == SIMILARITY:  # the evidence on the host is always that of the default
        torch.testing.assert_close(evidence, evidence_on_host, rtol=0.02, atol=0)


def test_the_first_normal_equations_are_those_of_the_host(truth: RigidTransform, starts: RigidTransform) -> None:
    for model in MODELS.values():
        scale = scale_of(truth, model)
        refiner = GradientRefiner(scale, model, LevenbergMarquardt(), SIMILARITY, 3)
        refiner._fill(starts, scale.fixed, scale.usable)
        found, objective = refiner._begun().equations, PoseObjective(scale, model, SIMILARITY)
        expected = objective.linearise(objective.evaluate(starts))
        assert torch.equal(found.n_pixels, expected.pixels)
        torch.testing.assert_close(found.cost, expected.cost, rtol=1e-6, atol=0)
        for name in ("gradient", "hessian"):
            one, other = getattr(found, name), getattr(expected, name)
            assert float((one - other).abs().max() / other.abs().max()) < 1e-5


def test_a_frame_counts_the_pixels_of_a_window(world) -> None:
    """The shape of a frame does not depend on the poses, so that one graph serves all of them."""
    reading = Registrar(world.volume, RegistrationOptions(device="cpu")).readings.whole
    far = torch.tensor([60.0, 20.0, 700.0], dtype=torch.float64)
    near = RigidTransform(world.truth.rotation, world.truth.translation + far)
    scales = reading.scales(preprocess(world.xray(), PreprocessOptions()), near)
    one = RigidTransform.stack([near])
    window, frame = scales.scale(48, one), scales.framed(48, one, coarse=False)
    whole = scales.scale(48, None)
    assert frame.intrinsics == whole.intrinsics
    assert window.intrinsics != whole.intrinsics
    left, top = (round(getattr(frame.intrinsics, name) - getattr(window.intrinsics, name)) for name in ("cx", "cy"))
    inside = slice(top, top + window.intrinsics.height), slice(left, left + window.intrinsics.width)
    assert torch.equal(frame.usable[0][inside], window.usable[0])
    assert torch.equal(frame.fixed[0][inside], window.fixed[0])
    assert float(frame.usable.sum()) == float(window.usable.sum())
    assert scales.renderer(48) is frame.renderer is window.renderer


@pytest.mark.parametrize("degenerate", ["no contrast", "everything masked", "beside the image"])
def test_nothing_to_compare_is_not_a_success(truth: RigidTransform, starts: RigidTransform, degenerate: str) -> None:
    model, optimiser = MODELS["object"], LevenbergMarquardt(iterations=4)
    scale = scale_of(truth, model)
    if degenerate == "no contrast":
        scale = replace(scale, fixed=torch.full_like(scale.fixed, 7.0))
    if degenerate == "everything masked":
        scale = replace(scale, usable=torch.zeros_like(scale.usable))
    if degenerate == "beside the image":
        aside = torch.tensor([900.0, 0.0, 0.0], dtype=torch.float64)
        starts = RigidTransform(starts.rotation, starts.translation + aside)
    poses, evidence, converged = device_stage(scale, model, optimiser, starts)
    _, evidence_on_host, converged_on_host = host_stage(scale, model, optimiser, starts)
    assert torch.isfinite(poses.translation).all()
    torch.testing.assert_close(evidence, evidence_on_host, rtol=0, atol=0.05)
    assert torch.equal(converged, converged_on_host)
    if degenerate != "no contrast":
        assert not converged.any()
        torch.testing.assert_close(poses.translation, starts.translation)


def test_one_refiner_serves_all_images_of_a_camera(truth: RigidTransform) -> None:
    """Whose initial poses lie at other depths, so that the margin around an object is a fraction of a pixel wider."""
    refiners, optimiser, model = NCCRefiners(PIVOT), LevenbergMarquardt(), MODELS["object"]
    scale = scale_of(truth, model)
    one = refiners.gradient_refiner(replace(scale, margin_px=2.2), model, 3, optimiser, SIMILARITY)
    assert refiners.gradient_refiner(replace(scale, margin_px=2.7), model, 2, optimiser, SIMILARITY) is one
    assert refiners.gradient_refiner(replace(scale, margin_px=3.1), model, 3, optimiser, SIMILARITY) is not one
    assert refiners.gradient_refiner(replace(scale, margin_px=2.2), model, 9, optimiser, SIMILARITY).batch == 16


@pytest.mark.parametrize("name", MODELS)
def test_the_rounds_of_a_graph_have_no_host_read(truth: RigidTransform, starts: RigidTransform, name: str) -> None:
    """A CUDA graph allows no decision on the content of a tensor: traced with tensors that have none."""
    pytest.importorskip("triton")
    scale = replace(scale_of(truth, MODELS[name]), renderer=TritonRenderer(VOLUME))
    refiner = GradientRefiner(scale, MODELS[name], LevenbergMarquardt(iterations=2), SIMILARITY, 4)
    objective = refiner._objective

    def run(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
        refiner._state = refiner.optimiser.begin(objective, objective.start(RigidTransform(rotation, translation)))
        return refiner._advanced()[1]

    poses = RigidTransform.cat([starts, starts[:1]]).to(objective.pivot.device)
    graph = make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)(poses.rotation, poses.translation)
    called = [str(node.target) for node in graph.graph.nodes]
    assert sum("fluoro_reg.march" in one for one in called) == 1 + refiner.rounds
    forbidden = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "unique", "linalg_solve", "linalg_inv")
    assert not [one for one in called if any(word in one for word in forbidden)]
    views = ("slice", "view", "expand", "squeeze", "select", "transpose", "permute", "alias", "constant", "getitem")
    launches = [one for one in called if not any(word in one for word in views)]
    assert len(launches) < 400 * (1 + refiner.rounds)


def test_the_kernel_gives_the_sums_of_torch() -> None:
    pytest.importorskip("triton")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 7, 19, 23, generator=generator)
    target, fit = torch.randn(2, 2, 19, 23, generator=generator), torch.tensor([[1.5, 0.1], [0.7, -0.3]])
    weight = torch.rand(2, 19, 23, generator=generator)
    weight[:, [0, -1]], weight[:, :, [0, -1]], weight[1, 5:9, 5:9] = 0, 0, 0
    for robust_scale in (4.0, float("inf")):
        expected = gradient_sums_in_torch(images, target, weight, fit, robust_scale)
        device = TritonRenderer(VOLUME).device
        found = gradient_sums_by_kernel(*(one.to(device) for one in (images, target, weight, fit)), robust_scale)
        for one, reference in zip(found, expected, strict=True):
            torch.testing.assert_close(one.cpu(), reference, rtol=1e-5, atol=1e-3)


def test_masks_in_torch_are_those_of_the_compiled_kernels(starts: RigidTransform) -> None:
    """Of a volume that is cut at all six faces, so that every axis counts."""
    full = replace(VOLUME, attenuation=torch.full_like(VOLUME.attenuation, 0.02))
    for volume in (VOLUME, full):
        extent = Extent.of(volume)
        rays = rays_of_views(volume, starts, CAMERA)
        expected = complete_rays(volume, extent, starts, CAMERA)
        assert torch.equal(complete_rays_in_torch(rays, extent), expected)
        assert expected.any() or volume is full
    flags = torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(1)) > 0.95
    assert torch.equal(dilated_in_torch(flags, 3), dilated(flags, 3))


@pytest.mark.parametrize("used", [1.0, 0.3, 0.0])
def test_gradients_are_clipped_at_the_quantile_of_the_compiled_sample(used: float) -> None:
    image = torch.randn(90, 110, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(image.shape, generator=torch.Generator().manual_seed(2)) < used
    gradients, sample = image_gradients(image.numpy(), mask.numpy(), 4096)
    limit = float(clip_limit(torch.from_numpy(gradients), mask, 0.98))
    expected = sorted(sample.tolist())[max(1, int(0.98 * len(sample))) - 1] if len(sample) else float("inf")
    assert limit == expected


def test_a_registration_on_the_device_ends_where_it_ends_on_the_host(world, monkeypatch) -> None:
    """The whole method: the stages, and the decoys after them."""
    twist = torch.tensor([6.0, -5.0, 9.0, 0.05, -0.06, 0.04], dtype=torch.float64)
    registrar = Registrar(world.volume, RegistrationOptions(device="cpu"))
    start = retract(world.truth, twist, registrar.readings.whole.model.pivot)
    on_host = registrar.register(world.xray(), start)
    monkeypatch.setattr(Solver, "_stays_on_device", lambda self, object_px, coarse: True)
    found = registrar.register(world.xray(), start)
    assert found.accepted
    assert on_host.accepted
    assert registrar.displacement_mm(found.camera_from_patient, on_host.camera_from_patient) < 0.05
    for name in ("similarity", "patch_similarity", "decoy_similarity"):
        assert found.scores[name] == pytest.approx(on_host.scores[name], abs=0.01)


@pytest.mark.gpu
def test_the_captured_graphs_give_the_result_of_their_operations(truth: RigidTransform, starts: RigidTransform) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: the captured graphs were not run")
    for model in MODELS.values():
        scale = replace(scale_of(truth, model), renderer=TritonRenderer(VOLUME))
        refiner = GradientRefiner(scale, model, LevenbergMarquardt(iterations=20), SIMILARITY, 4)
        on_host = host_stage(replace(scale, renderer=NumbaRenderer(VOLUME)), model, refiner.optimiser, starts)
        for order in ([0, 1, 2], [2, 1, 0]):  # the second call replays the graphs with other contents
            found = refiner.refine(starts[order], scale.fixed, scale.usable)
            moved = se3.local(on_host[0][order], found.poses, PIVOT)
            assert float(moved[:, :3].norm(dim=-1).max()) < 0.5
            assert torch.equal(found.converged, on_host[2][order])
