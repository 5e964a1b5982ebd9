"""Decoys: mirrored X-rays are refused, even those of nearly symmetric patients, whose similarity alone would pass."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.registration_world import World, bony_volume

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.config import from_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions
from fluoro_reg.registration.candidates import CandidateMaker
from fluoro_reg.registration.decoys import LEFT_RIGHT, TOP_BOTTOM, DecoyRegistration, mirrored_pose, pose_from_behind
from fluoro_reg.registration.stages.view_search import QUICK, THOROUGH, Effort
from fluoro_reg.registration.view_run import ViewRun
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocessing.preprocess import preprocess


def nearly_symmetric(volume: CTVolume, share: float) -> CTVolume:
    """A volume to which a share of its own left-right mirror image is added."""
    return replace(volume, attenuation=(1 - share) * volume.attenuation + share * volume.attenuation.flip(2))


def mirrored(xray: XrayImage) -> XrayImage:
    return replace(xray, pixels=xray.pixels.flip(1), mask=xray.mask.flip(1))


@pytest.fixture(scope="module")
def symmetric_world(world) -> World:
    return replace(world, volume=nearly_symmetric(bony_volume(), 0.2))


def test_the_mirrored_xray_of_a_nearly_symmetric_patient_is_refused(symmetric_world):
    registrar = Registrar(symmetric_world.volume)
    xray = symmetric_world.xray()
    assert registrar.register(xray, symmetric_world.truth).accepted
    result = registrar.register(mirrored(xray), symmetric_world.truth)
    assert result.outcome is Outcome.REJECTED_POSE
    assert result.scores["similarity"] > registrar.options.gate.certain_similarity
    assert result.scores["decoy_similarity"] > result.scores["similarity"]
    assert "mirrored" in result.reason


@pytest.mark.parametrize("view", ["ap-pa", "pa"])
def test_without_an_initial_pose_the_mirrored_xray_is_not_taken_for_one_from_behind(world, view):
    registrar = Registrar(world.volume, from_mapping(RegistrationOptions, {"initial": {"view": view}}))
    assert view == "pa" or registrar.register(world.xray()).accepted
    result = registrar.register(mirrored(world.xray()))
    assert not result.accepted
    assert result.scores["decoy_similarity"] > result.scores["similarity"] > registrar.options.gate.certain_similarity


@pytest.mark.parametrize(("axis", "flipped"), [(LEFT_RIGHT, 2), (TOP_BOTTOM, 0)])
def test_a_mirrored_pose_shows_the_mirrored_patient_mirrored(world, axis, flipped):
    camera = CameraIntrinsics(101, 81, 440.0, 430.0, 50.0, 40.0, 1000.0)
    volume = world.volume
    middle = volume.points_patient((torch.tensor(volume.shape_ijk, dtype=torch.float64) - 1)[None] / 2)[0]
    pose = view_pose(middle, 20.0, -10.0, 5.0, 700.0)
    other = replace(volume, attenuation=volume.attenuation.flip(flipped))
    seen = project(make_renderer(volume, "cpu"), pose, camera)
    again = project(make_renderer(other, "cpu"), mirrored_pose(pose, middle, camera, axis), camera)
    assert torch.allclose(again.flip(axis), seen, atol=1e-3 * float(seen.max()))


@pytest.mark.parametrize("axis", [LEFT_RIGHT, TOP_BOTTOM])
def test_a_view_from_behind_is_nearly_the_mirrored_one(world, axis):
    camera = CameraIntrinsics(101, 81, 440.0, 430.0, 47.0, 43.0, 1000.0)
    pose = view_pose(world.volume.centre_patient, 20.0, -10.0, 5.0, 700.0)
    renderer = make_renderer(world.volume, "cpu")
    seen, again = (
        project(renderer, one, camera) for one in (pose, pose_from_behind(pose, world.volume.centre_patient, camera, axis))
    )
    correlation = torch.corrcoef(torch.stack([seen.flatten(), again.flip(axis).flatten()]))[0, 1]
    assert correlation > 0.95


@pytest.mark.parametrize("axis", [LEFT_RIGHT, TOP_BOTTOM])
@pytest.mark.parametrize("mirrored_pose", [mirrored_pose, pose_from_behind])
def test_a_mirrored_pose_shows_the_centre_at_the_mirrored_pixel_of_any_camera(world, axis, mirrored_pose):
    camera = CameraIntrinsics(100, 80, 440.0, 430.0, 45.0, 44.0, 1000.0)
    centre = world.volume.centre_patient
    pose = view_pose(centre + 30.0, 20.0, -10.0, 5.0, 700.0)
    before, after = (camera.project(one.apply(centre[None]))[0] for one in (pose, mirrored_pose(pose, centre, camera, axis)))
    across, size = (0, camera.width) if axis == LEFT_RIGHT else (1, camera.height)
    assert float(before[across] + after[across]) == pytest.approx(size - 1)
    assert float(after[1 - across]) == pytest.approx(float(before[1 - across]))


def test_a_tracked_frame_is_not_compared_with_decoys(world):
    result = Registrar(world.volume).register(world.xray(), world.truth, tracking=True)
    assert result.accepted
    assert "decoy_similarity" not in result.scores


@pytest.mark.parametrize("similarities", [(float("nan"), 0.1), (0.1, float("nan"))])
def test_a_decoy_that_cannot_be_compared_lets_nothing_through(monkeypatch, similarities):
    found = iter(similarities)
    monkeypatch.setattr(DecoyRegistration, "_coarse", lambda *_: (None, None))
    monkeypatch.setattr(DecoyRegistration, "_finest", lambda *_: next(found))
    monkeypatch.setattr(DecoyRegistration, "_mirrored_begins", lambda *_: None)
    decoys = object.__new__(DecoyRegistration)  # none of its parts is needed
    decoys.run = SimpleNamespace(initial=None, is_searched=False)
    assert math.isnan(decoys.highest(lambda similarity: not similarity < 0.5))


def test_decoys_are_searched_with_the_effort_of_the_xray(world, monkeypatch):
    """A thorough search finds better poses, right ones as well as wrong ones."""
    efforts, make = list[Effort](), CandidateMaker.make

    def recorded(maker, prepared, initial, request, stages, search_views, effort=QUICK):
        if search_views:
            efforts.append(effort)
        return make(maker, prepared, initial, request, stages, search_views, effort)

    monkeypatch.setattr(CandidateMaker, "make", recorded)
    registrar = Registrar(world.volume, from_mapping(RegistrationOptions, {"initial": {"view": "ap"}}))
    prepared = preprocess(world.xray(), registrar.options.preprocess)
    for effort in (QUICK, THOROUGH):
        run = ViewRun(prepared, world.truth, is_searched=True, effort=effort)
        decoys = DecoyRegistration(registrar._candidates, registrar.method, run, world.truth, 0.9, True)
        decoys.highest(lambda similarity: False)
    assert efforts == [QUICK, QUICK, THOROUGH, THOROUGH]
