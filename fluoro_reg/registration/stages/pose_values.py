"""`PoseValues`: renderer, similarity and image as plain values of poses, for every optimiser but Levenberg-Marquardt.

A point is a twist about the pivot along the camera's axes, so its numbers mean the same for every patient position: shifts in
the image plane (two), depth, turns out of the plane (two), turn in the plane. Boxes and first clouds differ between them.

The value is 1 - score. With a prior of squared distance q it is `(1 - score)(1 + q / n)` over n independent pixels: to first
order the likelihood `n log(1 - score) + q` of an image whose noise is unknown, and the balance that `PoseObjective` strikes.
Pixels that cannot be compared have no say, so a pose must be kept from leaving next to none.
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
from fluoro_reg.similarity.gradient_ncc import gradients
from fluoro_reg.similarity.residual import normalised
from fluoro_reg.similarity.windows import box_means

MINIMUM_FRACTION = 0.4  # of the pixels compared at the best of the starts
CHUNK_PIXELS = 2**18  # rendered and compared at a time: what a processor's cache holds is quicker than more


def moved(starts: RigidTransform, twists: Float[Tensor, "batch 6"], pivot: Float[Tensor, "3"]) -> RigidTransform:
    """The chart: `starts` moved by twists [mm, rad] about the pivot (patient mm) along the camera's axes."""
    patient_from_camera = starts.rotation.mT
    in_patient = (patient_from_camera[:, None] @ twists.unflatten(-1, (2, 3))[..., None]).flatten(1)
    return retract(starts, in_patient, pivot)


@dataclass(frozen=True, slots=True)
class Cut:
    """What is compared: patches of one size, whose first pixels are at `corners` (u, v). The whole image is one patch."""

    corners: Int[Tensor, "n 2"]
    height: int
    width: int

    @classmethod
    def whole(cls, scale: Scale) -> "Cut":
        return cls(torch.zeros(1, 2, dtype=torch.long), *scale.fixed.shape[1:])

    @classmethod
    def drawn(
        cls, patches: SparsePatches, moving: Float[Tensor, "batch h w"], weight: Float[Tensor, "batch h w"], seed: int
    ) -> "Cut":
        """Patches at random places, likelier where there are more edges of the CT's projections `moving`."""
        side = min(patches.side, *moving.shape[1:])
        edges = (gradients(moving[:, None])[:, 0].norm(dim=1) * weight).mean(0, keepdim=True)
        density = box_means(edges, side)[0]
        random = torch.Generator().manual_seed(seed)
        place = torch.multinomial(density.flatten().clamp_min(1e-12), patches.count, replacement=True, generator=random)
        return cls(torch.stack([place % density.shape[1], place // density.shape[1]], dim=-1), side, side)

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
    cut: Cut = field(init=False)
    minimum_pixels: float = MINIMUM_PIXELS
    n_renders: int = 0

    def __post_init__(self) -> None:
        self.cut = Cut.whole(self.scale)

    def prepare(self, starts: RigidTransform, sparse: SparsePatches, seed: int) -> None:
        """Looks at the starts: draws the patches, and learns how many pixels there are to compare."""
        with torch.no_grad():
            moving, weight = self._render(starts)
            if sparse.count:
                self.cut = Cut.drawn(sparse, moving, weight, seed)
                weight = self._per_pose(self.cut.of(weight))
        self.minimum_pixels = max(MINIMUM_PIXELS, MINIMUM_FRACTION * float(_pixels(weight).max()))

    def values(self, starts: RigidTransform, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        poses = moved(starts, twists, self.model.pivot)
        chunk = max(1, CHUNK_PIXELS // (len(self.cut.corners) * self.cut.height * self.cut.width))
        values = torch.cat([self._values(poses[k : k + chunk]) for k in range(0, len(twists), chunk)])
        share, sigma = self.restraint.share, torch.tensor(self.restraint.sigma, dtype=torch.float64)
        return (1 - share) * values + share * (twists / sigma).square().sum(-1) / 2

    def _values(self, poses: RigidTransform) -> Float[Tensor, "batch"]:
        moving, weight = self._render(poses)
        fixed = self.cut.of(self.scale.fixed)
        if len(fixed) > 1:
            fixed = fixed.repeat(len(moving) // len(fixed), 1, 1)
        scores = self.similarity.score(moving, fixed, weight).double()
        patches = (-1, len(self.cut.corners))
        shares = normalised(weight.double().sum((1, 2)).unflatten(0, patches))
        values = 1 - (shares * scores.unflatten(0, patches)).sum(-1)
        together = self._per_pose(weight)
        if self.prior is not None:
            twist = se3.local(self.prior.camera_from_patient, poses, self.model.pivot)
            distance = (twist @ self.prior.information * twist).sum(-1)
            values = values * (1 + distance / effective_pixels(together))
        return torch.where(_pixels(together) < self.minimum_pixels, torch.inf, values)

    def _render(self, poses: RigidTransform) -> tuple[Float[Tensor, "images h w"], Float[Tensor, "images h w"]]:
        """The CT at each pose in every patch, and which pixels count there. Patches lie near the object already."""
        n, batch = len(self.cut.corners), len(poses.translation)
        self.n_renders += batch
        rays = rays_of_views(self.scale.renderer.volume, poses, self.scale.intrinsics)
        rays = rays.patches(self.cut.corners.expand(batch, n, 2), self.cut.height, self.cut.width)
        integrals = self.scale.renderer.integrals(rays).cpu()
        with torch.no_grad():
            whole = torch.ones_like(self.scale.usable)
            complete = n == 1 and integrals.shape[1:] == whole.shape[1:]
            near = near_object(integrals, self.model.roi, self.scale.margin_px) if complete else whole
            weight = self.cut.of(self.scale.weight(poses, near))
        saturation = self.model.saturation
        return (-torch.expm1(-saturation * integrals) if saturation > 0 else integrals), weight

    def _per_pose(self, images: Float[Tensor, "images h w"]) -> Float[Tensor, "batch rows w"]:
        """The patches of each pose below one another."""
        return images.unflatten(0, (-1, len(self.cut.corners))).flatten(1, 2)


def _pixels(weight: Float[Tensor, "batch h w"]) -> Int[Tensor, "batch"]:
    return (weight > 0).flatten(1).sum(-1)
