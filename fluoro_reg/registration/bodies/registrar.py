"""`BodiesRegistrar`: registers the reference as any CT, then every other body from it, then all together, and assesses each."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.formats.bodies import BodiesConfig
from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.registration.assessment.evidence import Assessment, assess, pose_uncertainty
from fluoro_reg.registration.assessment.gates import Support, check_gates
from fluoro_reg.registration.assessment.joint import assess_jointly
from fluoro_reg.registration.bodies.alone import METHOD, AloneSolver, cost_at, marked
from fluoro_reg.registration.bodies.body import Body, make_bodies
from fluoro_reg.registration.bodies.doubts import Doubts
from fluoro_reg.registration.bodies.scene import SeenView
from fluoro_reg.registration.bodies.together import FoundTogether, refine_together
from fluoro_reg.registration.bodies.uncertainty import body_covariances
from fluoro_reg.registration.method import Method
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.stages.joint import JointRefined
from fluoro_reg.registration.view_run import Clock
from fluoro_reg.rendering import resolve_device
from fluoro_reg.rendering.threads import one_torch_thread
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed, preprocess_readings
from fluoro_reg.xray.view import CalibratedXray

MAXIMUM_PRIOR_SD = 4.0  # a body further from where its joint lets it be is not where it seems to be


class BodiesRegistrar:
    """Registers X-rays to the bodies of one patient. Do not use it from two threads at once.

    Args:
        ct: The CT.
        config: The bodies, as `read_bodies` returns them.
        labels: The segmentation of the CT, if a body is made of labels.
        volumes: The CTs of the bodies that have their own, by name.
        options: All settings; without them, the defaults.
        method: The method that finds the reference.

    Raises:
        InputError: A body is not in the segmentation, or what `Registrar` raises.
    """

    def __init__(
        self,
        ct: CTVolume,
        config: BodiesConfig,
        labels: LabelMap | None = None,
        volumes: Mapping[str, CTVolume] | None = None,
        options: RegistrationOptions | None = None,
        *,
        method: Method | Path | str | None = None,
    ) -> None:
        self.ct, self.config = ct, config
        options = options or RegistrationOptions()
        self.bodies = make_bodies(config, ct, labels, volumes or {}, options, resolve_device(options.device))
        self.rigid = Registrar(ct, options, method=method)
        self._reference = self.bodies[0]

    @property
    def options(self) -> RegistrationOptions:
        """The settings, which are those of the rigid registration."""
        return self.rigid.options

    @property
    def method(self) -> Method:
        """The method that finds the reference."""
        return self.rigid.method

    def register(self, xray: XrayImage, initial_pose: RigidTransform | None = None) -> RegistrationResult:
        """Find the poses of all bodies in one X-ray; `initial_pose` is the reference's `camera_from_patient`, if known.

        Returns:
            The result of the reference; its `bodies` holds that of every body.
        """
        return self.with_bodies(self.rigid.register(xray, initial_pose), [CalibratedXray(xray, RigidTransform.identity())])

    def register_views(self, views: Sequence[CalibratedXray], initial_pose: RigidTransform | None = None) -> RegistrationResult:
        """Find the poses of all bodies in several X-rays of known relative geometry; all poses are `reference_from_patient`.

        Raises:
            InputError: There is no view.
        """
        return self.with_bodies(self.rigid.register_views(views, initial_pose), views)

    def with_bodies(
        self,
        first: RegistrationResult,
        views: Sequence[CalibratedXray],
        known: Mapping[str, RigidTransform] | None = None,
        sought: Collection[str] | None = None,
        prepared: Preprocessed | None = None,
    ) -> RegistrationResult:
        """Find the other bodies after the reference has been found as a rigid CT.

        Args:
            first: The result of the rigid CT.
            views: The X-rays.
            known: The poses of bodies relative to the reference that were accepted in earlier images. These are refined only.
                That of the reference is relative to its pose in `first`, which the other bodies have biased.
            sought: The bodies to search; None for all. Any other body is refined from its known or expected pose.
            prepared: The only X-ray in the reading of `first`, if it is at hand.

        Returns:
            The result of the reference; its `bodies` holds that of every body. No body has a pose if `first` has none.
        """
        if len(self.bodies) == 1:
            results = {self._reference.name: first}
        elif first.camera_from_patient is None:
            results = self.without_poses(first)
        else:
            with one_torch_thread():
                results = self._register(first, first.camera_from_patient, views, known or {}, sought, prepared)
        return replace(results[self._reference.name], bodies=results)

    def without_poses(self, first: RegistrationResult) -> dict[str, RegistrationResult]:
        """The results of all bodies where the reference was not found."""
        reason = f"the reference {self._reference.name} was not found: {first.reason}"
        outcome = Outcome.REJECTED_POSE if first.outcome is Outcome.CONVERGED else first.outcome
        other = RegistrationResult(
            outcome, reason, METHOD, device=first.device, state=first.state, frame=first.frame, searching=first.searching
        )
        return {body.name: first if body is self._reference else other for body in self.bodies}

    def _register(
        self,
        first: RegistrationResult,
        pose: RigidTransform,
        views: Sequence[CalibratedXray],
        known: Mapping[str, RigidTransform],
        sought: Collection[str] | None,
        prepared: Preprocessed | None,
    ) -> dict[str, RegistrationResult]:
        clock = Clock()
        seen = [SeenView(prepared or _prepared(view.image, first, self.options), view.camera_from_reference) for view in views]
        alone = AloneSolver(self.bodies, seen, self.options.gate.distinct_mm, self.options.seed)
        pose = pose @ known.get(self._reference.name, RigidTransform.identity())
        settled = {name: pose @ known[name] for name in known if name != self._reference.name}
        others = {body.name: _batch([]) for body in self.bodies}
        clock.lap("prepare")
        n_renders = 0
        for body in self.bodies[1:]:
            if sought is not None and body.name not in sought:
                continue
            found = alone.find(body, self._expected(pose, settled))
            settled[body.name], others[body.name] = found.poses[0], found.poses[1:]
            n_renders += found.n_renders
        clock.lap("find each body")
        is_followed = sought is not None and not sought
        together = refine_together(self.bodies, seen, self._expected(pose, settled), is_followed)
        n_renders += together.n_renders
        clock.lap("refine together")
        others[self._reference.name] = _batch([other.camera_from_patient for other in first.alternatives])
        evaluated = {
            body.name: alone.evaluate(body, together.poses, _with_first(together.poses[body.name], others[body.name]))
            for body in self.bodies
        }
        costs = {name: cost_at(at) for name, at in evaluated.items()}
        covariances = body_covariances(self.bodies, together, seen[0].camera_from_reference, costs)
        results = dict[str, RegistrationResult]()
        for number, body in enumerate(self.bodies):
            refined = marked(evaluated[body.name], together.has_arrived(number, covariances[body.name]))
            assessment = self._assess(body, refined, covariances[body.name], first)
            assessment = self._checked(body, assessment, together, first, results)
            results[body.name] = replace(
                first,
                outcome=assessment.outcome,
                reason=assessment.reason,
                method=first.method if body is self._reference else METHOD,
                stands_out=first.stands_out and body is self._reference,
                camera_from_patient=together.poses[body.name],
                initial_camera_from_patient=first.initial_camera_from_patient if body is self._reference else None,
                similarity=assessment.evidence.similarity,
                alternatives=assessment.alternatives,
                covariance=assessment.covariance,
                scores=assessment.evidence.scores(),
                pose_source="image",
            )
        new = [body for body in self.bodies[1:] if results[body.name].accepted and body.name not in known]
        if new:
            results = Doubts(alone, self.options.gate).settle(new, results, together.poses, evaluated)
        clock.lap("assess bodies")
        seconds = {**first.seconds, **clock.laps}
        total = first.elapsed_s + clock.total()
        n_renders += first.n_renders
        return {
            name: replace(result, n_renders=n_renders, elapsed_s=total, seconds=seconds) for name, result in results.items()
        }

    def _expected(self, reference: RigidTransform, settled: Mapping[str, RigidTransform]) -> dict[str, RigidTransform]:
        """Every body where its joint expects it, or where it has been found."""
        poses = {self._reference.name: reference}
        for body in self.bodies[1:]:
            assert body.joint is not None
            expected = poses[body.joint.parent] @ body.joint.parent_from_body
            poses[body.name] = settled.get(body.name, expected)
        return poses

    def _assess(
        self, body: Body, refined: JointRefined, covariance: Float[Tensor, "6 6"] | None, first: RegistrationResult
    ) -> Assessment:
        """The gates, with the uncertainty that the other bodies leave; the reference must also pass them without it.

        An X-ray rarely shows a long bone whole, so that the smaller overlap of bones holds for all but the reference. If the
        rigid CT was rejected in one X-ray, such as beside decoys, nothing but that X-ray supports the bodies.
        """
        gate = self.options.gate
        if body.joint is not None:
            gate = replace(gate, minimum_overlap=min(gate.minimum_overlap, gate.minimum_overlap_of_bone))
        uncertainty = pose_uncertainty(covariance, refined.poses[0], body.pivot)
        if len(refined.views) > 1:
            return replace(assess_jointly(refined, body.metric, gate)[0], covariance=uncertainty.covariance)
        support = Support.OTHER_IMAGES if first.accepted else Support.INITIAL_POSE
        if body.joint is not None:
            return assess(refined.views[0], body.metric, gate, uncertainty, support)
        alone = assess(refined.views[0], body.metric, gate, support=support)
        evidence = replace(
            alone.evidence, depth_sd_mm=uncertainty.depth_sd_mm, turn_sd_deg=uncertainty.turn_sd_deg, outline_mm=None
        )
        outcome, reason = check_gates(evidence, gate)
        if outcome is Outcome.CONVERGED and alone.outcome is not Outcome.CONVERGED:
            return alone
        return replace(alone, outcome=outcome, reason=reason, evidence=evidence, covariance=uncertainty.covariance)

    def _checked(
        self,
        body: Body,
        assessment: Assessment,
        together: FoundTogether,
        first: RegistrationResult,
        results: Mapping[str, RegistrationResult],
    ) -> Assessment:
        """The assessment after what no image shows: the prior of the joint, and the reference's outcome."""
        if assessment.outcome is not Outcome.CONVERGED:
            return assessment
        if body.joint is None:
            if first.outcome is Outcome.CONVERGED or first.initial_camera_from_patient is not None:
                return assessment
            return replace(assessment, outcome=first.outcome, reason=first.reason)
        mean = together.poses[body.joint.parent] @ body.joint.parent_from_body
        twist = se3.local(mean, together.poses[body.name], body.pivot)
        distance = float((twist @ body.joint.information @ twist).sqrt())
        if not distance <= MAXIMUM_PRIOR_SD:
            reason = f"the pose lies {distance:.1f} standard deviations of its joint from where it is expected"
            return replace(assessment, outcome=Outcome.REJECTED_POSE, reason=reason)
        if not results[self._reference.name].accepted:
            reason = f"the reference {self._reference.name}, from which it was sought, is rejected"
            return replace(assessment, outcome=Outcome.REJECTED_POSE, reason=reason)
        return assessment


def _prepared(image: XrayImage, first: RegistrationResult, options: RegistrationOptions) -> Preprocessed:
    """The X-ray in the reading in which the reference was found."""
    readings = preprocess_readings(image, options.preprocess)
    return next((one for one in readings if first.reading.startswith(f"{one.reading}; ")), readings[0])


def _with_first(pose: RigidTransform, others: RigidTransform) -> RigidTransform:
    """A pose, followed by a batch of others."""
    return RigidTransform.cat([RigidTransform.stack([pose]), others])


def _batch(poses: Sequence[RigidTransform]) -> RigidTransform:
    """Poses as a batch, which may be empty."""
    if poses:
        return RigidTransform.stack(list(poses))
    return RigidTransform(torch.zeros(0, 3, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.float64))
