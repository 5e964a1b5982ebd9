"""Every bone its own pose: found where a rigid CT is wrong, and each accepted or rejected on its own evidence."""

import math

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.bodies import bodies_from_mapping
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.registration import Registrar
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.result import Outcome
from fluoro_reg.simulation.metal import Cylinder
from fluoro_reg.xray.view import CalibratedXray

TWISTS = {
    "femur_left": (2.0, -1.0, 1.0, 9.0, 3.0, -4.0),
    "femur_right": (-1.0, 1.0, 2.0, -6.0, 5.0, 8.0),
    "L5": (1.0, 0.5, -1.0, 3.0, -2.0, 2.0),
}


@pytest.fixture(scope="module")
def seen(patient, registrar):
    """An X-ray that shows all bodies, their true poses, and the result."""
    view = patient.view()
    moved = patient.moved(view, TWISTS)
    xray = patient.xray(view, moved)
    initial = retract(view, torch.tensor([5.0, 3.0, -4.0, 0.04, -0.03, 0.05], dtype=torch.float64), patient.ct.centre_patient)
    return view, moved, xray, initial, registrar.register(xray, initial)


def in_plane_mm(patient, name, found, true):
    return target_registration_errors(found, true, patient.points(name)).in_plane_mm


def test_every_bone_is_found_at_its_own_pose(patient, seen):
    view, moved, _, _, result = seen
    for name, found in result.bodies.items():
        assert in_plane_mm(patient, name, found.camera_from_patient, moved.get(name, view)) < 1.0, name
    assert result.bodies["pelvis"].accepted, result.bodies["pelvis"].reason
    assert result.bodies["L5"].accepted, result.bodies["L5"].reason


def test_a_bone_is_accepted_as_soon_as_the_image_shows_enough_of_it(patient, registrar, seen):
    assert seen[-1].bodies["femur_left"].outcome is Outcome.NOT_CONVERGED  # only its head is in the image
    lower = patient.view(shift=(60.0, 0.0, -30.0))
    moved = patient.moved(lower, TWISTS)
    result = registrar.register(patient.xray(lower, moved), lower)
    assert not result.bodies["femur_right"].accepted  # it is out of the field
    for name in ("pelvis", "femur_left"):
        found = result.bodies[name]
        assert found.accepted, f"{name}: {found.reason}"
        assert in_plane_mm(patient, name, found.camera_from_patient, moved.get(name, lower)) < 1.0


def test_a_rigid_ct_is_wrong_about_the_femurs(patient, seen):
    _, moved, xray, initial, _ = seen
    rigid = Registrar(patient.ct).register(xray, initial).camera_from_patient
    assert in_plane_mm(patient, "femur_left", rigid, moved["femur_left"]) > 2.0
    assert in_plane_mm(patient, "femur_right", rigid, moved["femur_right"]) > 2.0


def test_the_covariance_of_each_bone_covers_its_error(patient, seen):
    view, moved, _, _, result = seen
    for name, found in result.bodies.items():
        variances = torch.linalg.eigvalsh(found.covariance)
        assert float(variances[0]) > 0
        true = moved.get(name, view)
        turn = torch.linalg.norm(_rotation_vector(found.camera_from_patient, true))
        assert float(turn) < 3 * math.sqrt(float(torch.linalg.eigvalsh(found.covariance[3:, 3:])[-1])) + 0.005


def _rotation_vector(found, true):
    relative = found.rotation @ true.rotation.T
    return torch.stack([relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0], relative[1, 0] - relative[0, 1]]) / 2


def test_json_speaks_of_the_reference_and_holds_every_body(seen):
    content = seen[-1].to_json()
    assert set(content["bodies"]) == {"pelvis", "femur_left", "femur_right", "L5"}
    assert content["camera_from_patient"] == content["bodies"]["pelvis"]["camera_from_patient"]
    assert {"accepted", "outcome", "reason", "camera_from_patient", "covariance"} <= set(content["bodies"]["L5"])


def test_a_bone_out_of_the_field_is_rejected_while_others_are_accepted(patient, registrar):
    view = patient.view(shift=(45.0, 0.0, 70.0))
    moved = patient.moved(view, {"femur_left": TWISTS["femur_left"]})
    result = registrar.register(patient.xray(view, moved), view)
    assert not result.bodies["femur_right"].accepted
    assert "can be compared" in result.bodies["femur_right"].reason
    assert result.bodies["pelvis"].accepted


def test_one_body_is_the_registration_of_a_ct(patient, seen):
    _, _, xray, initial, _ = seen
    config = bodies_from_mapping({"reference": "patient", "bodies": {"patient": {}}}, "bodies.yaml")
    alone = BodiesRegistrar(patient.ct, config).register(xray, initial)
    rigid = Registrar(patient.ct).register(xray, initial)
    assert list(alone.bodies) == ["patient"]
    assert torch.equal(alone.bodies["patient"].camera_from_patient.matrix(), rigid.camera_from_patient.matrix())


