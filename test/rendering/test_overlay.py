"""Drawn edges compared with the projection of a block by the pinhole camera."""

import numpy as np
import pytest
import torch

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import NumbaRenderer
from fluoro_reg.rendering.overlay import OTHER_COLOUR, POSE_COLOUR, bone_volume, edge_lines, overlay

CAMERA = CameraIntrinsics(160, 120, 700.0, 700.0, 79.5, 59.5)


@pytest.fixture(scope="module")
def block() -> CTVolume:
    """Return 40 x 24 x 8 voxels of bone in water, 0.5 mm each."""
    hu = np.full((32, 48, 64), 0.0, np.float32)
    hu[12:20, 12:36, 12:52] = 1000.0
    patient_from_voxel = torch.diag(torch.tensor([0.5, 0.5, 0.5, 1.0], dtype=torch.float64))
    return CTVolume(torch.from_numpy(attenuation_from_hu(hu)), patient_from_voxel)


def pose_facing(volume: CTVolume, x: float = 0.0) -> RigidTransform:
    centre = torch.tensor([x, 0.0, 200.0], dtype=torch.float64) - volume.centre_patient
    return RigidTransform(torch.eye(3, dtype=torch.float64), centre)


def line_pixels(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels that a line of this colour covers at least half; in grey pixels, all channels are equal."""
    strong, weak = int(np.argmax(colour)), int(np.argmin(colour))
    return image[..., strong].astype(int) - image[..., weak] > 0.5 * (colour[strong] - colour[weak])


def test_edges_lie_where_the_camera_projects_them(block: CTVolume) -> None:
    renderer = NumbaRenderer(bone_volume(block))
    grey = torch.linspace(0, 1, 160).expand(120, 160)
    image = overlay(grey, renderer, pose_facing(block), CAMERA)
    drawn = line_pixels(image, POSE_COLOUR)
    half_width, half_height = 20 * 0.5 * 700 / 200, 12 * 0.5 * 700 / 200  # of the block's middle plane
    rows, columns = np.nonzero(drawn)
    beside = np.abs(np.abs(columns - 79.5) - half_width), np.abs(np.abs(rows - 59.5) - half_height)
    assert np.minimum(*beside).max() < 2.0
    assert drawn[40:80].any(axis=1).all()
    assert drawn[:, 50:110].any(axis=0).all()
    assert drawn.sum() < 3 * (2 * 2 * (half_width + half_height))


def test_a_second_pose_has_its_own_colour(block: CTVolume) -> None:
    renderer = NumbaRenderer(bone_volume(block))
    image = overlay(torch.zeros(120, 160), renderer, pose_facing(block), CAMERA, pose_facing(block, x=10.0))
    shift = 10.0 * 700 / 200
    columns = np.nonzero(line_pixels(image, POSE_COLOUR)[59])[0], np.nonzero(line_pixels(image, OTHER_COLOUR)[59])[0]
    np.testing.assert_allclose(columns[1].min() - columns[0].min(), shift, atol=1.01)


def test_a_line_is_drawn_to_a_fraction_of_a_pixel() -> None:
    columns = np.arange(60)
    for edge in (29.0, 29.3, 29.5, 29.8):
        step = np.tile(1 / (1 + np.exp(-(columns - edge) / 0.8)), (20, 1))
        cover = edge_lines(step, 1.0)[10]
        assert abs((cover * columns).sum() / cover.sum() - edge) < 0.15
        assert 0.8 < cover.sum() < 2.0


def test_an_xray_without_the_volume_in_view_is_unchanged(block: CTVolume) -> None:
    image = overlay(torch.rand(120, 160), NumbaRenderer(block), pose_facing(block, x=900.0), CAMERA)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    assert image.std() > 20


def test_pixels_that_are_not_finite_are_black_and_harmless(block: CTVolume) -> None:
    pixels = torch.rand(120, 160)
    pixels[3, 5], pixels[4, 5] = torch.nan, torch.inf
    image = overlay(pixels, NumbaRenderer(block), pose_facing(block, x=900.0), CAMERA)
    assert image[3, 5].max() == 0
    assert overlay(torch.full((120, 160), torch.nan), NumbaRenderer(block), pose_facing(block, x=900.0), CAMERA).max() == 0


def test_bone_is_what_lies_above_its_threshold(block: CTVolume) -> None:
    bone = bone_volume(block)
    assert int((bone.attenuation > 0).sum()) == 40 * 24 * 8
    water = CTVolume(block.attenuation.clamp(max=0.02), block.patient_from_voxel)
    assert torch.equal(bone_volume(water).attenuation, water.attenuation)
