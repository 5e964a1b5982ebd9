"""Several bodies in one image: the sum of their line integrals, and its derivatives, against finite differences in float64."""

import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.ct.bodies import split_bodies
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.rendering import NumbaRenderer, TorchRenderer, project
from fluoro_reg.rendering.bodies import RenderedBody, project_bodies
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
    return [RigidTransform.stack([retract(view, twist, ct.centre_patient)]) for twist in twists]


def test_at_the_pose_of_the_ct_the_bodies_make_the_image_of_the_ct(parts):
    ct, volumes = parts
    view = poses(ct, 1, 0.0)[0]
    # a shared march axis is a shared quadrature: the volumes are compared on the grid of the CT, not on their own
    images = project_bodies(rendered_bodies(volumes, in_double), [view] * len(volumes), CAMERA)
    whole = project(in_double(ct), view, CAMERA)
    assert torch.allclose(images.total(), whole, atol=0.03 * float(whole.max()))
    assert float((images.total() - whole).abs().mean()) < 2e-3 * float(whole.mean())


def test_the_derivatives_to_every_pose_are_those_of_finite_differences(parts):
    ct, volumes = parts
    bodies = rendered_bodies(volumes, in_double)
    at = poses(ct, len(bodies), 1.0)
    jacobian = project_bodies(bodies, at, CAMERA).total_jacobian()
    assert jacobian.shape[-1] == 6 * len(bodies)
    for n in range(len(bodies)):
        for p, step in enumerate([1e-4] * 3 + [1e-6] * 3):
            ahead, behind = (
                project_bodies(bodies, [*at[:n], _moved(at[n], p, sign * step, bodies[n].pivot), *at[n + 1 :]], CAMERA).total()
                for sign in (1, -1)
            )
            difference = (ahead - behind) / (2 * step)
            error = (difference - jacobian[..., 6 * n + p]).abs()
            scale = float(jacobian[..., 6 * n + p].abs().max())
            assert scale > 0
            assert float(error.quantile(0.99)) < 1e-4 * scale  # a ray at a face of a voxel has no derivative
            assert float(error.mean()) < 1e-3 * scale


def _moved(pose, p, step, pivot):
    twist = torch.zeros(6, dtype=torch.float64)
    twist[p] = step
    return retract(pose, twist[None], pivot)


def test_a_window_holds_all_that_a_body_attenuates(parts):
    ct, volumes = parts
    bodies, at = rendered_bodies(volumes, in_double), poses(ct, len(volumes), 1.0)
    images = project_bodies(bodies, at, CAMERA)
    for n, body in enumerate(bodies):
        assert torch.allclose(images.integrals[:, n], project(body.renderer, at[n], CAMERA), atol=1e-9)


def test_the_compiled_renderer_agrees_with_the_reference(parts):
    ct, volumes = parts
    at = poses(ct, len(volumes), 1.0)
    fast = project_bodies(rendered_bodies(volumes, NumbaRenderer), at, CAMERA)
    slow = project_bodies(rendered_bodies(volumes, in_double), at, CAMERA)
    assert torch.allclose(fast.total().double(), slow.total(), atol=2e-4 * float(slow.total().max()))
    scale = slow.jacobians.abs().amax((0, 1, 2, 3))
    off = (fast.jacobians.double() - slow.jacobians).abs() / scale
    assert float(off.quantile(0.999)) < 2e-3


def test_a_body_out_of_the_field_has_no_pixels(parts):
    ct, volumes = parts
    at = poses(ct, len(volumes), 0.0)
    beside = RigidTransform(at[1].rotation, at[1].translation + torch.tensor([900.0, 0.0, 0.0]))
    images = project_bodies(rendered_bodies(volumes, NumbaRenderer), [at[0], beside, *at[2:]], CAMERA)
    assert not bool(images.integrals[:, 1].any()) and not bool(images.jacobians[:, 1].any())
