"""`NCCRefiner`: Levenberg-Marquardt on global NCC without a Jacobian image and, on a GPU, as one CUDA graph.

The renderer accumulates the 44 sums that the normal equations of NCC need while it renders. A round of Levenberg-Marquardt is
then one launch of the renderer and about three hundred small operations on matrices of at most 9 x 9. Launched from Python,
these take many times as long as the rendering; captured in a graph, all rounds are one launch. `LevenbergMarquardt.rounds` is
captured: the march axis of each view is chosen at the starting pose and kept.

It suits images whose grey values the CT explains, such as simulations. Other X-rays need gradient NCC.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.optimisers import LevenbergMarquardt, NormalEquations
from fluoro_reg.registration.stages.cuda_graph import captured
from fluoro_reg.registration.stages.gradient_refiner import GradientRefiner, refiner_key
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import Scale
from fluoro_reg.rendering.rays import ViewGeometry, march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.similarity import NCC, GradientNCC

_FEWEST = 4  # poses of a refiner on gradient NCC: fewer take a GPU as long, and would be captured on their own
_MAXIMUM_REFINERS = 32  # of one CT; the least recently used one is dropped, with its graph and its memory


@dataclass(frozen=True, slots=True)
class GramEvaluation:
    """Poses, and the sums over their images."""

    poses: RigidTransform
    gram: Float[Tensor, "batch 9 9"]


@dataclass(slots=True)
class GramObjective:
    """A `LeastSquaresProblem`: global NCC of a CT and an X-ray, from the sums that the renderer accumulates.

    The batch is fixed, as for `LevenbergMarquardt.rounds`, which keeps all poses to the end.
    """

    renderer: AbstractRenderer
    geometry: ViewGeometry
    pivot: Float[Tensor, "3"]
    fixed: Float[Tensor, "1 height width"]
    weight: Float[Tensor, "batch height width"]
    axes: Int[Tensor, "batch"]
    similarity: NCC = NCC()

    def evaluate(self, poses: RigidTransform) -> GramEvaluation:
        rays = self.geometry.rays(poses, self.axes)
        tangents = self.geometry.twist_tangents(poses, self.pivot)
        return GramEvaluation(poses, self.renderer.gram(rays, tangents, self.fixed, self.weight))

    def retract(self, at: GramEvaluation, step: Float[Tensor, "batch 6"]) -> GramEvaluation:
        return self.evaluate(retract(at.poses, step, self.pivot))

    def linearise(self, at: GramEvaluation) -> NormalEquations:
        """The normal equations; the cost is infinite for a pose that leaves nothing to compare (no weight, or a flat image)."""
        system = self.similarity.normal_equations_from_gram(at.gram)
        n, sums, squares = at.gram[:, 0, 0], at.gram[:, 0, 2], at.gram[:, 2, 2]
        flat = n * squares - sums * sums <= self.similarity.floor * n * n
        return replace(system, cost=torch.where(flat, torch.inf, system.cost))

    def cost(self, trial: GramEvaluation, reference: NormalEquations) -> Float[Tensor, "batch"]:
        return self.linearise(trial).cost


@dataclass(slots=True)
class NCCRefiner:
    """Refines `batch` poses per call against one image; image size, batch and CT are fixed at construction.

    On a GPU, the first call captures the graph and later calls replay it. On a CPU, the same operations run one by one. All
    poses are `camera_from_patient`; results are on the renderer's device.
    """

    renderer: AbstractRenderer
    intrinsics: CameraIntrinsics
    pivot: Float[Tensor, "3"]
    batch: int = 1
    optimiser: LevenbergMarquardt = field(default_factory=lambda: LevenbergMarquardt(iterations=8))
    similarity: NCC = field(default_factory=NCC)
    _start: RigidTransform = field(init=False)  # with the objective's tensors, the memory that a captured graph reads
    _objective: GramObjective = field(init=False)
    _graph: Any = field(init=False, default=None)
    _outputs: tuple[RigidTransform, Tensor, Tensor] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        device, shape = self.renderer.device, (self.intrinsics.height, self.intrinsics.width)
        nowhere = torch.zeros(self.batch, 3, dtype=torch.float64, device=device)
        self._start = RigidTransform(torch.diag_embed(nowhere + 1), nowhere)
        self._objective = GramObjective(
            self.renderer,
            ViewGeometry.from_volume(self.renderer.volume, self.intrinsics, device),
            self.pivot.to(device, torch.float64),
            fixed=torch.zeros(1, *shape, device=device),
            weight=torch.zeros(self.batch, *shape, device=device),
            axes=torch.zeros(self.batch, dtype=torch.int64, device=device),
            similarity=self.similarity,
        )

    def refine(
        self, poses: RigidTransform, fixed: Float[Tensor, "height width"], weight: Float[Tensor, "*#batch height width"]
    ) -> tuple[RigidTransform, Float[Tensor, "batch"], Bool[Tensor, "batch"]]:
        """Refine poses against an image under weights, which may differ from pose to pose.

        Returns:
            The refined poses, their costs 2 (1 - NCC), and whether each met the optimiser's tolerance.
        """
        rays = ViewGeometry.from_volume(self.renderer.volume, self.intrinsics).rays(poses.to("cpu", torch.float64))
        self._objective.axes.copy_(torch.tensor(march_axes(rays, self.renderer.volume.shape_ijk)))
        centre = (weight * fixed).sum() / weight.sum().clamp_min(1e-12)
        self._objective.fixed.copy_(fixed - centre)  # without effect on NCC; float32 sums keep their precision
        self._objective.weight.copy_(weight)
        self._start.rotation.copy_(poses.rotation)
        self._start.translation.copy_(poses.translation)
        if self.renderer.device.type != "cuda":
            return self._run()
        if self._graph is None:
            self._graph, self._outputs = captured(self._run, self.renderer.device)
        self._graph.replay()
        refined, cost, converged = self._outputs
        copied = RigidTransform(refined.rotation.clone(), refined.translation.clone())
        return copied, cost.clone(), converged.clone()

    @torch.no_grad()
    def _run(self) -> tuple[RigidTransform, Tensor, Tensor]:
        at, here, converged = self.optimiser.minimise_unrolled(self._objective, self._objective.evaluate(self._start))
        return at.poses, here.cost, converged


@dataclass(slots=True)
class NCCRefiners:
    """The refiners of one CT by the properties fixed at their construction, so that one graph serves all images of a stream."""

    pivot: Float[Tensor, "3"]
    _made: OrderedDict[Any, NCCRefiner | GradientRefiner] = field(default_factory=OrderedDict)

    def refiner(
        self,
        renderer: AbstractRenderer,
        intrinsics: CameraIntrinsics,
        batch: int,
        optimiser: LevenbergMarquardt,
        similarity: NCC,
    ) -> NCCRefiner:
        """The refiner on global NCC for a renderer, an image size and so on; it is made at the first request."""
        key = id(renderer), intrinsics, batch, optimiser, similarity  # renderers live as long as the CT's registrar
        return self._get(key, lambda: NCCRefiner(renderer, intrinsics, self.pivot, batch, optimiser, similarity))

    def gradient_refiner(
        self, scale: Scale, model: ObjectModel, batch: int, optimiser: LevenbergMarquardt, similarity: GradientNCC
    ) -> GradientRefiner:
        """The refiner on gradient NCC, which takes at least `batch` poses; it is made at the first request."""
        batch = max(_FEWEST, 1 << (batch - 1).bit_length())
        key = refiner_key(scale, model, optimiser, similarity, batch)
        blank = torch.zeros(1, 1, 1)  # it keeps nothing of the first image
        without_image = replace(scale, fixed=blank, usable=blank)
        return self._get(key, lambda: GradientRefiner(without_image, model, optimiser, similarity, batch))

    def forget(self) -> None:
        """Drop all refiners, with their graphs and their memory."""
        self._made.clear()

    def _get(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        self._made.move_to_end(key)
        if len(self._made) > _MAXIMUM_REFINERS:
            self._made.popitem(last=False)
        return self._made[key]
