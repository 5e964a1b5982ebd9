"""`PoseValues`: renderer, similarity and image as values of poses, for every optimiser but Levenberg-Marquardt.

A point is a twist about the pivot along the camera's axes, so its components mean the same for every position of the patient:
two in-plane translations, depth, two out-of-plane rotations, the in-plane rotation. Bounds and initial spreads differ between
them.

The value is 1 - score. With a prior of squared distance q it is `(1 - score)(1 + q / n)` over n independent pixels. To first
order this is the likelihood `n log(1 - score) + q` of an image of unknown noise, and the same balance as in `PoseObjective`.
Pixels that cannot be compared do not count, so a pose that leaves almost none of them must be prevented.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.registration.method import Restraint, SparsePatches
from fluoro_reg.registration.stages.masks import near_object
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import MINIMUM_PIXELS, PosePrior, Scale, effective_pixels
from fluoro_reg.rendering.rays import rays_of_views
from fluoro_reg.similarity import AbstractSimilarity
from fluoro_reg.similarity.gradient_ncc import sobel_gradients
from fluoro_reg.similarity.residual import normalise_weights
from fluoro_reg.similarity.windows import box_means

MINIMUM_FRACTION = 0.4  # of the pixels compared at the best starting pose
CHUNK_PIXELS = 2**18  # rendered and compared at a time; more would not fit into a processor's cache and be slower


def moved(starts: RigidTransform, twists: Float[Tensor, "batch 6"], pivot: Float[Tensor, "3"]) -> RigidTransform:
    """Move `starts` by twists [mm, rad] about the pivot (patient mm) along the camera's axes."""
    patient_from_camera = starts.rotation.mT
    in_patient = (patient_from_camera[:, None] @ twists.unflatten(-1, (2, 3))[..., None]).flatten(1)
    return retract(starts, in_patient, pivot)


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches to compare, all of one size, with their first pixels at `corners` (u, v). An image may be one patch."""

    corners: Int[Tensor, "n 2"]
    height: int
    width: int

    @classmethod
    def whole(cls, scale: Scale) -> "Patches":
        return cls(torch.zeros(1, 2, dtype=torch.long), *scale.fixed.shape[1:])

    @classmethod
    def sampled(
        cls, patches: SparsePatches, moving: Float[Tensor, "batch h w"], weight: Float[Tensor, "batch h w"], seed: int
    ) -> "Patches":
        """Patches at random places, with a probability that follows the edges of the rendered images `moving`."""
        side = min(patches.side, *moving.shape[1:])
        edges = (sobel_gradients(moving[:, None])[:, 0].norm(dim=1) * weight).mean(0, keepdim=True)
        density = box_means(edges, side)[0]
        random = torch.Generator().manual_seed(seed)
        index = torch.multinomial(density.flatten().clamp_min(1e-12), patches.count, replacement=True, generator=random)
        return cls(torch.stack([index % density.shape[1], index // density.shape[1]], dim=-1), side, side)

    def of(self, images: Float[Tensor, "batch h w"]) -> Float[Tensor, "patches height width"]:
        """The patches of every image; patch p of image b is b * n + p, as in `Rays.patches`."""
        rows = self.corners[:, 1, None] + torch.arange(self.height)
        columns = self.corners[:, 0, None] + torch.arange(self.width)
        return images[:, rows[:, :, None], columns[:, None, :]].flatten(0, 1)


@dataclass(slots=True)
class PoseValues:
    """A `ValueProblem` of `fluoro_reg.optimisers` whose starts are a batch of `camera_from_patient`; autograd can follow it.

    `n_renders` counts views.
    """

    scale: Scale
    model: ObjectModel
    similarity: AbstractSimilarity
    prior: PosePrior | None = None
    restraint: Restraint = field(default_factory=Restraint)
    patches: Patches = field(init=False)
    minimum_pixels: float = MINIMUM_PIXELS
    n_renders: int = 0

    def __post_init__(self) -> None:
        self.patches = Patches.whole(self.scale)

    def prepare(self, starts: RigidTransform, sparse: SparsePatches, seed: int) -> None:
        """Sample the patches, and count the pixels to compare, at the starting poses."""
        with torch.no_grad():
            moving, weight = self._render(starts)
            if sparse.count:
                self.patches = Patches.sampled(sparse, moving, weight, seed)
                weight = self._per_pose(self.patches.of(weight))
        self.minimum_pixels = max(MINIMUM_PIXELS, MINIMUM_FRACTION * float(_pixels(weight).max()))

    def values(self, starts: RigidTransform, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        poses = moved(starts, twists, self.model.pivot)
        chunk = max(1, CHUNK_PIXELS // (len(self.patches.corners) * self.patches.height * self.patches.width))
        values = torch.cat([self._values(poses[k : k + chunk]) for k in range(0, len(twists), chunk)])
        weight, sigma = self.restraint.weight, torch.tensor(self.restraint.sigma, dtype=torch.float64)
        return (1 - weight) * values + weight * (twists / sigma).square().sum(-1) / 2

    def _values(self, poses: RigidTransform) -> Float[Tensor, "batch"]:
        moving, weight = self._render(poses)
        fixed = self.patches.of(self.scale.fixed)
        if len(fixed) > 1:
            fixed = fixed.repeat(len(moving) // len(fixed), 1, 1)
        scores = self.similarity.score(moving, fixed, weight).double()
        per_pose = (-1, len(self.patches.corners))
        fractions = normalise_weights(weight.double().sum((1, 2)).unflatten(0, per_pose))
        values = 1 - (fractions * scores.unflatten(0, per_pose)).sum(-1)
        together = self._per_pose(weight)
        if self.prior is not None:
            twist = se3.local(self.prior.camera_from_patient, poses, self.model.pivot)
            distance = (twist @ self.prior.information * twist).sum(-1)
            values = values * (1 + distance / effective_pixels(together))
        return torch.where(_pixels(together) < self.minimum_pixels, torch.inf, values)

    def _render(self, poses: RigidTransform) -> tuple[Float[Tensor, "images h w"], Float[Tensor, "images h w"]]:
        """The CT at each pose in every patch, and the pixels that count. Patches are near the object already."""
        n, batch = len(self.patches.corners), len(poses.translation)
        self.n_renders += batch
        rays = rays_of_views(self.scale.renderer.volume, poses, self.scale.intrinsics)
        rays = rays.patches(self.patches.corners.expand(batch, n, 2), self.patches.height, self.patches.width)
        integrals = self.scale.renderer.integrals(rays).cpu()
        with torch.no_grad():
            whole = torch.ones_like(self.scale.usable)
            complete = n == 1 and integrals.shape[1:] == whole.shape[1:]
            near = near_object(integrals, self.model.roi, self.scale.margin_px) if complete else whole
            weight = self.patches.of(self.scale.weight(poses, near))
        saturation = self.model.saturation
        return (-torch.expm1(-saturation * integrals) if saturation > 0 else integrals), weight

    def _per_pose(self, images: Float[Tensor, "images h w"]) -> Float[Tensor, "batch rows w"]:
        """The patches of each pose, one below the other."""
        return images.unflatten(0, (-1, len(self.patches.corners))).flatten(1, 2)


def _pixels(weight: Float[Tensor, "batch h w"]) -> Int[Tensor, "batch"]:
    return (weight > 0).flatten(1).sum(-1)
