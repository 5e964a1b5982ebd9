"""X-rays of a patient whose bones have moved: as the ordinary simulator without a motion, and right about a motion."""

import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.ct.attenuation import attenuation_of_tissue
from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import retract
from fluoro_reg.simulation.moved_bodies import MovableBodies
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels, phantom_volume
from fluoro_reg.simulation.ray_sampling import crop_to_body, water_and_bone_thickness_mm

CAMERA = carm_camera(64)
SOFT, BONE = attenuation_of_tissue(40.0), attenuation_of_tissue(1200.0)


def test_bones_that_have_not_moved_change_nothing():
    options = PhantomOptions(spacing_mm=(4.0, 4.0, 4.0))
    ct = phantom_volume(options)
    view = view_pose(ct.centre_patient, 10.0, 5.0, 0.0, 700.0)
    bodies = MovableBodies.of(ct, phantom_labels(options), {"femur_left": [75], "L5": [27]})
    found = bodies.water_and_bone_thickness_mm(view, {}, CAMERA)
    expected = water_and_bone_thickness_mm(crop_to_body(ct), view, CAMERA)
    for thickness, true in zip(found, expected, strict=True):
        # within a voxel of a bone's surface a sample mixes the CT with soft tissue
        assert abs(thickness - true).mean() < 0.01 * true.max()
        assert abs(thickness - true).max() < 0.12 * true.max()


@pytest.fixture
def block():
    """A block of bone in soft tissue, off the centre, with one body."""
    attenuation = torch.full((40, 40, 40), SOFT)
    attenuation[16:24, 16:24, 22:30] = BONE
    labels = (attenuation > SOFT).to(torch.int32)
    patient_from_voxel = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0], dtype=torch.float64))
    ct = CTVolume(attenuation, patient_from_voxel)
    return ct, MovableBodies.of(ct, LabelMap(labels, patient_from_voxel), {"block": [1]})


def centroid(bone):
    v, u = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    weight = torch.from_numpy(bone)
    return torch.stack([(u * weight).sum(), (v * weight).sum()]).double() / weight.sum()


def test_a_bone_is_where_it_has_been_moved(block):
    ct, bodies = block
    view = view_pose(ct.centre_patient, 0.0, 0.0, 0.0, 700.0)
    middle = ct.points_patient(torch.tensor([25.5, 19.5, 19.5], dtype=torch.float64))
    pose = retract(view, torch.tensor([-12.0, 6.0, 9.0, 0.2, 0.1, -0.3], dtype=torch.float64), middle)
    _, bone = bodies.water_and_bone_thickness_mm(view, {"block": pose}, CAMERA)
    assert torch.allclose(centroid(bone), CAMERA.project(pose.apply(middle[None]))[0], atol=0.15)


def test_a_moved_bone_leaves_soft_tissue_behind_and_displaces_it(block):
    ct, bodies = block
    view = view_pose(ct.centre_patient, 0.0, 0.0, 0.0, 700.0)
    aside = retract(view, torch.tensor([-40.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64), ct.centre_patient)
    water, _ = bodies.water_and_bone_thickness_mm(view, {"block": aside}, CAMERA)
    middle = ct.points_patient(torch.tensor([[25.5, 19.5, 19.5]], dtype=torch.float64))
    u, v = CAMERA.project(view.apply(middle))[0].round().int()
    beside = water[v, u - 24]
    assert water[v, u] == pytest.approx(float(beside), rel=0.03)
    moved_u = int(CAMERA.project(aside.apply(middle))[0, 0])
    assert water[v, moved_u] < water[v, u] - 20.0  # 32 mm of bone, a fifth of it water, are there instead


def test_a_bone_at_the_end_of_the_ct_does_not_end_in_air():
    attenuation = torch.full((20, 20, 20), SOFT)
    attenuation[12:20, 8:12, 8:12] = BONE
    patient_from_voxel = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0], dtype=torch.float64))
    ct = CTVolume(attenuation, patient_from_voxel)
    labels = LabelMap((attenuation > SOFT).to(torch.int32), patient_from_voxel)
    bodies = MovableBodies.of(ct, labels, {"shaft": [1]})
    view = view_pose(ct.centre_patient, 0.0, 0.0, 0.0, 700.0)
    up = retract(view, torch.tensor([0.0, 0.0, -6.0, 0.0, 0.0, 0.0], dtype=torch.float64), ct.centre_patient)
    _, bone = bodies.water_and_bone_thickness_mm(view, {"shaft": up}, CAMERA)
    point = ct.points_patient(torch.tensor([[9.5, 9.5, 18.8]], dtype=torch.float64))
    u, v = CAMERA.project(view.apply(point))[0].round().int()
    assert bone[v, u] > 10.0
