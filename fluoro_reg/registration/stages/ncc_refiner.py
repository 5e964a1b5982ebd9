"""`NCCRefiner`: Levenberg-Marquardt on global NCC with nothing but small matrices in memory, and on a GPU as one CUDA graph.

The renderer adds up the 44 sums that the Gauss-Newton system of NCC needs while it renders, so a round of Levenberg-Marquardt
is one launch of the renderer and some three hundred tiny operations on matrices of 9 x 9 and less. From Python those cost many
times the rendering; captured, all rounds are one launch. What is captured is `LevenbergMarquardt.rounds`: the march axis of
each view is chosen at the start, and kept.

For images whose grey values the CT explains: simulations, and tracking from frame to frame. Real X-rays want gradient NCC, as
in the methods of the registrar.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.optimisers import LevenbergMarquardt, NormalEquations
from fluoro_reg.rendering.rays import ViewGeometry, march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.similarity import NCC

_WARM_UP_RUNS = 3  # what a kernel allocates or compiles at its first runs must not happen during capture


@dataclass(frozen=True, slots=True)
class GramEvaluation:
    """Poses, and the sums over their images."""

    poses: RigidTransform
    gram: Float[Tensor, "batch 9 9"]


@dataclass(slots=True)
class GramObjective:
    """A `LeastSquaresProblem`: global NCC of a CT and an X-ray, from the renderer's sums. Its batch is fixed, so it is one for
    `LevenbergMarquardt.rounds`, which drops nobody on the way."""

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
        """A pose that leaves nothing to compare, no weight or a flat image, is infinitely bad, not half good."""
        system = self.similarity.normal_equations_from_gram(at.gram)
        n, sums, squares = at.gram[:, 0, 0], at.gram[:, 0, 2], at.gram[:, 2, 2]
        flat = n * squares - sums * sums <= self.similarity.floor * n * n
        return replace(system, cost=torch.where(flat, torch.inf, system.cost))

    def cost(self, trial: GramEvaluation, reference: NormalEquations) -> Float[Tensor, "batch"]:
        return self.linearise(trial).cost


@dataclass(slots=True)
class NCCRefiner:
    """Refines `batch` poses a call against one image; size, batch and CT are fixed at construction.

    On a GPU the first call captures the graph and later calls replay it; elsewhere the same operations run one by one. All
    poses are `camera_from_patient`; results are on the renderer's device.
    """

    renderer: AbstractRenderer
    intrinsics: CameraIntrinsics
    pivot: Float[Tensor, "3"]
    batch: int = 1
    optimiser: LevenbergMarquardt = field(default_factory=lambda: LevenbergMarquardt(iterations=8))
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
        )

    def refine(
        self, poses: RigidTransform, fixed: Float[Tensor, "height width"], weight: Float[Tensor, "height width"]
    ) -> tuple[RigidTransform, Float[Tensor, "batch"], Bool[Tensor, "batch"]]:
        """The refined poses, their costs 2 (1 - NCC), and whether each met the optimiser's tolerance."""
        rays = ViewGeometry.from_volume(self.renderer.volume, self.intrinsics).rays(poses.to("cpu", torch.float64))
        self._objective.axes.copy_(torch.tensor(march_axes(rays, self.renderer.volume.shape_ijk)))
        centre = (weight * fixed).sum() / weight.sum().clamp_min(1e-12)
        self._objective.fixed.copy_(fixed - centre)  # NCC does not mind, and float32 sums keep their digits
        self._objective.weight.copy_(weight)
        self._start.rotation.copy_(poses.rotation)
        self._start.translation.copy_(poses.translation)
        if self.renderer.device.type != "cuda":
            return self._run()
        if self._graph is None:
            self._capture()
        self._graph.replay()
        refined, cost, converged = self._outputs
        copied = RigidTransform(refined.rotation.clone(), refined.translation.clone())
        return copied, cost.clone(), converged.clone()

    @torch.no_grad()
    def _run(self) -> tuple[RigidTransform, Tensor, Tensor]:
        at, here, converged = self.optimiser.rounds(self._objective, self._objective.evaluate(self._start))
        return at.poses, here.cost, converged

    def _capture(self) -> None:
        aside = torch.cuda.Stream(self.renderer.device)
        aside.wait_stream(torch.cuda.current_stream(self.renderer.device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP_RUNS):
                self._run()
        torch.cuda.current_stream(self.renderer.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = self._run()
        self._graph = graph
