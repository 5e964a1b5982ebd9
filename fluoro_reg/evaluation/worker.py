"""The worker of an evaluation, which computes the record of a job even if the registration fails.

A worker keeps the last CT and the last registrar, which take seconds to prepare; the order of the jobs makes use of this. An
exception becomes the record of its case, so that an evaluation of thousands of cases does not end at the first broken one.
"""

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fluoro_reg.ct.label_map import read_label_map
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.bodies import body_entries
from fluoro_reg.evaluation.metrics import double_geodesic_mm, projection_errors, target_registration_errors
from fluoro_reg.evaluation.plan import Job
from fluoro_reg.evaluation.records import FAILED, EvaluationRecord
from fluoro_reg.formats.bodies import read_bodies
from fluoro_reg.formats.body_truth import read_body_truths
from fluoro_reg.formats.cases import RegistrationCase, read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Method, Registrar, RegistrationOptions
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.method import load_method
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings that all jobs of a run share.

    `registration` are the options except for method and seed, which are those of the job. `intensity`, unless None, overrides
    that of the cases. `methods` are those of the run by name; a method that is not there is an installed one.
    """

    registration: RegistrationOptions
    intensity: Intensity | None = None
    methods: Mapping[str, Method] = field(default_factory=dict)

    def method(self, name: str) -> Method:
        """The method of a job."""
        return self.methods.get(name) or load_method(name)


@dataclass(slots=True)
class Worker:
    """Computes records one at a time; not thread-safe."""

    settings: WorkerSettings
    _ct: tuple[Path, CTVolume] | None = field(default=None, init=False)
    _registrar: tuple[Path, Registrar] | None = field(default=None, init=False)
    _bodies: tuple[tuple[Path, Path, Path | None, str], BodiesRegistrar] | None = field(default=None, init=False)
    _warm: bool = field(default=False, init=False)

    def run(self, job: Job) -> EvaluationRecord:
        """Return the record of a job; an exception gives a record with an error sentence."""
        try:
            return self._register(job, read_case(job.folder))
        except InputError as error:
            return failure_record(job, str(error))
        except Exception as error:
            return failure_record(job, _program_error(error))

    def _register(self, job: Job, case: RegistrationCase) -> EvaluationRecord:
        if case.bodies is None:
            registrar: Registrar | BodiesRegistrar = self._registrar_for(case.ct.resolve(), job)
        else:
            registrar = self._bodies_registrar_for(case.ct.resolve(), case.bodies, case.labels, job)
        image = read_xray(case.image, case.intrinsics, self.settings.intensity or case.intensity, case.frame)
        torch.manual_seed(job.seed)
        finds_start = _finds_initial_pose(registrar.method)
        if case.initial is None and not finds_start:
            raise InputError(f"the case has no initial.json, and the method {job.method} begins from an initial pose")
        result, entries = registrar.register(image, None if finds_start else case.initial), dict[str, dict[str, Any]]()
        if isinstance(registrar, BodiesRegistrar):
            entries = body_entries(result, read_body_truths(case.folder / "bodies.json"), registrar.config)
        warm, self._warm = self._warm, True
        pose = result.camera_from_patient
        return EvaluationRecord(
            **_case_fields(job, case),
            accepted=result.accepted,
            outcome=result.outcome.value,
            reason=result.reason,
            camera_from_patient=None if pose is None else pose.matrix().tolist(),
            errors={} if pose is None else pose_errors(pose, case, registrar.ct),
            similarity=result.similarity,
            scores=result.scores,
            n_renders=result.n_renders,
            device=result.device,
            intensity=result.intensity,
            ct_fingerprint=registrar.ct.fingerprint,
            seconds=result.elapsed_s,
            stage_seconds=result.seconds,
            warm=warm,
            bodies=entries,
        )

    def _bodies_registrar_for(self, ct: Path, bodies: Path, segmentation: Path | None, job: Job) -> BodiesRegistrar:
        """The registrar of all bodies of a case; cases of one CT with the same files share it."""
        key = (ct, bodies.resolve(), None if segmentation is None else segmentation.resolve(), job.method)
        if self._bodies is None or self._bodies[0] != key:
            method, config = self.settings.method(job.method), read_bodies(bodies)
            options = replace(self.settings.registration, method=job.method, seed=job.seed)
            labels = None if segmentation is None else read_label_map(segmentation)
            volumes = {name: read_ct(body.ct) for name, body in config.bodies.items() if body.ct}
            registrar = BodiesRegistrar(read_ct(ct), config, labels, volumes, options, method=method)
            self._bodies, self._warm = (key, registrar), False
        return self._bodies[1]

    def _registrar_for(self, ct: Path, job: Job) -> Registrar:
        method = self.settings.method(job.method)
        model = self.settings.registration.model if "weights" in method.needs else ""
        options = replace(self.settings.registration, method=job.method, seed=job.seed, model=model)
        if self._registrar is None or self._registrar[0] != ct or self._registrar[1].options.method != job.method:
            if self._ct is None or self._ct[0] != ct:
                self._registrar = self._ct = None  # so that only one CT is in memory
                self._ct = ct, read_ct(ct)
            self._registrar, self._warm = (ct, Registrar(self._ct[1], options, method=method)), False
        registrar = self._registrar[1]
        registrar.options = options
        return registrar


def _finds_initial_pose(method: Method) -> bool:
    """Whether a method finds its initial pose, by a network or a search of all views.

    Such a method gets no initial pose; other methods get the initial pose and no weights. Otherwise all methods would begin
    from the same pose.
    """
    return "start" not in method.needs


def pose_errors(pose: RigidTransform, case: RegistrationCase, volume: CTVolume) -> dict[str, float]:
    """Return all errors of `metrics` by name; projection errors need the source-to-detector distance."""
    errors = asdict(target_registration_errors(pose, case.truth, case.landmarks_patient))
    distance = case.intrinsics.source_to_detector_mm
    if distance is None:
        return errors
    projected = asdict(projection_errors(pose, case.truth, case.landmarks_patient, case.intrinsics))
    return {**errors, **projected, "double_geodesic_mm": double_geodesic_mm(pose, case.truth, volume.centre_patient, distance)}


def failure_record(job: Job, sentence: str) -> EvaluationRecord:
    """Return the record of a job that failed, with the properties of the case if they can be read."""
    try:
        fields = _case_fields(job, read_case(job.folder))
    except InputError:
        fields = _case_fields(job, None)
    return EvaluationRecord(**fields, accepted=False, outcome=FAILED, reason=sentence)


def _case_fields(job: Job, case: RegistrationCase | None) -> dict:
    """Return the fields of a record that describe the case; `case` is None if it cannot be read."""
    initial = None if case is None or case.initial is None else case.initial
    return {
        "case": job.case,
        "method": job.method,
        "ct": job.ct_name,
        "seed": job.seed,
        "variant": "" if case is None else case.variant,
        "start_band_mm": None if case is None else case.start_band_mm,
        "start_mtre_mm": None
        if case is None or initial is None
        else target_registration_errors(initial, case.truth, case.landmarks_patient).mtre_mm,
    }


def _program_error(error: Exception) -> str:
    """Return type and location of an exception. Its message may quote the content of a file and is omitted."""
    location = traceback.extract_tb(error.__traceback__)[-1]
    return f"the program failed: {type(error).__name__} in {Path(location.filename).name}, line {location.lineno}"
