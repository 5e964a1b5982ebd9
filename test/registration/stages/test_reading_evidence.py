"""The evidence by which readings of the CT are compared, beside a pose that was given and after a search of all views."""

import math
from dataclasses import replace

import pytest
import torch

from fluoro_reg.ct.bone import bone_above_soft_tissue
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Registrar
from fluoro_reg.registration.method import load_method
from fluoro_reg.registration.stages import solver
from fluoro_reg.registration.stages.ct_readings import CTReading
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.object_model import bone_model_of
from fluoro_reg.registration.stages.refined import Found
from fluoro_reg.registration.stages.scales import CoarseRenderers
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess


@pytest.fixture(scope="module")
def bone(world) -> CTReading:
    whole = Registrar(world.volume).readings.whole
    volume = bone_above_soft_tissue(world.volume)
    return CTReading("bone", CoarseRenderers(volume, "cpu"), bone_model_of(whole.model), whole.corners_patient)


def solver_of(world, reading: CTReading, slope: float, is_searched: bool) -> Solver:
    """A solver for an X-ray with a shadow that grows from left to right."""
    prepared = preprocess(world.xray(), PreprocessOptions())
    shadow = torch.linspace(0.0, slope, prepared.image.intrinsics.width)
    prepared = replace(prepared, image=replace(prepared.image, pixels=prepared.image.pixels + shadow))
    metric, pivot = Registrar(world.volume).metric, reading.model.pivot
    return Solver(
        reading.scales(prepared, world.truth), reading.model, metric, NCCRefiners(pivot), None, 5.0, keeps_rivals=is_searched
    )


def evidence(world, reading: CTReading, slope: float, is_searched: bool) -> float:
    """The evidence for the true pose."""
    return solver_of(world, reading, slope, is_searched).evidence(RigidTransform.stack([world.truth]))


def test_after_a_search_bone_is_compared_relative_to_local_means(world, bone):
    spoiled, clean = (evidence(world, bone, slope, is_searched=True) for slope in (8.0, 0.0))
    assert spoiled > 0.8 * clean
    spoiled, clean = (evidence(world, bone, slope, is_searched=False) for slope in (8.0, 0.0))
    assert spoiled < 0.8 * clean


def test_after_a_search_more_pixels_decide(world, bone):
    assert evidence(world, bone, 0.0, is_searched=True) > 1.5 * evidence(world, bone, 0.0, is_searched=False)


def test_a_rival_is_far_from_the_best_pose(world, bone):
    searched = solver_of(world, bone, 0.0, is_searched=True)
    near, far = (
        RigidTransform(world.truth.rotation, world.truth.translation + torch.tensor([x_mm, 0.0, 0.0], dtype=torch.float64))
        for x_mm in (2.0, 35.0)
    )
    assert searched.evidence_of_rival(RigidTransform.stack([near, world.truth])) == 0.0
    of_rival = searched.evidence_of_rival(RigidTransform.stack([far, near, world.truth]))
    assert of_rival == pytest.approx(searched.evidence(RigidTransform.stack([far])), rel=0.01)
    assert of_rival < searched.evidence(RigidTransform.stack([near])) < searched.evidence(RigidTransform.stack([world.truth]))


def test_a_pose_of_bone_that_coarse_stages_lose_stays(world, bone, monkeypatch):
    """They have fewer pixels than the search by which it was found."""
    stages = load_method("global-lm").stages
    wrong = RigidTransform(world.truth.rotation, world.truth.translation + torch.tensor([35.0, 0.0, 0.0], dtype=torch.float64))
    lost = Found(RigidTransform.stack([wrong]), torch.tensor([True]))
    monkeypatch.setattr(Solver, "_run_stage", lambda *arguments, **options: lost)
    poses = RigidTransform.stack([wrong, world.truth])
    searched, given = (solver_of(world, bone, 0.0, is_searched).run_coarse(poses, stages) for is_searched in (True, False))
    assert torch.equal(searched[0].translation, world.truth.translation)
    assert torch.equal(given.translation, lost.poses.translation)


@pytest.mark.parametrize("is_searched", [True, False])
def test_evidence_that_is_not_a_number_is_none(world, bone, monkeypatch, is_searched):
    monkeypatch.setattr(solver, "image_evidence", lambda *seen: torch.tensor([math.nan, 3.0]))
    poses = RigidTransform.stack([world.truth, world.truth])
    assert solver_of(world, bone, 0.0, is_searched).evidence(poses) == 3.0


@pytest.mark.parametrize("n_stages", [0, 1])
def test_without_a_coarse_stage_poses_stay_as_they_are(world, bone, n_stages):
    """As where all stages of a method are learned, which mirror poses skip."""
    poses = RigidTransform.stack([world.truth])
    assert solver_of(world, bone, 0.0, is_searched=True).run_coarse(poses, load_method("global-lm").stages[:n_stages]) is poses
