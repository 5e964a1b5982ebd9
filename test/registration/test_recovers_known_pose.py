"""The whole chain recovers a known pose from a wrong initial pose, and rejects everything that it must reject."""

from dataclasses import replace

import pytest
import torch
from helpers.registration_world import World

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.config import from_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import retract
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions, load_methods
from fluoro_reg.registration.method import Restraint
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.stages.objective import PosePrior


@pytest.fixture(scope="module")
def registrar(world):
    return Registrar(world.volume, RegistrationOptions())


def _start(world, mtre_mm, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return perturb_to_mtre(world.truth, world.landmarks_patient, mtre_mm, world.volume.centre_patient, generator)


@pytest.mark.parametrize("seed", range(3))
def test_initial_poses_20_mm_away_reach_the_truth(world, registrar, seed):
    result = registrar.register(world.xray(), _start(world, 20.0, seed))
    assert result.accepted, result.reason
    errors = target_registration_errors(result.camera_from_patient, world.truth, world.landmarks_patient)
    assert errors.in_plane_mm < 0.5
    assert errors.mtre_mm < 2.0


SLOW = ("xreg",)
WITHOUT_WEIGHTS = [name for name, method in load_methods().items() if method.needs == ("start",)]


@pytest.mark.parametrize("method", [pytest.param(m, marks=pytest.mark.slow if m in SLOW else ()) for m in WITHOUT_WEIGHTS])
def test_every_named_method_refines_a_near_initial_pose(world, method):
    registrar = Registrar(world.volume, from_mapping(RegistrationOptions, {"method": method}))
    result = registrar.register(world.xray(), _start(world, 5.0))
    errors = target_registration_errors(result.camera_from_patient, world.truth, world.landmarks_patient)
    assert errors.in_plane_mm < 0.5
    assert result.method == method


def test_the_same_initial_pose_gives_the_same_result(world, registrar):
    first, second = (registrar.register(world.xray(), _start(world, 12.0)) for _ in range(2))
    assert torch.equal(first.camera_from_patient.matrix(), second.camera_from_patient.matrix())


def test_an_object_that_is_round_about_an_axis_is_not_accepted(world):
    """The image does not show its rotation about that axis, however well everything else fits."""
    k, j, i = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in (70, 50, 50)), indexing="ij")
    cone = (i.square() + j.square()).sqrt() < 12 - k / 5
    attenuation = torch.nn.functional.pad(0.05 * cone.float(), (10,) * 6)
    patient_from_voxel = torch.eye(4, dtype=torch.float64)
    volume = CTVolume(attenuation, patient_from_voxel)
    truth = view_pose(volume.centre_patient, 30.0, 10.0, 0.0, 700.0)
    image = World(volume, world.camera, truth, world.landmarks_patient).xray()
    start = retract(truth, torch.tensor([3.0, -2.0, 1.0, 0.02, 0.01, 0.3], dtype=torch.float64), volume.centre_patient)
    result = Registrar(volume, RegistrationOptions()).register(image, start)
    assert not result.accepted
    assert result.similarity > 0.8


def test_without_an_initial_pose_the_views_of_the_default_range_are_searched(world, registrar):
    result = registrar.register(world.xray(), None)
    assert result.accepted, result.reason
    errors = target_registration_errors(result.camera_from_patient, world.truth, world.landmarks_patient)
    assert errors.in_plane_mm < 0.5
    assert result.initial_camera_from_patient is not None


def test_a_view_outside_the_searched_range_is_rejected(world, registrar):
    lateral = view_pose(world.volume.centre_patient, 90.0, 0.0, 0.0, 700.0)
    assert not registrar.register(world.xray(pose=lateral), None).accepted


def test_the_options_name_the_range_that_is_searched(world):
    lateral = view_pose(world.volume.centre_patient, 84.0, 4.0, -3.0, 720.0)
    options = from_mapping(RegistrationOptions, {"initial.view": "lateral-left"})
    result = Registrar(world.volume, options).register(world.xray(pose=lateral), None)
    assert result.accepted, result.reason
    assert target_registration_errors(result.camera_from_patient, lateral, world.landmarks_patient).in_plane_mm < 0.5


def test_a_blank_image_is_rejected_before_anything_is_rendered(world, registrar):
    image = world.xray()
    blank = replace(image, pixels=torch.full_like(image.pixels, 1000.0))
    result = registrar.register(blank, world.truth)
    assert (result.outcome, result.n_renders) == (Outcome.REJECTED_IMAGE, 0)


@pytest.mark.parametrize("dim", [0, 1])
def test_a_mirrored_image_is_rejected(world, registrar, dim):
    image = world.xray()
    mirrored = replace(image, pixels=image.pixels.flip(dim))
    assert not registrar.register(mirrored, _start(world, 8.0)).accepted


def test_noise_is_rejected(world, registrar):
    image = world.xray()
    noise = 20000 + 3000 * torch.randn(image.pixels.shape, generator=torch.Generator().manual_seed(0))
    assert not registrar.register(replace(image, pixels=noise), world.truth).accepted


@pytest.mark.parametrize("method", ["lm-gradient-ncc", "adam-diffpose"])
def test_another_patient_is_rejected(world, method):
    other = replace(world.volume, attenuation=world.volume.attenuation.flip(0).flip(2).contiguous())
    registrar = Registrar(world.volume, RegistrationOptions(method=method))
    assert not registrar.register(world.xray(other), world.truth).accepted


