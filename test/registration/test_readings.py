"""The registration decides between readings of the image and of the CT, and the result says which one won."""

from dataclasses import replace

import pytest
import torch
from helpers.registration_world import bony_volume

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Registrar
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.stages.object_model import object_model_of
from fluoro_reg.registration.stages.objective import image_evidence
from fluoro_reg.registration.view_run import Request
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess_readings


def sides_cut_off(volume):
    """The middle of a body without its front and back: hardly a ray is complete."""
    begin, end = 6, 29
    geometry = volume.patient_from_voxel.clone()
    geometry[:3, 3] = volume.points_patient(torch.tensor([0.0, float(begin), 0.0], dtype=torch.float64))
    return replace(volume, attenuation=volume.attenuation[:, begin:end].contiguous(), patient_from_voxel=geometry)


def start(world, seed, mtre_mm=8.0):
    points = world.landmarks_patient
    return perturb_to_mtre(world.truth, points, mtre_mm, points.mean(0), torch.Generator().manual_seed(seed))


def in_plane_mm(world, result):
    return target_registration_errors(result.camera_from_patient, world.truth, world.landmarks_patient).in_plane_mm


def test_the_whole_ct_wins_where_it_is_whole(world):
    result = Registrar(world.volume).register(world.xray(), start(world, 0))
    assert result.accepted and result.reading == "transmitted, whole image; whole CT"


def test_the_bone_of_a_ct_whose_sides_are_cut_off_is_found(world):
    registrar = Registrar(sides_cut_off(world.volume))
    for seed in range(3):
        result = registrar.register(world.xray(), start(world, seed))
        assert result.reading.endswith("; bone")
        assert in_plane_mm(world, result) < 2.0


def test_an_open_beam_beside_the_body_does_not_hide_it(world):
    """The lower third of the image is air at full scale: the body in it was once taken for a collimator's shadow."""
    image = world.xray()
    pixels = image.pixels.clone()
    rows = pixels.shape[0]
    pixels[int(0.8 * rows) :] = 65535.0
    result = Registrar(world.volume).register(replace(image, pixels=pixels), start(world, 1))
    assert "whole image" in result.reading
    assert in_plane_mm(world, result) < 2.0


def test_the_polarity_that_the_rule_gets_wrong_is_corrected_by_registering(world, monkeypatch):
    from fluoro_reg.xray.preprocessing import readings
    from fluoro_reg.xray.preprocessing.polarity import Polarity

    wrong = Polarity(Intensity.ATTENUATION, 0.8, False)
    monkeypatch.setattr(readings, "estimate_polarity", lambda *arguments: wrong)
    image = world.xray()
    result = Registrar(world.volume).register(
        XrayImage(image.pixels, image.intrinsics, Intensity.AUTO, image.mask), start(world, 2)
    )
    assert result.accepted and result.intensity == "transmitted"
    assert result.intensity_confidence == pytest.approx(0.2)


def test_a_known_reading_is_the_only_one_that_is_tried(world):
    registrar = Registrar(sides_cut_off(world.volume))
    first = registrar.register(world.xray(), start(world, 0))
    again = registrar.register(world.xray(), first.camera_from_patient, tracking=True, reading=first.reading)
    unknown = registrar.register(world.xray(), first.camera_from_patient, tracking=True, reading="none like this")
    assert again.reading == first.reading == unknown.reading
    assert again.seconds.keys() & {"choose a reading"} == set()


def test_a_flat_place_bears_no_evidence():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 40, 40, generator=generator)
    moving = torch.cat([image, torch.zeros_like(image), torch.rand(1, 40, 40, generator=generator), 1 - image])
    evidence = image_evidence(moving, image, torch.ones_like(moving))
    assert evidence[0] > 100 and evidence[1] == 0 and evidence[2] < 2 and evidence[3] == 0
    few = image_evidence(moving[:1], image, torch.nn.functional.pad(torch.ones(1, 20, 20), (0, 20, 0, 20)))
    assert few[0] < evidence[0], "the same similarity over fewer pixels is less evidence"


@pytest.mark.parametrize(
    ("attenuation", "filled", "roi", "saturates"),
    [(0.02, 0.9, "full", False), (0.045, 0.2, "moving-support", False), (0.098, 0.3, "moving-support", True)],
)
def test_objects_are_told_from_bodies_by_their_density(attenuation, filled, roi, saturates):
    """A bone that was cropped tightly is a bone, and cortical bone is no metal."""
    volume = bony_volume()
    values = torch.zeros_like(volume.attenuation)
    values[:, :, : int(filled * values.shape[2])] = attenuation
    model = object_model_of(replace(volume, attenuation=values), "auto", "auto", torch.zeros(3, dtype=torch.float64))
    assert model.roi == roi
    assert (model.saturation > 0) is saturates


def test_two_views_repair_the_depth_that_one_has_lost(world):
    """The joint stage begins coarsely and remembers the given start."""
    from fluoro_reg.geometry import retract
    from fluoro_reg.xray.view import CalibratedXray

    turn = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 60.0], dtype=torch.float64).deg2rad()
    side = retract(world.truth, turn, world.landmarks_patient.mean(0))
    views = [
        CalibratedXray(world.xray(), RigidTransform.identity()),
        CalibratedXray(world.xray(pose=side), side @ world.truth.inverse()),
    ]
    result = Registrar(world.volume).register_views(views, start(world, 5, 12.0))
    errors = target_registration_errors(result.camera_from_patient, world.truth, world.landmarks_patient)
    assert result.accepted and errors.mtre_mm < 1.0


def test_instruments_are_left_out_in_candidates_of_their_own_where_all_views_are_searched(world):
    image, registrar = world.xray(), Registrar(world.volume)
    pixels, middle = image.pixels.clone(), image.pixels.shape[0] // 2
    for k in range(-30, 30):  # a slanting pin
        pixels[middle + k, middle + k : middle + k + 4] *= 0.2
    prepared = preprocess_readings(replace(image, pixels=pixels), PreprocessOptions())
    known = [InitialPoses([world.truth]) for _ in prepared]

    def candidates(search_views):
        made = registrar._candidates.all(prepared, known, Request(world.truth), registrar.method.stages, search_views)
        return [(one.prepared.without_instruments, one.reading) for one in made]

    searched = candidates(True)
    assert [without for without, _ in searched] == [False] * len(prepared) + [True] * len(prepared)
    assert searched[0][1] == searched[len(prepared)][1], "a tracked frame is read alike, with the instruments"
    assert not any(without for without, _ in candidates(False))


def test_the_result_says_that_instruments_were_left_out(world):
    readings = Registrar(world.volume).readings
    words = "transmitted, whole image; whole CT"
    assert readings.decisions(words, without_instruments=True)["without_instruments"] is True
    assert readings.decisions(words)["without_instruments"] is False
