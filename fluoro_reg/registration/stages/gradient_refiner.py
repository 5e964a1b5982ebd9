"""`GradientRefiner`: a stage of Levenberg-Marquardt on gradient NCC that stays on the device of the renderer.

All hypotheses are one batch. A few rounds are one CUDA graph; after them the host reads 14 numbers of each hypothesis, and ends
the stage when all have converged. On a CPU the same operations run one by one, as the twin for tests: there, `PoseObjective` is
faster, because it does not compute what it does not need.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.optimisers.batch import overwrite
from fluoro_reg.registration.stages.cuda_graph import captured
from fluoro_reg.registration.stages.device_objective import DeviceEquations, DeviceEvaluation, DeviceObjective
from fluoro_reg.registration.stages.masks import margin_reach
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import Scale
from fluoro_reg.rendering.rays import ViewGeometry, march_axes
from fluoro_reg.similarity import GradientNCC

_MOST_ROUNDS = 5  # in one graph: fewer, and the host waits more often; more, and converged hypotheses go on for nothing


@dataclass(frozen=True, slots=True)
class RefinedPoses:
    """Poses (float64, on the CPU), their evidence, whether each has converged, and how many views were rendered."""

    poses: RigidTransform
    evidence: Float[Tensor, "batch"]
    converged: Bool[Tensor, "batch"]
    n_renders: int


@dataclass(slots=True)
class GradientRefiner:
    """Refines up to `batch` poses in one frame; what is fixed here is fixed in the graphs."""

    scale: Scale  # of its images, only the shape matters
    model: ObjectModel
    optimiser: LevenbergMarquardt
    similarity: GradientNCC
    batch: int
    _start: RigidTransform = field(init=False)  # with the objective's tensors, the memory that the graphs read
    _objective: DeviceObjective = field(init=False)
    _state: Any = field(init=False, default=None)  # of the optimiser; with graphs, in memory that they overwrite
    _graphs: tuple[Any, Any] | None = field(init=False, default=None)
    _summary: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        renderer, camera = self.scale.renderer, self.scale.intrinsics
        geometry, extent = ViewGeometry.from_volume(renderer.volume, camera, renderer.device), self.scale.extent
        self._objective = DeviceObjective(
            renderer, geometry, extent.to(renderer.device), self.model, self.similarity, self.scale.margin_px, self.batch
        )
        nowhere = torch.zeros(self.batch, 3, dtype=torch.float64, device=renderer.device)
        self._start = RigidTransform(torch.diag_embed(nowhere + 1), nowhere)

    @property
    def rounds(self) -> int:
        """How many rounds are one graph."""
        return max(n for n in range(1, _MOST_ROUNDS + 1) if self.optimiser.iterations % n == 0)

    @torch.no_grad()
    def refine(
        self, poses: RigidTransform, fixed: Float[Tensor, "1 height width"], usable: Float[Tensor, "1 height width"]
    ) -> RefinedPoses:
        """Refine poses (float64, on the CPU) against an image, at its usable pixels."""
        n = len(poses.translation)
        self._fill(RigidTransform.cat([poses, *[poses[:1]] * (self.batch - n)]), fixed, usable)
        if self.scale.renderer.device.type == "cuda" and self._graphs is None:
            self._capture()
        self._run(0)
        evaluations = 1
        for _ in range(self.optimiser.iterations // self.rounds):
            self._run(1)
            evaluations += self.rounds
            found = self._summary.cpu()
            if bool(found[:n, -1].all()):
                break
        found = found[:n]
        refined = RigidTransform(found[:, :9].unflatten(1, (3, 3)), found[:, 9:12])
        return RefinedPoses(refined, found[:, 12], found[:, 13] > 0, n * evaluations)

    def _fill(self, poses: RigidTransform, fixed: Tensor, usable: Tensor) -> None:
        rays = ViewGeometry.from_volume(self.scale.renderer.volume, self.scale.intrinsics).rays(poses)
        self._objective.axes.copy_(torch.tensor(march_axes(rays, self.scale.renderer.volume.shape_ijk)))
        self._objective.fixed.copy_(fixed)
        self._objective.usable.copy_(usable)
        self._start.rotation.copy_(poses.rotation)
        self._start.translation.copy_(poses.translation)

    def _run(self, part: int) -> None:
        """Run the begin (0) or a few rounds (1), from a graph if there is one."""
        if self._graphs is not None:
            self._graphs[part].replay()
        elif part == 0:
            self._state = self._begun()
        else:
            self._state, self._summary = self._advanced()

    def _begun(self) -> Any:
        return self.optimiser.begin(self._objective, self._objective.start(self._start))

    def _advanced(self) -> tuple[Any, Float[Tensor, "batch 14"]]:
        state = self._state
        for _ in range(self.rounds):
            state = self.optimiser.round(self._objective, state)
        at: DeviceEvaluation = state.at
        equations: DeviceEquations = state.equations
        numbers = [self._objective.evidence(at, equations), state.converged.double()]
        return state, torch.cat([at.poses.rotation.flatten(1), at.poses.translation, torch.stack(numbers, dim=1)], dim=1)

    def _capture(self) -> None:
        device = self.scale.renderer.device
        begin, self._state = captured(self._begun, device)
        begin.replay()  # the results of a capture are not computed before

        def advance() -> Float[Tensor, "batch 14"]:
            state, summary = self._advanced()
            overwrite(self._state, state)
            return summary

        rounds, self._summary = captured(advance, device)
        self._graphs = begin, rounds


def refiner_key(scale: Scale, model: ObjectModel, optimiser: LevenbergMarquardt, similarity: GradientNCC, batch: int) -> Any:
    """What is fixed in the graphs of a refiner; renderers live as long as the CT's registrar."""
    reach = margin_reach(scale.margin_px) if model.roi != "full" else 0  # the margin itself changes with every initial pose
    of_model = (model.roi, model.saturation, scale.extent.cut_faces, reach)
    return id(scale.renderer), scale.intrinsics, of_model, optimiser, similarity, batch
