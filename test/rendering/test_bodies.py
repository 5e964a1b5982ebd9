"""Several bodies in one image: the sum of their line integrals, and its derivatives, against finite differences in float64."""

import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.ct.bodies import split_bodies
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.rendering import NumbaRenderer, TorchRenderer, project
from fluoro_reg.rendering.bodies import NEARBY_PX, RenderedBody, total_image
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels, phantom_volume

OPTIONS = PhantomOptions(spacing_mm=(6.0, 6.0, 6.0))
BODIES = {"femur_left": [75], "femur_right": [76], "L5": [27]}
CAMERA = carm_camera(48)


@pytest.fixture(scope="module")
def parts():
    ct = phantom_volume(OPTIONS)
    rest, volumes = split_bodies(ct, phantom_labels(OPTIONS).on_grid_of(ct), BODIES)
    return ct, [rest, *volumes.values()]


def rendered_bodies(volumes, make):
    return [RenderedBody(make(volume), volume.centre_patient) for volume in volumes]


def in_double(volume):
    return TorchRenderer(volume, dtype=torch.float64)


def poses(ct, n, moved):
    view = view_pose(ct.centre_patient, 12.0, -7.0, 3.0, 700.0)
    generator = torch.Generator().manual_seed(3)
    twists = moved * torch.randn(n, 6, generator=generator, dtype=torch.float64) * torch.tensor([4.0] * 3 + [0.06] * 3)
    return [retract(view, twist, ct.centre_patient) for twist in twists]


def images_of(bodies, at):
    return [body.image(pose, CAMERA) for body, pose in zip(bodies, at, strict=True)]


def whole(image):
    """Line integrals and derivatives in all of the image, [7, height, width]."""
    channels = torch.zeros(7, CAMERA.height, CAMERA.width, dtype=image.integrals.dtype)
    rows, columns = image.window.pixels
    channels[:, rows, columns] = torch.cat([image.integrals[None], image.jacobian])
    return channels


def test_at_the_pose_of_the_ct_the_bodies_make_the_image_of_the_ct(parts):
    ct, volumes = parts
    view = poses(ct, 1, 0.0)[0]
    # a shared march axis is a shared quadrature: the volumes are compared on the grid of the CT, not on their own
    total = total_image(images_of(rendered_bodies(volumes, in_double), [view] * len(volumes)), CAMERA)
    of_ct = project(in_double(ct), view, CAMERA)
    assert torch.allclose(total, of_ct, atol=0.03 * float(of_ct.max()))
    assert float((total - of_ct).abs().mean()) < 2e-3 * float(of_ct.mean())


def test_the_derivatives_to_every_pose_are_those_of_finite_differences(parts):
    ct, volumes = parts
    bodies = rendered_bodies(volumes, in_double)
    for body, at in zip(bodies, poses(ct, len(bodies), 1.0), strict=True):
        jacobian = whole(body.image(at, CAMERA))[1:]
        for p, step in enumerate([1e-4] * 3 + [1e-6] * 3):
            ahead, behind = (whole(body.image(_moved(at, p, sign * step, body.pivot), CAMERA))[0] for sign in (1, -1))
            error = ((ahead - behind) / (2 * step) - jacobian[p]).abs()
            scale = float(jacobian[p].abs().max())
            assert scale > 0
            assert float(error.quantile(0.99)) < 1e-4 * scale  # a ray at a face of a voxel has no derivative
            assert float(error.mean()) < 1e-3 * scale


def _moved(pose, p, step, pivot):
    twist = torch.zeros(6, dtype=torch.float64)
    twist[p] = step
    return retract(pose, twist, pivot)


def test_a_window_holds_all_that_a_body_attenuates_and_its_border_is_zero(parts):
    ct, volumes = parts
    bodies, at = rendered_bodies(volumes, in_double), poses(ct, len(volumes), 1.0)
    for body, pose, image in zip(bodies, at, images_of(bodies, at), strict=True):
        assert torch.allclose(whole(image)[0], project(body.renderer, pose, CAMERA), atol=1e-9)
        window, within = image.window, torch.cat([image.integrals[None], image.jacobian])
        assert window.left == 0 or not bool(within[:, :, 0].any())
        assert window.top == 0 or not bool(within[:, 0].any())
        assert window.left + window.width == CAMERA.width or not bool(within[:, :, -1].any())
        assert window.top + window.height == CAMERA.height or not bool(within[:, -1].any())


def test_the_compiled_renderer_agrees_with_the_reference(parts):
    ct, volumes = parts
    at = poses(ct, len(volumes), 1.0)
    fast = images_of(rendered_bodies(volumes, NumbaRenderer), at)
    slow = images_of(rendered_bodies(volumes, in_double), at)
    total = total_image(slow, CAMERA)
    assert torch.allclose(total_image(fast, CAMERA).double(), total, atol=2e-4 * float(total.max()))
    jacobians = torch.stack([whole(image)[1:] for image in slow])
    off = torch.stack([whole(image)[1:] for image in fast]).double() - jacobians
    scale = jacobians.abs().amax((0, 2, 3))[:, None, None]
    assert float((off.abs() / scale).quantile(0.999)) < 2e-3


def test_an_image_from_nearby_is_moved_by_its_derivatives(parts):
    ct, volumes = parts
    for body, at in zip(rendered_bodies(volumes, in_double), poses(ct, len(volumes), 1.0), strict=True):
        here = body.image(at, CAMERA)
        twist = torch.tensor([0.3, -0.2, 0.4, 2e-4, 3e-4, -4e-4], dtype=torch.float64)
        beside = retract(at, twist, body.pivot)
        near, rendered = body.image_nearby(here, beside, CAMERA), body.image(beside, CAMERA)
        assert near is not None and near.camera_from_patient is beside
        change = float((whole(rendered)[0] - whole(here)[0]).abs().mean())
        assert float((whole(rendered)[0] - whole(near)[0]).abs().mean()) < 0.25 * change


def test_an_image_from_further_away_is_rendered_anew(parts):
    ct, volumes = parts
    at, body = poses(ct, 1, 1.0)[0], rendered_bodies(volumes, NumbaRenderer)[0]
    here, pixel_mm = body.image(at, CAMERA), 700.0 / CAMERA.fx
    for share, is_near in ((0.5, True), (1.5, False)):
        along = torch.tensor([share * NEARBY_PX * pixel_mm, 0.0, 0.0], dtype=torch.float64)
        beside = RigidTransform(at.rotation, at.translation + along)
        assert (body.image_nearby(here, beside, CAMERA) is not None) is is_near


def test_a_body_out_of_the_field_has_no_pixels(parts):
    ct, volumes = parts
    at = poses(ct, 1, 0.0)[0]
    beside = RigidTransform(at.rotation, at.translation + torch.tensor([900.0, 0.0, 0.0]))
    image = rendered_bodies(volumes, NumbaRenderer)[1].image(beside, CAMERA)
    assert image.integrals.numel() == 0 and image.jacobian.numel() == 0
    assert not bool(total_image([image], CAMERA).any())