def test_a_run_that_used_up_its_steps_is_not_accepted(world):
    registrar = Registrar(world.volume, RegistrationOptions(method="adam-diffpose"))
    stage = registrar.method.stages[0]
    hasty = replace(stage.optimiser, schedule=replace(stage.optimiser.schedule, steps=3))
    registrar.method = replace(registrar.method, stages=(replace(stage, optimiser=hasty),))
    result = registrar.register(world.xray(), world.truth)
    assert result.outcome is Outcome.NOT_CONVERGED
    assert 5 < result.n_renders < 30  # a look at the start, three steps, the judgement, and where that would lead
    assert "ran out of steps" in result.reason


def test_a_pose_away_from_the_optimum_is_not_accepted(world):
    """A restraint that outweighs the image pulls the pose back to where it started, and the optimiser converges there."""
    registrar = Registrar(world.volume, RegistrationOptions(method="adam-xvr"))
    start = _start(world, 6.0)
    stage = replace(registrar.method.stages[0], restraint=Restraint(weight=0.9, sigma=(3.0, 3.0, 9.0, 0.02, 0.02, 0.02)))
    registrar.method = replace(registrar.method, stages=(stage,))
    result = registrar.register(world.xray(), start)
    assert result.similarity > registrar.options.gate.minimum_similarity
    assert result.outcome is Outcome.NOT_CONVERGED
    assert "away from the optimum" in result.reason


@pytest.mark.parametrize("depth_mm", [20.0, 60.0])
def test_a_pose_of_wrong_depth_is_not_accepted(world, depth_mm):
    """That far away, a single Gauss-Newton step stays within the covariance, and the similarity is high."""
    no_outline = GateOptions(maximum_outline_mm=200.0)  # whose gate sees it, too
    registrar = Registrar(world.volume, RegistrationOptions(method="adam-diffpose", gate=no_outline))
    stage = registrar.method.stages[0]
    content = replace(stage.optimiser, schedule=replace(stage.optimiser.schedule, progress=9.0, patience=0))
    registrar.method = replace(registrar.method, stages=(replace(stage, optimiser=content),))
    away = torch.tensor([0.0, depth_mm, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    result = registrar.register(world.xray(), retract(world.truth, away, world.volume.centre_patient))
    assert result.similarity > 0.7
    assert result.outcome is Outcome.NOT_CONVERGED
    assert "away from the optimum" in result.reason


def test_the_seed_reaches_cma_es(world):
    stage = load_methods()["cma-es-lm"].stages[0]

    def registered(seed):
        registrar = Registrar(world.volume, RegistrationOptions(method="cma-es-lm", seed=seed))
        brief = replace(stage, optimiser=replace(stage.optimiser, generations=3))
        registrar.method = replace(registrar.method, stages=(brief,))
        return registrar.register(world.xray(), _start(world, 5.0)).camera_from_patient.matrix()

    assert torch.equal(registered(1), registered(1))
    assert not torch.equal(registered(1), registered(2))


def test_an_initial_pose_behind_the_source_is_rejected(world, registrar):
    behind = replace(world.truth, translation=world.truth.translation * torch.tensor([1.0, 1.0, -1.0]))
    result = registrar.register(world.xray(), behind)
    assert result.outcome is Outcome.REJECTED_POSE
    assert "in front of the source" in result.reason


def test_an_initial_pose_outside_the_image_is_rejected(world, registrar):
    aside = replace(world.truth, translation=world.truth.translation + torch.tensor([900.0, 0.0, 0.0]))
    assert not registrar.register(world.xray(), aside).accepted


@pytest.mark.parametrize("method", ["lm-gradient-ncc", "adam-diffpose"])
def test_a_tight_prior_holds_the_pose(world, method):
    registrar = Registrar(world.volume, RegistrationOptions(method=method))
    start = _start(world, 4.0)
    free = registrar.register(world.xray(), start, tracking=True)
    held = registrar.register(world.xray(), start, PosePrior(start, torch.eye(6, dtype=torch.float64) * 1e8), tracking=True)

    def moved(result):
        return target_registration_errors(result.camera_from_patient, start, world.landmarks_patient).mtre_mm

    assert moved(free) > 2.0
    assert moved(held) < 0.2


def test_the_covariance_is_symmetric_and_positive(world, registrar):
    covariance = registrar.register(world.xray(), _start(world, 6.0)).covariance
    torch.testing.assert_close(covariance, covariance.T, rtol=1e-4, atol=1e-6)
    assert torch.linalg.eigvalsh(covariance)[0] > 0


def test_a_ct_of_air_is_refused(world):
    with pytest.raises(InputError, match="contains only air"):
        Registrar(replace(world.volume, attenuation=torch.zeros_like(world.volume.attenuation)), RegistrationOptions())


def test_an_unknown_method_is_refused_with_the_list(world):
    with pytest.raises(InputError, match=r"there is no method 'lm'; choose one of adam-diffpose, .*lm-gradient-ncc"):
        Registrar(world.volume, RegistrationOptions(method="lm"))


@pytest.mark.parametrize("saturation", ["-1", "much", "nan", "0"])
def test_a_saturation_that_is_not_positive_is_refused(saturation):
    with pytest.raises(InputError, match="saturation"):
        RegistrationOptions(saturation=saturation)


def test_the_json_result_has_the_documented_keys(world, registrar):
    content = registrar.register(world.xray(), _start(world, 6.0)).to_json()
    promised = {"accepted", "outcome", "reason", "method", "camera_from_patient", "initial_camera_from_patient", "unit"}
    promised |= {"similarity", "alternatives", "covariance", "n_renders", "elapsed_s", "device"}
    assert promised <= set(content)
    assert len(content["covariance"]) == 36
    assert content["outcome"] == "converged"
