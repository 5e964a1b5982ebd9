"""`Registrar.register`: one image and a start to one judged pose. The whole story is in that one method."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.evidence import weigh
from fluoro_reg.registration.hypotheses import PoseMetric, reference_points
from fluoro_reg.registration.methods import Method, load_method
from fluoro_reg.registration.objective import ObjectModel, PosePrior
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.scales import CoarseRenderers, ImageScales, box_corners
from fluoro_reg.registration.solver import Refined, Solver
from fluoro_reg.rendering import resolve_device
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocess import Preprocessed, preprocess

METAL_ATTENUATION = 0.065  # 1/mm: denser than any bone
SATURATION_DEPTH_MM = 7.0  # metal of this thickness leaves 1/e of the contrast; 3 to 10 on real knee implants
WARM_UP_PIXEL_MM = 2.0
MOSTLY_AIR = 0.15  # a CT of which less than this share is not air is one object and not a body


@dataclass(slots=True)
class Registrar:
    """Registers X-rays to one CT by one named method. Not for use from two threads at once."""

    volume: CTVolume
    options: RegistrationOptions
    method: Method = field(init=False)
    renderers: CoarseRenderers = field(init=False)
    model: ObjectModel = field(init=False)
    metric: PoseMetric = field(init=False)
    corners_patient: Float[Tensor, "8 3"] = field(init=False)

    def __post_init__(self) -> None:
        if not (self.volume.attenuation > 0).any():
            raise InputError("the CT holds nothing but air; are its values Hounsfield units?")
        self.method = load_method(self.options.method)
        self.renderers = CoarseRenderers(self.volume, resolve_device(self.options.device))
        self.renderers.for_pixel(WARM_UP_PIXEL_MM)[0].warm_up()  # compiles, so that the first image does not wait for it
        self.corners_patient = box_corners(self.volume, self.renderers.extent)
        self.metric = PoseMetric(reference_points(self.corners_patient))
        self.model = object_model(self.volume, self.options, self.corners_patient.mean(0))

    def register(
        self, image: XrayImage, start: RigidTransform | None, prior: PosePrior | None = None, tracking: bool = False
    ) -> RegistrationResult:
        """The pose of the CT in `image`, judged. `tracking` says that `start` is the last frame's pose: no search is made.

        Bad images and starts come back as a rejected result, never as an exception.
        """
        with _one_torch_thread():
            return self._register(image, start, prior, tracking)

    def _register(
        self, image: XrayImage, start: RigidTransform | None, prior: PosePrior | None, tracking: bool
    ) -> RegistrationResult:
        clock = _Clock()
        prepared = preprocess(image, self.options.preprocess)
        clock.lap("preprocess")
        job = _Job(prepared, start, clock)
        if prepared.rejection is not None:
            return self._answer(Outcome.REJECTED_IMAGE, prepared.rejection, job)
        if start is None:
            return self._answer(Outcome.NO_START, "no start pose is known: give one", job)
        scales = ImageScales(prepared.image, start, self.renderers, self.corners_patient, self.model.pivot)
        near, far = self.options.gate.depth_range_mm
        if not near <= scales.depth_mm <= far:
            reason = (
                f"the start puts the CT {scales.depth_mm:.0f} mm in front of the source, outside {near:.0f} to {far:.0f} mm"
            )
            return self._answer(Outcome.REJECTED_POSE, reason, job)
        solver = Solver(scales, self.model, self.metric, prior, self.options.gate.distinct_mm, self.options.seed)
        poses = solver.starts(start, None if tracking else self.method.search)
        clock.lap("search")
        refined = solver.run(poses, self.method.tracking_stages() if tracking else self.method.stages)
        clock.lap("refine")
        return self._judged(refined, solver.n_renders, job)

    def _judged(self, refined: Refined, n_renders: int, job: "_Job") -> RegistrationResult:
        verdict = weigh(refined, self.metric, self.options.gate)
        job.clock.lap("judge")
        return replace(
            self._answer(verdict.outcome, verdict.reason, job),
            camera_from_patient=refined.poses[0],
            similarity=verdict.evidence.similarity,
            alternatives=verdict.alternatives,
            covariance=verdict.covariance,
            n_renders=n_renders,
            scores=verdict.evidence.scores(),
        )

    def _answer(self, outcome: Outcome, reason: str, job: "_Job") -> RegistrationResult:
        return RegistrationResult(
            outcome,
            reason,
            self.method.name,
            initial_camera_from_patient=job.start,
            intensity=job.prepared.intensity.value,
            intensity_confidence=job.prepared.confidence if job.prepared.judged else None,
            elapsed_s=job.clock.total(),
            device=self.renderers.device,
            seconds=job.clock.laps,
        )


def object_model(volume: CTVolume, options: RegistrationOptions, pivot: Float[Tensor, "3"]) -> ObjectModel:
    """What `auto` means for this CT: an object in air is compared near its projection, and metal saturates."""
    filled = volume.attenuation > 0
    roi = options.roi
    if roi == "auto":
        roi = "moving-support" if float(filled.float().mean()) < MOSTLY_AIR else "full"
    if options.saturation not in ("auto", "off"):
        return ObjectModel(pivot, roi, float(options.saturation))
    values = volume.attenuation[filled]
    dense = float(values[:: max(1, values.numel() // 100_000)].quantile(0.9))
    metal = options.saturation == "auto" and dense > METAL_ATTENUATION
    return ObjectModel(pivot, roi, 1 / (dense * SATURATION_DEPTH_MM) if metal else 0.0)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """torch's own threads wait for each other at every small operation: on a machine that does anything else besides, images of
    128 pixels take ten times as long on two of them as on one. The renderer has threads of its own, which never wait.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._begin = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now

    def total(self) -> float:
        return time.perf_counter() - self._begin


@dataclass(frozen=True, slots=True)
class _Job:
    """What every answer to one image tells."""

    prepared: Preprocessed
    start: RigidTransform | None
    clock: _Clock
