"""A detector that saturates beside the body moves its outline inwards: the pose must not follow, or must be rejected."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions

LEVEL = 0.3  # of the open beam: what is brighter shows as this bright


@pytest.fixture(scope="module")
def registrar(world):
    return Registrar(world.volume, RegistrationOptions())


@pytest.fixture(scope="module")
def start(world):
    generator = torch.Generator().manual_seed(0)
    return perturb_to_mtre(world.truth, world.landmarks_patient, 10.0, world.volume.centre_patient, generator)


def _overexposed(world, grain=0.0, fraction=LEVEL):
    """The world's X-ray, saturated; `grain` is electronic noise (a fraction of the level) that hides the saturation."""
    image = world.xray()
    level = fraction * float(image.pixels.max())
    noise = torch.randn(image.pixels.shape, generator=torch.Generator().manual_seed(3))
    return replace(image, pixels=image.pixels.clamp(max=level) + grain * level * noise)


def _depth_error(result, world):
    return target_registration_errors(result.camera_from_patient, world.truth, world.landmarks_patient).depth_mm


def test_saturated_air_does_not_move_the_body(world, registrar, start):
    result = registrar.register(_overexposed(world), start)
    assert result.accepted, result.reason
    assert _depth_error(result, world) < 1.5


def test_an_outline_that_contradicts_the_inside_rejects_the_pose(world, registrar, start):
    result = registrar.register(_overexposed(world, grain=0.01, fraction=0.25), start)
    assert _depth_error(result, world) > 4.0
    assert result.outcome is Outcome.REJECTED_POSE
    assert "outline" in result.reason
    assert result.scores["depth_sd_mm"] >= result.scores["outline_mm"]


def test_a_true_outline_adds_no_uncertainty(world, registrar, start):
    result = registrar.register(world.xray(), start)
    assert result.accepted, result.reason
    assert result.scores["outline_mm"] < 2.0
