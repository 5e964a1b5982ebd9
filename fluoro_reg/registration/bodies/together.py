"""All bodies together: one least-squares problem over the twists of all of them, on the image that they make together.

Bodies that overlap in the image hide each other's edges, and a joint ties two poses. Both couple the twists, so that finding
one body after the other would converge slowly and understate the uncertainty. The normal equations have six rows for each body;
a block of two bodies is empty but for the common scale of the image where they overlap in no view and share no joint.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, se3
from fluoro_reg.optimisers import LevenbergMarquardt, NormalEquations
from fluoro_reg.optimisers.levenberg_marquardt import solve_positive_definite
from fluoro_reg.registration.assessment.covariance import prior_in_image_units
from fluoro_reg.registration.bodies.body import Body, Joint
from fluoro_reg.registration.bodies.kernels import sum_body_products
from fluoro_reg.registration.bodies.scene import Poses, SeenView
from fluoro_reg.registration.stages.masks import Extent, complete_rays, near_object
from fluoro_reg.registration.stages.objective import effective_pixels
from fluoro_reg.registration.stages.scales import WINDOW_MM
from fluoro_reg.rendering.bodies import RenderedBody, project_bodies
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.similarity.gradient_ncc import system_of_products

SCALES_PX = (128, 256)  # across the reference's projection; each body has been found before
ITERATIONS, FOLLOWING_ITERATIONS = 30, 4
ARRIVED_SD = (
    0.2  # a body has arrived if its next step is shorter than this; Gauss-Newton's steps are up to four times too short
)


@dataclass(frozen=True, slots=True)
class SceneView:
    """One view at one scale: the X-ray, and how each body is rendered in it."""

    camera_from_reference: RigidTransform
    camera: CameraIntrinsics
    fixed: Float[Tensor, "1 height width"]
    usable: Float[Tensor, "1 height width"]
    rendered: tuple[RenderedBody, ...]
    extents: tuple[Extent, ...]
    margins_px: tuple[float, ...]
    rois: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SeenScene:
    """The image of all bodies in one view, its derivatives, and the pixels that are near any of them.

    `windows` are first and last column, first and last row outside of which the gradients of a body are zero.
    """

    moving: Float[Tensor, "batch height width"]
    jacobian: Float[Tensor, "batch parameters height width"]
    windows: Int64[Tensor, "batch bodies 4"]
    weight: Float[Tensor, "batch height width"]


@dataclass(frozen=True, slots=True)
class SceneEvaluation:
    """`reference_from_patient` of every body, and the scene in every view."""

    poses: tuple[RigidTransform, ...]
    views: tuple[SeenScene, ...]


@dataclass(frozen=True, slots=True)
class SceneNormalEquations(NormalEquations):
    """Sums over the views by their `fraction` of the compared pixels, and over the joints.

    `image_hessian` is without the joints; `pixels` are independent residuals. A step is judged with the weights of its start.
    """

    image_cost: Float[Tensor, "batch"]
    image_hessian: Float[Tensor, "batch parameters parameters"]
    pixels: Float[Tensor, "batch"]
    fraction: Float[Tensor, "batch views"]
    weights: tuple[Float[Tensor, "batch height width"], ...]
    joint_information: tuple[Float[Tensor, "batch 6 6"], ...]


@dataclass(slots=True)
class SceneObjective:
    """A `LeastSquaresProblem` of `fluoro_reg.optimisers` over the poses of all bodies; `n_renders` counts images of bodies."""

    bodies: tuple[Body, ...]
    views: tuple[SceneView, ...]
    similarity: GradientNCC
    n_renders: int = 0

    def evaluate(self, poses: Sequence[RigidTransform]) -> SceneEvaluation:
        """Render every body in every view."""
        self.n_renders += len(self.bodies) * len(self.views)
        return SceneEvaluation(tuple(poses), tuple(self._seen(view, poses) for view in self.views))

    def retract(self, at: SceneEvaluation, step: Float[Tensor, "batch parameters"]) -> SceneEvaluation:
        twists = step.split(6, dim=-1)
        return self.evaluate(
            [retract(pose, twist, body.pivot) for pose, twist, body in zip(at.poses, twists, self.bodies, strict=True)]
        )

    def linearise(self, at: SceneEvaluation) -> SceneNormalEquations:
        parts = [self._image_equations(view, seen) for view, seen in zip(self.views, at.views, strict=True)]
        pixels = torch.stack([effective_pixels(seen.weight) for seen in at.views], dim=-1)
        fraction = pixels / pixels.sum(-1, keepdim=True)
        cost = torch.einsum("bv,vb->b", fraction, torch.stack([part.cost.double() for part in parts]))
        gradient = torch.einsum("bv,vbi->bi", fraction, torch.stack([part.gradient.double() for part in parts]))
        image_hessian = torch.einsum("bv,vbij->bij", fraction, torch.stack([part.hessian.double() for part in parts]))
        hessian, information, total = image_hessian.clone(), [], cost.clone()
        for n, body in enumerate(self.bodies):
            if body.joint is None:
                continue
            twist, parent, from_parent = self._joint_twist(body, body.joint, at.poses)
            weighted = self._joint_information(at.poses[n], body.joint, cost, pixels.sum(-1))
            information.append(weighted)
            jacobian = torch.zeros(len(twist), 6, gradient.shape[-1], dtype=torch.float64)
            jacobian[..., 6 * n : 6 * n + 6] = torch.eye(6, dtype=torch.float64)
            jacobian[..., 6 * parent : 6 * parent + 6] = -from_parent
            pull = (weighted @ twist[..., None]).squeeze(-1)
            total = total + (twist * pull).sum(-1)
            gradient = gradient + (jacobian.mT @ pull[..., None]).squeeze(-1)
            hessian = hessian + jacobian.mT @ weighted @ jacobian
        weights = tuple(seen.weight for seen in at.views)
        return SceneNormalEquations(
            total, gradient, hessian, cost, image_hessian, pixels.sum(-1), fraction, weights, tuple(information)
        )

    def cost(self, trial: SceneEvaluation, reference: SceneNormalEquations) -> Float[Tensor, "batch"]:
        compared = zip(self.views, trial.views, reference.weights, strict=True)
        costs = [self.similarity.cost(seen.moving, view.fixed, weight).double() for view, seen, weight in compared]
        total = (reference.fraction * torch.stack(costs, dim=-1)).sum(-1)
        joined = [(body, body.joint) for body in self.bodies if body.joint is not None]
        for (body, joint), weighted in zip(joined, reference.joint_information, strict=True):
            twist, _, _ = self._joint_twist(body, joint, trial.poses)
            total = total + (twist * (weighted @ twist[..., None]).squeeze(-1)).sum(-1)
        return total

    def _image_equations(self, view: SceneView, seen: SeenScene) -> NormalEquations:
        """Those of gradient NCC in one view, with the windows of the bodies."""
        target, weight = self.similarity.target(view.fixed, seen.weight)
        shape = (len(weight), 2, *seen.moving.shape[1:])
        targets, weights = (x.expand_as(weight).reshape(shape).float().contiguous().numpy() for x in (target, weight))
        moving, jacobian = (images.float().contiguous().numpy() for images in (seen.moving, seen.jacobian))
        images = zip(moving, jacobian, seen.windows.numpy(), targets, weights, strict=True)
        sums = [sum_body_products(*image, self.similarity.floor, self.similarity.robust_scale) for image in images]
        return system_of_products(torch.from_numpy(np.stack(sums)))

    def _joint_twist(
        self, body: Body, joint: Joint, poses: Sequence[RigidTransform]
    ) -> tuple[Float[Tensor, "batch 6"], int, Float[Tensor, "6 6"]]:
        """The twist from the prior's mean to a body's pose, the parent's number, and how the parent's twist moves the mean."""
        names = [other.name for other in self.bodies]
        n, parent = names.index(body.name), names.index(joint.parent)
        twist = se3.local(poses[parent] @ joint.parent_from_body, poses[n], body.pivot)
        return twist, parent, joint.from_parent(body.pivot, self.bodies[parent].pivot)

    def _joint_information(
        self, pose: RigidTransform, joint: Joint, cost: Float[Tensor, "batch"], pixels: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch 6 6"]:
        rotations = (self.views[0].camera_from_reference @ pose).rotation
        rows = zip(cost.tolist(), pixels.tolist(), rotations, strict=True)
        return torch.stack([prior_in_image_units(joint.information, *row) for row in rows])

    def _seen(self, view: SceneView, poses: Sequence[RigidTransform]) -> SeenScene:
        in_view = [view.camera_from_reference @ pose for pose in poses]
        camera = view.camera
        images = project_bodies(view.rendered, in_view, camera)
        weight = torch.zeros(images.integrals.shape[0], camera.height, camera.width)
        rows = zip(images.integrals.unbind(1), view.rois, view.margins_px, strict=True)
        for integrals, roi, margin_px in rows:
            weight = torch.maximum(weight, near_object(integrals, roi, margin_px).to(weight))
        weight = weight * view.usable
        for rendered, extent, pose in zip(view.rendered, view.extents, in_view, strict=True):
            weight = weight * complete_rays(rendered.renderer.volume, extent, pose, camera)
        windows = torch.tensor([_with_border(window, camera) for window in images.windows])
        return SeenScene(images.total(), images.images_of_twists(), windows.expand(len(weight), -1, 4), weight)


@dataclass(frozen=True, slots=True)
class FoundTogether:
    """The poses of all bodies after the joint refinement; the normal equations are those of the finest scale."""

    poses: dict[str, RigidTransform]
    equations: SceneNormalEquations
    converged: bool
    n_renders: int

    def has_arrived(self, number: int, covariance: Float[Tensor, "6 6"] | None) -> bool:
        """Whether a body is at the optimum as closely as its covariance can tell, even if others are not."""
        if self.converged or covariance is None:
            return self.converged
        step = solve_positive_definite(self.equations.hessian, -self.equations.gradient)[0, 6 * number : 6 * number + 6]
        distance = step @ torch.linalg.solve(covariance, step)
        return bool(distance <= ARRIVED_SD**2)


def refine_together(
    bodies: tuple[Body, ...], views: Sequence[SeenView], poses: Poses, is_followed: bool = False
) -> FoundTogether:
    """Refine all poses (`reference_from_patient`) from coarse to fine; those of an earlier image at once, and briefly.

    Directions that the image leaves open take many steps. `has_arrived` tells of each body whether it needs them.
    """
    scales_px, iterations = (SCALES_PX[-1:], FOLLOWING_ITERATIONS) if is_followed else (SCALES_PX, ITERATIONS)
    found, n_renders = [RigidTransform.stack([poses[body.name]]) for body in bodies], 0
    converged: Bool[Tensor, "batch"] = torch.zeros(1, dtype=torch.bool)
    for object_px in scales_px:
        objective = SceneObjective(bodies, tuple(scene_view(bodies, view, poses, object_px) for view in views), GradientNCC())
        at, equations, converged = LevenbergMarquardt(iterations=iterations).minimise(objective, objective.evaluate(found))
        found, n_renders = list(at.poses), n_renders + objective.n_renders
    names = [body.name for body in bodies]
    return FoundTogether(
        {name: pose[0] for name, pose in zip(names, found, strict=True)}, equations, bool(converged[0]), n_renders
    )


def scene_view(bodies: Sequence[Body], view: SeenView, poses: Poses, object_px: int) -> SceneView:
    """One view at the scale at which the reference's projection spans `object_px`; of objects in air, only where they are."""
    reference = bodies[0]
    scales = reference.reading.scales(view.prepared, view.camera_from_reference @ poses[reference.name])
    scale = scales.scale(object_px, None)
    fixed, usable, camera = scale.fixed, scale.usable, scale.intrinsics
    rendered, extents, margins = [], [], []
    for body in bodies:
        model = body.reading.model
        depth_mm = float((view.camera_from_reference @ poses[body.name]).apply(body.pivot[None])[0, 2])
        pixel_mm = depth_mm / camera.fx
        renderer, extent = body.reading.renderers.for_pixel(pixel_mm)
        rendered.append(RenderedBody(renderer, body.pivot))
        extents.append(extent if model.veto_cut_rays else extent.uncut())
        margins.append(model.margin_mm / pixel_mm)
    rois = tuple(body.reading.model.roi for body in bodies)
    if "full" not in rois:
        in_view = [RigidTransform.stack([view.camera_from_reference @ poses[body.name]]) for body in bodies]
        reach = [margin * (1 + WINDOW_MM / body.reading.model.margin_mm) for margin, body in zip(margins, bodies, strict=True)]
        left, top, width, height = _window(rendered, in_view, camera, math.ceil(max(reach)))
        fixed, usable = (image[:, top : top + height, left : left + width] for image in (fixed, usable))
        camera = camera.cropped(left, top, width, height)
    return SceneView(view.camera_from_reference, camera, fixed, usable, tuple(rendered), tuple(extents), tuple(margins), rois)


def _with_border(window: tuple[int, int, int, int] | None, camera: CameraIntrinsics) -> tuple[int, int, int, int]:
    """First and last column, first and last row of the gradients of what is in a window; empty without one."""
    if window is None:
        return 0, -1, 0, -1
    left, top, width, height = window
    return max(0, left - 1), min(camera.width - 1, left + width), max(0, top - 1), min(camera.height - 1, top + height)


def _window(
    bodies: Sequence[RenderedBody], poses: Sequence[RigidTransform], camera: CameraIntrinsics, margin: int
) -> tuple[int, int, int, int]:
    """The pixels within `margin` of any body: first column and row, width and height. All, if no body is in the image."""
    windows = [body.window(pose, camera) for body, pose in zip(bodies, poses, strict=True)]
    seen = [window for window in windows if window is not None]
    if not seen:
        return 0, 0, camera.width, camera.height
    left, top = (max(0, min(window[n] for window in seen) - margin) for n in range(2))
    right = min(camera.width, max(window[0] + window[2] for window in seen) + margin)
    bottom = min(camera.height, max(window[1] + window[3] for window in seen) + margin)
    return left, top, right - left, bottom - top
