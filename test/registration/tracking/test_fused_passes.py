"""The fused passes against their float64 twins, and against finite differences of their own cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.stages.objective import PoseObjective
from fluoro_reg.registration.tracking.passes import fused_pass_of, has_fused_pass
from fluoro_reg.registration.tracking.reference import reference_system
from fluoro_reg.registration.tracking.refine import FrameRefiner, without_fit
from fluoro_reg.rendering import TorchRenderer, TritonRenderer
from fluoro_reg.similarity import RESIDUAL_SIMILARITIES, GradientNCC, PatchNCC
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

FIT = np.array([11.0, -0.02])
PASSES = {"gradient-ncc": GradientNCC(), "patch-ncc": PatchNCC(patch=16)}


@pytest.fixture(scope="module")
def scene(world):
    return _scene(world, 100)


@pytest.fixture(scope="module")
def coarse_scene(world):
    """For what renders often, in float64 or in Triton's slow interpreter."""
    return _scene(world, 40)


def _scene(world, object_px):
    registrar = Registrar(world.volume, RegistrationOptions())
    reading = registrar.readings.whole
    near = se3.retract(world.truth, torch.tensor([1.0, -0.7, 1.5, 0.01, -0.02, 0.01], dtype=torch.float64), reading.model.pivot)
    scales = reading.scales(preprocess(world.xray(), PreprocessOptions()), near)
    return scales.scale(object_px, RigidTransform.stack([near])), reading.model, near


@pytest.fixture(params=["numba", "triton"])
def either_scene(request, scene, coarse_scene):
    """The scene with the renderer of the CPU, or the coarse one with that of the GPU."""
    if request.param == "numba":
        return scene
    scale, model, pose = coarse_scene
    return replace(scale, renderer=TritonRenderer(scale.renderer.volume)), model, pose


@pytest.fixture(params=[0.0, 0.4], ids=["line integrals", "saturation"])
def model(request, scene):
    return replace(scene[1], saturation=request.param)


