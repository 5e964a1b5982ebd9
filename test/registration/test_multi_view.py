"""Several X-rays, one pose: the views complement each other, and each can reject the pose."""

from dataclasses import replace

import pytest
import torch
from helpers.registration_world import World

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import TargetErrors, target_registration_errors
from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions, RegistrationResult
from fluoro_reg.registration.assessment import joint
from fluoro_reg.registration.assessment.covariance import position_covariance
from fluoro_reg.registration.assessment.evidence import similarities
from fluoro_reg.registration.stages.joint import JointRefined
from fluoro_reg.registration.stages.object_model import object_model_of
from fluoro_reg.registration.stages.objective import PoseObjective
from fluoro_reg.registration.stages.pose_metric import PoseMetric, reference_points
from fluoro_reg.registration.stages.refined import Refined
from fluoro_reg.registration.stages.scales import CoarseRenderers, ImageScales, box_corners
from fluoro_reg.registration.stages.solver import ASSESSED_PX
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess
from fluoro_reg.xray.view import CalibratedXray


@pytest.fixture(scope="module")
def registrar(world: World) -> Registrar:
    return Registrar(world.volume, RegistrationOptions())


@pytest.fixture(scope="module")
def side(world: World) -> RigidTransform:
    """`camera_from_patient` of the C-arm rotated by 60 degrees."""
    return view_pose(world.volume.centre_patient, 60.0, 0.0, 0.0, 700.0)


@pytest.fixture(scope="module")
def views(world: World, side: RigidTransform) -> list[CalibratedXray]:
    identity = RigidTransform.identity()
    return [CalibratedXray(world.xray(), identity), CalibratedXray(world.xray(pose=side), side @ world.truth.inverse())]


def start(world: World, seed: int) -> RigidTransform:
    generator = torch.Generator().manual_seed(seed)
    return perturb_to_mtre(world.truth, world.landmarks_patient, 15.0, world.volume.centre_patient, generator)


def errors(result: RegistrationResult, world: World) -> TargetErrors:
    assert result.accepted, result.reason
    return target_registration_errors(result.camera_from_patient, world.truth, world.landmarks_patient)


def test_a_second_view_from_the_side_determines_the_depth(
    world: World, registrar: Registrar, views: list[CalibratedXray]
) -> None:
    depth_alone, depth_together = 0.0, 0.0
    for seed in range(3):
        alone = registrar.register(views[0].image, start(world, seed))
        together = registrar.register_views(views, start(world, seed))
        depth_alone += errors(alone, world).depth_mm
        depth_together += errors(together, world).depth_mm
        assert errors(together, world).mtre_mm < 0.5
        doubt = [
            float(position_covariance(r.covariance, r.camera_from_patient, world.volume.centre_patient)[2, 2].sqrt())
            for r in (alone, together)
        ]
        assert doubt[1] < doubt[0] / 2
    assert depth_together < depth_alone / 2


def test_the_pose_of_one_view_is_in_the_reference_frame(world: World, registrar: Registrar, side: RigidTransform) -> None:
    """The camera is rotated by 60 degrees from the reference, in which pose, covariance and alternatives are given."""
    view = CalibratedXray(world.xray(pose=side), side @ world.truth.inverse())
    result = registrar.register_views([view], start(world, 0))
    assert result.reason.startswith("view 1: ")
    error = target_registration_errors(result.camera_from_patient, world.truth, world.landmarks_patient)
    assert error.mtre_mm < 2.0


def test_one_view_alone_is_a_registration_of_that_view(world: World, registrar: Registrar, views: list[CalibratedXray]) -> None:
    alone = registrar.register(views[0].image, start(world, 0))
    result = registrar.register_views(views[:1], start(world, 0))
    apart = target_registration_errors(result.camera_from_patient, alone.camera_from_patient, world.landmarks_patient)
    assert apart.in_plane_mm < 0.05
    assert apart.depth_mm < 0.5
    assert result.outcome is alone.outcome


def test_the_reference_may_be_any_frame(world: World, registrar: Registrar, views: list[CalibratedXray]) -> None:
    tracker_from_camera = view_pose(torch.tensor([100.0, -300.0, 50.0], dtype=torch.float64), -20.0, 35.0, 5.0, 900.0)
    moved = [replace(v, camera_from_reference=v.camera_from_reference @ tracker_from_camera.inverse()) for v in views]
    result = registrar.register_views(moved, tracker_from_camera @ start(world, 1))
    assert result.accepted, result.reason
    back = tracker_from_camera.inverse() @ result.camera_from_patient
    assert target_registration_errors(back, world.truth, world.landmarks_patient).mtre_mm < 0.5