def test_no_body_is_accepted_where_the_reference_is_not_found(patient, registrar, seen):
    far = RigidTransform(seen[0].rotation, seen[0].translation + torch.tensor([0.0, 0.0, 5000.0], dtype=torch.float64))
    result = registrar.register(seen[2], far)
    assert not any(body.accepted for body in result.bodies.values())
    assert "the reference pelvis was not found" in result.bodies["L5"].reason


def test_a_blank_image_gives_no_pose(patient, registrar, seen):
    view, _, xray, _, _ = seen
    blank = type(xray)(torch.full_like(xray.pixels, 9.0), xray.intrinsics, xray.intensity, xray.mask)
    result = registrar.register(blank, view)
    assert {body.outcome for body in result.bodies.values()} == {Outcome.REJECTED_IMAGE}


def test_two_views_determine_the_depth_of_every_bone(patient, registrar):
    view = patient.view()
    beside = patient.view(primary_deg=50.0)
    from_first = beside @ view.inverse()
    moved = patient.moved(view, TWISTS)
    views = [
        CalibratedXray(patient.xray(view, moved), RigidTransform.identity()),
        CalibratedXray(patient.xray(beside, {name: from_first @ pose for name, pose in moved.items()}), from_first),
    ]
    result = registrar.register_views(views, view)
    for name in ("pelvis", "femur_left", "L5"):
        errors = target_registration_errors(
            result.bodies[name].camera_from_patient, moved.get(name, view), patient.points(name)
        )
        assert errors.mtre_mm < 1.0, name


def test_labels_that_are_needed_but_not_given_are_asked_for(patient):
    with pytest.raises(InputError, match="give it with --labels SEG"):
        BodiesRegistrar(patient.ct, patient.config)


def test_a_bone_hidden_by_metal_is_rejected_while_the_reference_is_accepted(patient, registrar):
    view = patient.view()
    moved = patient.moved(view, {"L5": TWISTS["L5"]})
    centre, towards_source = patient.points("L5").mean(0), -view.rotation[2]
    plate = Cylinder(centre + 60 * towards_source, centre + 64 * towards_source, 45.0, "steel")
    result = registrar.register(patient.xray(view, moved, (plate,)), view)
    assert not result.bodies["L5"].accepted
    assert result.bodies["pelvis"].accepted
    assert in_plane_mm(patient, "pelvis", result.bodies["pelvis"].camera_from_patient, view) < 1.0


@pytest.mark.parametrize("level", [1, -1])
def test_a_start_that_is_wrong_by_a_vertebra_puts_no_body_at_its_neighbours_place(patient, registrar, seen, level):
    view, moved, xray, _, _ = seen
    step = torch.tensor([0.0, 0.0, 36.0 * level, 0.0, 0.0, 0.0], dtype=torch.float64)
    result = registrar.register(xray, retract(view, step, patient.ct.centre_patient))
    for name, found in result.bodies.items():
        assert not found.accepted or in_plane_mm(patient, name, found.camera_from_patient, moved.get(name, view)) < 1.0, name


@pytest.mark.parametrize(("name", "shift"), [("L5", (0.0, 0.0, 0.0)), ("femur_left", (60.0, 0.0, -30.0))])
def test_a_bone_that_the_patient_lacks_is_rejected(patient, registrar, name, shift):
    view = patient.view(shift=shift)
    away = retract(view, torch.tensor([600.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64), patient.ct.centre_patient)
    result = registrar.register(patient.xray(view, {name: away}), view)
    assert not result.bodies[name].accepted
    assert result.bodies["pelvis"].accepted


def test_two_vertebrae_that_are_expected_at_each_others_place_are_not_accepted_there(patient):
    labels = {"L5": 27, "L4": 28}
    voxels = {name: (patient.labels.labels == number).nonzero().flip(1).double() for name, number in labels.items()}
    centres = {name: patient.ct.points_patient(at).mean(0) for name, at in voxels.items()}
    bodies = {"pelvis": {}}
    for name, other in (("L5", "L4"), ("L4", "L5")):
        swapped = RigidTransform(torch.eye(3, dtype=torch.float64), centres[other] - centres[name])
        joint = {"parent_from_body": swapped.matrix().tolist(), "sd_mm": 4, "sd_deg": 4}
        bodies[name] = {"labels": [labels[name]], "joint": joint}
    registrar = BodiesRegistrar(
        patient.ct, bodies_from_mapping({"reference": "pelvis", "bodies": bodies}, "bodies.yaml"), patient.labels
    )
    view = patient.view(shift=(0.0, 0.0, 55.0))
    result = registrar.register(patient.xray(view, {}), view)
    for name in labels:
        found = result.bodies[name]
        errors = target_registration_errors(found.camera_from_patient, view, patient.ct.points_patient(voxels[name][::20]))
        assert not found.accepted or errors.in_plane_mm < 1.0, f"{name}: {found.reason}"
