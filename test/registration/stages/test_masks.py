"""Masks: rays that leave a cut CT, the neighbourhood of an object."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration.stages.masks import Extent, complete_rays, dilated, eroded, near_object, with_neighbours
from fluoro_reg.rendering import make_renderer, project

CAMERA = CameraIntrinsics(64, 64, 200.0, 200.0, 31.5, 31.5)


def _column(height: int = 60) -> CTVolume:
    """A body that fills every slice: 40 x 40 voxels of 2 mm, tapering nowhere."""
    attenuation = torch.zeros(height, 60, 60)
    attenuation[:, 10:50, 10:50] = 0.02
    return CTVolume(attenuation, torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64)))


def _batch(pose: RigidTransform) -> RigidTransform:
    return RigidTransform.stack([pose])


def test_only_the_ends_of_a_body_are_cuts():
    extent = Extent.of(_column())
    assert extent.cut_low.tolist() == [False, False, True]
    assert extent.cut_high.tolist() == [False, False, True]
    assert (extent.low.tolist(), extent.high.tolist()) == ([10.0, 10.0, 0.0], [49.0, 49.0, 59.0])


def test_an_object_in_air_has_no_cut():
    volume = _column()
    attenuation = volume.attenuation.clone()
    attenuation[:5], attenuation[-5:] = 0, 0
    extent = Extent.of(replace(volume, attenuation=attenuation))
    assert not extent.cut_low.any()
    assert not extent.cut_high.any()


def test_incomplete_rays_are_those_that_a_longer_ct_changes():
    """Oracle: render the body extended beyond both ends; complete rays do not change."""
    short, longer = _column(60), _column(180)
    pose = ap_pose(short.centre_patient, 400.0)
    moved = longer.patient_from_voxel.clone()
    moved[2, 3] = -120.0  # the same body, 60 slices more at either end
    longer = replace(longer, patient_from_voxel=moved)
    images = [project(make_renderer(volume, "cpu"), pose, CAMERA) for volume in (short, longer)]
    complete = complete_rays(short, Extent.of(short), _batch(pose), CAMERA)[0]
    changed = (images[0] - images[1]).abs() > 1e-3
    assert changed.any()
    assert complete.any()
    assert not (changed & complete).any()
    assert (~complete & ~changed).float().mean() < 0.1  # and hardly more than necessary


@pytest.mark.parametrize("height", [60, 61, 62, 63])
def test_a_cut_stays_a_cut_at_every_resolution(height):
    """A last block that is mostly air neither hides the cut nor counts as a complete voxel."""
    extent = Extent.of(_column(height)).coarsened((4, 4, 4))
    assert extent.cut_high.tolist() == [False, False, True]
    assert (extent.low.tolist(), extent.high.tolist()) == ([2.0, 2.0, 0.0], [12.0, 12.0, 14.0])


def test_near_an_object_grows_its_support_by_the_margin():
    integrals = torch.zeros(1, 20, 20)
    integrals[0, 8:11, 9:12] = 1.0
    near = near_object(integrals, "moving-support", 2.0)
    assert near.sum() == 7 * 7
    assert near[0, 6, 7] == 1
    assert near_object(integrals, "full", 2.0).sum() == 400


def test_the_box_fills_what_the_support_leaves_open():
    integrals = torch.zeros(1, 20, 20)
    integrals[0, 5, 5:10], integrals[0, 9, 8] = 1.0, 1.0
    assert near_object(integrals, "box", 1.0)[0, 7, 6] == 1
    assert near_object(integrals, "moving-support", 1.0)[0, 7, 5] == 0


def test_an_object_outside_the_image_has_no_support():
    assert near_object(torch.zeros(2, 8, 8), "moving-support", 3.0).sum() == 0


def test_erosion_removes_the_border_and_the_neighbours_of_holes():
    usable = torch.ones(9, 9, dtype=torch.bool)
    usable[4, 4] = False
    kept = eroded(usable)[0]
    assert kept[0].sum() == 0
    assert kept[3:6, 3:6].sum() == 0
    assert kept.sum() == 49 - 9


def test_a_gradient_reads_no_incomplete_neighbour():
    flags = torch.ones(1, 5, 6, dtype=torch.bool)
    flags[0, 2, 3] = False
    expected = torch.ones(1, 5, 6)
    expected[0, 1:4, 2:5] = 0
    assert torch.equal(with_neighbours(flags), expected), "the border of the image alone makes no pixel incomplete"


@pytest.mark.parametrize("reach", [1, 3, 40])
@pytest.mark.parametrize("beyond", [False, True])
def test_dilation_is_a_maximum_over_a_square(reach: int, beyond: bool) -> None:
    flags = torch.rand(3, 17, 23, generator=torch.Generator().manual_seed(reach)) > 0.97
    padded = torch.nn.functional.pad(flags.float()[:, None], (reach,) * 4, value=float(beyond))
    expected = torch.nn.functional.max_pool2d(padded, 2 * reach + 1, stride=1)[:, 0]
    assert torch.equal(dilated(flags, reach, beyond), expected)