def test_a_view_that_contradicts_the_others_stops_them(world: World, registrar: Registrar, views: list[CalibratedXray]) -> None:
    slipped = torch.tensor(
        [0.0, 14.0, 0.0, 0.08, 0.0, 0.0], dtype=torch.float64
    )  # the second camera is not where it is said to be
    wrong = [views[0], replace(views[1], camera_from_reference=se3.exp(slipped) @ views[1].camera_from_reference)]
    result = registrar.register_views(wrong, start(world, 0))
    assert not result.accepted
    assert result.reason.startswith("view ")


def test_an_unusable_view_is_named(world: World, registrar: Registrar, views: list[CalibratedXray]) -> None:
    blank = replace(views[1].image, pixels=torch.full_like(views[1].image.pixels, 100.0))
    result = registrar.register_views([views[0], replace(views[1], image=blank)], start(world, 0))
    assert result.outcome is Outcome.REJECTED_IMAGE
    assert result.reason.startswith("view 2: ")


def test_an_impossible_initial_pose_names_its_view(world: World, registrar: Registrar, views: list[CalibratedXray]) -> None:
    far = RigidTransform(world.truth.rotation, world.truth.translation + torch.tensor([0.0, 0.0, 5000.0], dtype=torch.float64))
    result = registrar.register_views(views, far)
    assert result.outcome is Outcome.REJECTED_POSE
    assert "view 1: the initial pose puts the CT" in result.reason


def test_no_view_is_an_error(world: World, registrar: Registrar) -> None:
    with pytest.raises(InputError, match="needs at least one"):
        registrar.register_views([], start(world, 0))


def test_another_pose_is_an_alternative_unless_one_view_tells_it_apart(
    world: World, registrar: Registrar, views: list[CalibratedXray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lead over the alternative in one view is enough; without a lead in any view the pose is ambiguous."""
    scores_of_rival: list[float] = []

    def scored(refined: Refined) -> torch.Tensor:
        honest = similarities(refined)
        if len(honest) == 1:
            return honest  # the first pose, alone
        scores_of_rival.append(scores_of_rival.pop(0))  # a view after the other
        return torch.tensor([0.9, scores_of_rival[0]], dtype=torch.float64)

    truth = RigidTransform.stack([world.truth, world.truth])
    refined, metric = refined_at(views, truth, world)
    monkeypatch.setattr(joint, "similarities", scored)
    for given, accepted in (([0.9, 0.899], False), ([0.9, 0.5], True)):
        scores_of_rival[:] = given
        verdict, _ = joint.assess_jointly(refined, metric, registrar.options.gate)
        assert (verdict.outcome is Outcome.CONVERGED) == accepted
        assert verdict.outcome in (Outcome.CONVERGED, Outcome.AMBIGUOUS)


def refined_at(views: list[CalibratedXray], poses: RigidTransform, world: World) -> tuple[JointRefined, PoseMetric]:
    """Given poses as if they had been refined, and the metric of their distances."""
    renderers = CoarseRenderers(world.volume, "cpu")
    corners = box_corners(world.volume, renderers.extent)
    model = object_model_of(world.volume, "auto", "auto", corners.mean(0))
    refined = []
    for view in views:
        image = preprocess(view.image, PreprocessOptions()).image
        seen = view.camera_from_reference @ poses
        scales = ImageScales(image, seen[0], renderers, corners, model)
        objective = PoseObjective(scales.scale(ASSESSED_PX, seen), model, GradientNCC())
        at = objective.evaluate(seen)
        refined.append(Refined(objective, at, objective.linearise(at), torch.ones(len(poses.rotation), dtype=torch.bool)))
    return JointRefined(poses, tuple(refined)), PoseMetric(reference_points(corners))


def test_a_pose_that_goes_to_and_fro_at_the_optimum_has_converged(
    world: World, registrar: Registrar, views: list[CalibratedXray]
) -> None:
    """Where the pixels that count alternate, no tolerance is met, although every step is a hundredth of a millimetre."""
    side_from_first, direction = views[1].camera_from_reference, torch.tensor([1.0, -0.6, 0.8, 0.002, 0.001, -0.002])
    for n in (1, 2):
        truth = se3.retract(world.truth, n * direction.double(), world.volume.centre_patient)
        first, second = world.xray(pose=truth), world.xray(pose=side_from_first @ truth)
        pair = [replace(views[0], image=first), replace(views[1], image=second)]
        result = registrar.register_views(pair, world.truth)
        assert result.accepted, result.reason
        found = target_registration_errors(result.camera_from_patient, truth, world.landmarks_patient)
        assert found.mtre_mm < 0.1
