"""The joint problem of all bodies: its gradient is that of its cost, joints included, and a joint pulls a body to its mean."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.registration.bodies.scene import SeenView
from fluoro_reg.registration.bodies.together import FoundTogether, SceneObjective, scene_view
from fluoro_reg.registration.bodies.uncertainty import body_covariances
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess


@pytest.fixture(scope="module")
def problem(patient, registrar):
    view = patient.view()
    moved = patient.moved(view, {"femur_left": (1.0, 1.0, 0.0, 4.0, -3.0, 2.0)})
    seen = SeenView(preprocess(patient.xray(view, moved), PreprocessOptions()), RigidTransform.identity())
    poses = {body.name: view for body in registrar.bodies}
    objective = SceneObjective(
        registrar.bodies, (scene_view(registrar.bodies, seen, poses, 96),), GradientNCC(robust_scale=float("inf"))
    )
    generator = torch.Generator().manual_seed(2)
    apart = [RigidTransform.stack([retract(view, _twist(generator), body.pivot)]) for body in registrar.bodies]
    return objective, apart


def _twist(generator):
    return torch.randn(6, generator=generator, dtype=torch.float64) * torch.tensor([1.0] * 3 + [0.01] * 3)


def test_the_gradient_is_that_of_the_cost(problem):
    objective, poses = problem
    at = objective.evaluate(poses)
    here = objective.linearise(at)
    assert float(objective.cost(at, here)[0]) == pytest.approx(float(here.cost[0]), rel=1e-5)
    for p in range(here.gradient.shape[-1]):
        step = torch.zeros(1, here.gradient.shape[-1], dtype=torch.float64)
        step[0, p] = 0.05 if p % 6 < 3 else 5e-4
        ahead, behind = (float(objective.cost(objective.retract(at, sign * step), here)[0]) for sign in (1, -1))
        slope = 2 * float((here.gradient[0] * step[0]).sum())
        scale = float((here.hessian[0].diagonal().sqrt() * step[0]).sum())
        assert (ahead - behind) / 2 == pytest.approx(slope, abs=0.06 * scale), p


def test_the_compiled_equations_of_windows_are_those_of_whole_images(problem):
    objective, poses = problem
    at = objective.evaluate(poses)
    for similarity in (GradientNCC(), GradientNCC(robust_scale=float("inf"))):
        (seen,), view, weight = objective.scenes(at), objective.views[0], objective.scenes(at)[0].compared.weight[None]
        compiled = replace(objective, similarity=similarity)
        equations, cost = compiled._image_equations(seen), compiled._image_cost(seen, seen.compared)
        jacobian = torch.zeros(1, *seen.moving.shape, 6 * len(objective.bodies))
        for n, image in enumerate(seen.images):
            rows, columns = image.window.pixels
            jacobian[0, rows, columns, 6 * n : 6 * n + 6] = image.jacobian.movedim(0, -1)
        whole = similarity.normal_equations(seen.moving[None], jacobian, view.fixed, weight)
        scale = whole.hessian[0].diagonal().sqrt()
        assert float(equations.cost[0]) == pytest.approx(float(whole.cost[0]), rel=1e-4)
        assert cost == pytest.approx(float(whole.cost[0]), rel=1e-4)
        assert float(((equations.gradient - whole.gradient)[0] / scale).abs().max()) < 1e-4
        assert float(((equations.hessian - whole.hessian)[0] / scale / scale[:, None]).abs().max()) < 1e-3


def test_a_body_is_rendered_anew_only_if_it_has_moved_visibly(problem):
    objective, poses = problem
    fresh = replace(objective)
    at, bodies = fresh.evaluate(poses), len(poses)
    assert fresh.n_renders == bodies
    step = torch.zeros(1, 6 * bodies, dtype=torch.float64)
    step[0, 6] = 0.05
    near = fresh.retract(at, step)
    assert fresh.n_renders == bodies
    assert fresh.scenes(near)[0].compared is fresh.scenes(at)[0].compared
    step[0, 6] = 5.0
    away = fresh.retract(at, step)
    assert fresh.n_renders == bodies + 1
    rendered = replace(objective)
    (seen,) = rendered.scenes(rendered.evaluate(away.poses))
    assert torch.allclose(fresh.scenes(away)[0].moving, seen.moving, atol=1e-6 * float(seen.moving.max()))
    assert torch.equal(fresh.scenes(away)[0].compared.weight, seen.compared.weight)
    fresh.retract(at, 0.01 * step)  # the images of the best poses are kept beside those of a trial
    assert fresh.n_renders == bodies + 1


def test_a_body_out_of_the_image_has_no_part_in_the_equations(patient, registrar):
    view = patient.view()
    seen = SeenView(preprocess(patient.xray(view, {}), PreprocessOptions()), RigidTransform.identity())
    away = torch.tensor([2000.0, 0.0, 0.0], dtype=torch.float64)
    poses = {body.name: view for body in registrar.bodies}
    scene = scene_view(registrar.bodies, seen, poses, 96)
    at = [RigidTransform.stack([view]) for _ in registrar.bodies]
    at[1] = RigidTransform(at[1].rotation, at[1].translation + away)
    objective = SceneObjective(registrar.bodies, (scene,), GradientNCC())
    here = objective.linearise(objective.evaluate(at))
    assert not bool(here.image_hessian[0, 6:12].any()) and bool(here.image_hessian[0, 12:18].any())


def test_a_parent_that_moves_takes_the_expected_pose_along(registrar):
    joint, body, parent = registrar.bodies[1].joint, registrar.bodies[1], registrar.bodies[0]
    pose = retract(RigidTransform.identity(), torch.tensor([3.0, 1.0, 2.0, 0.1, -0.2, 0.05], dtype=torch.float64), parent.pivot)
    small = torch.tensor([1e-4, 2e-4, -1e-4, 1e-5, 3e-5, -2e-5], dtype=torch.float64)
    moved = retract(pose, small, parent.pivot)
    by_twist = retract(pose, joint.from_parent(body.pivot, parent.pivot) @ small, body.pivot)
    assert torch.allclose(moved.matrix(), by_twist.matrix(), atol=1e-8)


def test_other_bodies_that_may_move_make_a_body_less_certain(problem, registrar):
    objective, poses = problem
    here = objective.linearise(objective.evaluate(poses))
    found = FoundTogether({b.name: pose[0] for b, pose in zip(registrar.bodies, poses, strict=True)}, here, True, 0)
    image_hessian, gradient = here.image_hessian[:, :6, :6], here.gradient[:, :6]
    first = replace(found, equations=replace(here, image_hessian=image_hessian, hessian=image_hessian, gradient=gradient))
    costs = dict.fromkeys(found.poses, 0.3)
    together = body_covariances(_without_joints(registrar.bodies), found, RigidTransform.identity(), costs)["pelvis"]
    alone = body_covariances(registrar.bodies[:1], first, RigidTransform.identity(), costs)["pelvis"]
    gained = torch.linalg.eigvalsh(together - alone)
    assert float(gained[0]) > -1e-6 * float(gained[-1]) and float(gained[-1]) > 0


def _without_joints(bodies):
    """Joints so loose that they tell nothing: with them, a parent may be more certain than alone."""
    loose = [replace(body.joint, information=1e-9 * body.joint.information) for body in bodies[1:]]
    return (bodies[0], *(replace(body, joint=joint) for body, joint in zip(bodies[1:], loose, strict=True)))
