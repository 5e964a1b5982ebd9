"""All bodies together: one least-squares problem over the twists of all of them, on the image that they make together.

Bodies that overlap in the image hide each other's edges, and a joint ties two poses. Both couple the twists, so that finding
one body after the other would converge slowly and understate the uncertainty. The normal equations have six rows for each body;
a block of two bodies is empty but for the common scale of the image where they overlap in no view and share no joint.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.optimisers import LevenbergMarquardt, NormalEquations
from fluoro_reg.optimisers.levenberg_marquardt import solve_positive_definite
from fluoro_reg.registration.assessment.covariance import prior_in_image_units
from fluoro_reg.registration.bodies.body import Body, Joint
from fluoro_reg.registration.bodies.kernels import sum_body_products
from fluoro_reg.registration.bodies.scene import Poses, SeenView
from fluoro_reg.registration.bodies.scene_images import Compared, SceneImages, SceneView, SeenScene, scene_view
from fluoro_reg.registration.stages.objective import effective_pixels
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.similarity.gradient_ncc import system_of_products
from fluoro_reg.similarity.kernels import sum_gradient_losses

SCALES_PX = (128, 256)  # across the reference's projection; each body has been found before
ITERATIONS, FOLLOWING_ITERATIONS = 30, 4
ARRIVED_SD = (
    0.2  # a body has arrived if its next step is shorter than this; Gauss-Newton's steps are up to four times too short
)


@dataclass(frozen=True, slots=True)
class SceneEvaluation:
    """`reference_from_patient` of every body, and the number under which the objective keeps the scene in every view.

    The optimiser copies evaluations, and images are large.
    """

    poses: tuple[RigidTransform, ...]
    number: Int64[Tensor, "batch"]


@dataclass(frozen=True, slots=True)
class SceneNormalEquations(NormalEquations):
    """Sums over the views by their `fraction` of the compared pixels, and over the joints.

    `image_hessian` is without the joints; `pixels` are independent residuals; `number` is that of the evaluation. A step is
    judged with the weights of its start.
    """

    image_cost: Float[Tensor, "batch"]
    image_hessian: Float[Tensor, "batch parameters parameters"]
    pixels: Float[Tensor, "batch"]
    fraction: Float[Tensor, "batch views"]
    number: Int64[Tensor, "batch"]
    joint_information: tuple[Float[Tensor, "batch 6 6"], ...]


@dataclass(slots=True)
class SceneObjective:
    """A `LeastSquaresProblem` of `fluoro_reg.optimisers` over the poses of all bodies, for a batch of one."""

    bodies: tuple[Body, ...]
    views: tuple[SceneView, ...]
    similarity: GradientNCC
    _images: tuple[SceneImages, ...] = field(init=False)
    _scenes: dict[int, tuple[SeenScene, ...]] = field(init=False)
    _evaluations: int = field(init=False)

    def __post_init__(self) -> None:
        self._images, self._scenes = tuple(SceneImages(view, self.similarity) for view in self.views), {}
        self._evaluations = 0

    @property
    def n_renders(self) -> int:
        """Images of bodies that were rendered."""
        return sum(images.n_renders for images in self._images)

    def evaluate(self, poses: Sequence[RigidTransform]) -> SceneEvaluation:
        """See every body in every view."""
        self._evaluations += 1
        self._scenes[self._evaluations] = tuple(
            images.seen([images.view.camera_from_reference @ pose[0] for pose in poses]) for images in self._images
        )
        return SceneEvaluation(tuple(poses), torch.tensor([self._evaluations]))

    def scenes(self, at: SceneEvaluation) -> tuple[SeenScene, ...]:
        """The scene in every view, of the last evaluation or of that from which it stepped away."""
        return self._scenes[int(at.number[0])]

    def retract(self, at: SceneEvaluation, step: Float[Tensor, "batch parameters"]) -> SceneEvaluation:
        self._scenes = {int(at.number[0]): self.scenes(at)}
        twists = step.split(6, dim=-1)
        return self.evaluate(
            [retract(pose, twist, body.pivot) for pose, twist, body in zip(at.poses, twists, self.bodies, strict=True)]
        )

    def linearise(self, at: SceneEvaluation) -> SceneNormalEquations:
        scenes = self.scenes(at)
        parts = [self._image_equations(seen) for seen in scenes]
        pixels = torch.stack([effective_pixels(seen.compared.weight[None]) for seen in scenes], dim=-1)
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
        return SceneNormalEquations(
            total, gradient, hessian, cost, image_hessian, pixels.sum(-1), fraction, at.number, tuple(information)
        )

    def cost(self, trial: SceneEvaluation, reference: SceneNormalEquations) -> Float[Tensor, "batch"]:
        compared = [seen.compared for seen in self._scenes[int(reference.number[0])]]
        costs = [self._image_cost(seen, with_what) for seen, with_what in zip(self.scenes(trial), compared, strict=True)]
        total = (reference.fraction * torch.tensor([costs], dtype=torch.float64)).sum(-1)
        joined = [(body, body.joint) for body in self.bodies if body.joint is not None]
        for (body, joint), weighted in zip(joined, reference.joint_information, strict=True):
            twist, _, _ = self._joint_twist(body, joint, trial.poses)
            total = total + (twist * (weighted @ twist[..., None]).squeeze(-1)).sum(-1)
        return total

    def _image_equations(self, seen: SeenScene) -> NormalEquations:
        """Those of gradient NCC in one view, with the windows of the bodies."""
        jacobians = np.concatenate([image.jacobian.float().reshape(-1).numpy() for image in seen.images])
        windows = np.array([astuple(image.window) for image in seen.images])
        compared = (seen.compared.target.numpy(), seen.compared.gradient_weight.numpy())
        settings = (self.similarity.floor, self.similarity.robust_scale)
        sums = sum_body_products(seen.moving.float().numpy(), jacobians, windows, *compared, *settings)
        return system_of_products(sums[None])

    def _image_cost(self, seen: SeenScene, compared: Compared) -> float:
        """The cost of gradient NCC in one view, of the same pixels as at another pose."""
        gradients = (compared.target.numpy(), compared.gradient_weight.numpy())
        limits = self.similarity.floor, self.similarity.robust_scale
        loss, _ = sum_gradient_losses(seen.moving.float().numpy(), *gradients, *limits)
        return loss

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
        for view, scene, seen in zip(views, objective.views, objective.scenes(at), strict=True):
            view.pictures.keep(bodies, seen.images, scene.camera)
    names = [body.name for body in bodies]
    return FoundTogether(
        {name: pose[0] for name, pose in zip(names, found, strict=True)}, equations, bool(converged[0]), n_renders
    )