def _pixels(scale):
    """A weight with a hole, and with steps, so that a wrong row or column shows."""
    pixels = scale.usable[0].clone()
    height, width = pixels.shape
    pixels[height // 5 : height // 3, width // 3 : width // 2] = 0
    return pixels * torch.linspace(0.5, 1.5, pixels.shape[0])[:, None]


def _exact(scale):
    volume = replace(scale.renderer.volume, attenuation=scale.renderer.volume.attenuation.double())
    return replace(scale, renderer=TorchRenderer(volume, dtype=torch.float64), fixed=scale.fixed.double())


def _reference(name, scale, model, pose):
    pixels = _pixels(scale).double()
    if name == "gradient-ncc":
        return reference_system(_exact(scale), model, PASSES[name], pixels, pose, torch.from_numpy(FIT))
    objective = PoseObjective(_exact(scale), model, PASSES[name])
    at = objective.evaluate(RigidTransform.stack([pose]))
    return PASSES[name].normal_equations(at.moving, at.jacobian, objective.scale.fixed, pixels[None])


def _relative(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_gives_the_normal_equations_of_its_twin(either_scene, model, name):
    scale, _, pose = either_scene
    fused = fused_pass_of(scale, model, PASSES[name], _pixels(scale))
    system = fused.system(pose, FIT if fused.fit.size else fused.fit)
    expected = _reference(name, scale, model, pose)
    assert system.cost == pytest.approx(float(expected.cost), rel=1e-4)
    gradient, hessian = (np.asarray(value).squeeze() for value in (expected.gradient, expected.hessian))
    for part in (slice(0, 3), slice(3, 6), slice(6, None)):  # mm, rad, fit: each has its own magnitude
        if gradient[part].size:
            assert _relative(system.gradient[part], gradient[part]) < 1e-4
            assert _relative(system.hessian[part, part], hessian[part, part]) < 1e-4


@pytest.mark.parametrize("name", PASSES)
def test_the_gradient_is_the_derivative_of_the_cost(coarse_scene, model, name):
    """In float64 on the twin, where steps can be small: half the central difference of the cost."""
    scale, _, pose = coarse_scene
    pixels, exact = _pixels(scale).double(), _exact(scale)

    def cost_and_gradient(twist):
        moved = se3.retract(pose, twist, model.pivot)
        if name == "gradient-ncc":
            system = reference_system(exact, model, PASSES[name], pixels, moved, torch.from_numpy(FIT))
            return system.cost, system.gradient[:6]
        objective = PoseObjective(exact, model, PASSES[name])
        at = objective.evaluate(RigidTransform.stack([moved]))
        system = PASSES[name].normal_equations(at.moving, at.jacobian, exact.fixed, pixels[None])
        return float(system.cost), system.gradient[0].numpy()

    _, gradient = cost_and_gradient(torch.zeros(6, dtype=torch.float64))
    for n, step in enumerate([1e-5] * 3 + [1e-7] * 3):
        twist = torch.zeros(6, dtype=torch.float64)
        twist[n] = step
        slope = (cost_and_gradient(twist)[0] - cost_and_gradient(-twist)[0]) / (4 * step)
        assert slope == pytest.approx(gradient[n], abs=1e-4 * np.abs(gradient[n // 3 * 3 : n // 3 * 3 + 3]).max())


def test_gain_and_offset_have_derivatives_too(coarse_scene, model):
    scale, _, pose = coarse_scene

    def system(fit):
        return reference_system(_exact(scale), model, GradientNCC(), _pixels(scale).double(), pose, torch.from_numpy(fit))

    for n, step in enumerate((1e-4, 1e-6)):
        change = np.zeros(2)
        change[n] = step
        slope = (system(FIT + change).cost - system(FIT - change).cost) / (4 * step)
        assert slope == pytest.approx(system(FIT).gradient[6 + n], rel=1e-4)


@pytest.mark.parametrize("name", PASSES)
def test_the_number_of_strips_changes_nothing(scene, name, monkeypatch):
    scale, model, pose = scene
    fused = fused_pass_of(scale, model, PASSES[name], _pixels(scale))
    systems = []
    for threads in (1, 2, 7):
        monkeypatch.setattr("fluoro_reg.registration.tracking.passes.THREADS", threads)
        systems.append(fused.system(pose, FIT if fused.fit.size else fused.fit))
    for system in systems[1:]:
        np.testing.assert_allclose(system.hessian, systems[0].hessian, rtol=1e-5, atol=1e-6 * np.abs(systems[0].hessian).max())


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_finds_the_pose(scene, world, name):
    scale, model, pose = scene
    fused = fused_pass_of(scale, model, PASSES[name], scale.usable[0])
    refined = FrameRefiner(fused, model.pivot, 1000.0).refine(pose)
    error = se3.local(world.truth, refined.pose, model.pivot)
    assert refined.converged
    assert error[:3].norm() < 1.0
    assert fused.n_renders <= 8


def test_the_schur_complement_is_the_hessian_of_the_twist_alone(scene):
    scale, model, pose = scene
    system = fused_pass_of(scale, model, GradientNCC(), _pixels(scale)).system(pose, FIT)
    inverse = np.linalg.inv(system.hessian)[:6, :6]
    np.testing.assert_allclose(without_fit(system.hessian) @ inverse, np.eye(6), atol=1e-6)


def test_other_similarities_and_renderers_have_no_pass(either_scene):
    scale, model, _ = either_scene
    assert [name for name, kind in RESIDUAL_SIMILARITIES.items() if has_fused_pass(kind(), scale.renderer)] == list(PASSES)
    for name, kind in RESIDUAL_SIMILARITIES.items():
        assert (fused_pass_of(scale, model, kind(), scale.usable[0]) is not None) == (name in PASSES)
    other = replace(scale, renderer=TorchRenderer(scale.renderer.volume))
    whole_image = PatchNCC(patch=0)
    assert has_fused_pass(whole_image, scale.renderer) != isinstance(scale.renderer, TritonRenderer)
    assert fused_pass_of(other, model, GradientNCC(), scale.usable[0]) is None
    assert fused_pass_of(scale, model, GradientNCC(), torch.zeros_like(scale.usable[0])) is None
