"""One worker of an evaluation: takes a job, gives a record, whatever happens.

It keeps the last CT and the last registrar, which take seconds to make; jobs come in an order that makes use of it. What a case
raises becomes its record: an evaluation of thousands of cases must not end at the first that is broken.
"""

import traceback
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import double_geodesic_mm, projection_errors, target_registration_errors
from fluoro_reg.evaluation.plan import Job
from fluoro_reg.evaluation.records import FAILED, EvaluationRecord
from fluoro_reg.formats.cases import RegistrationCase, read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.method import load_method
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray


@dataclass(frozen=True, slots=True)
class Recipe:
    """What all jobs of a run share. `intensity`, unless None, wins over the cases'; method and seed are the jobs'."""

    options: RegistrationOptions
    intensity: Intensity | None = None


@dataclass(slots=True)
class Worker:
    """Not for use from two threads at once."""

    recipe: Recipe
    _ct: tuple[Path, CTVolume] | None = field(default=None, init=False)
    _registrar: tuple[Path, Registrar] | None = field(default=None, init=False)
    _warm: bool = field(default=False, init=False)

    def run(self, job: Job) -> EvaluationRecord:
        """The job's record; a failure is a record with its sentence."""
        try:
            return self._registered(job, read_case(job.folder))
        except InputError as error:
            return failure(job, str(error))
        except Exception as error:
            return failure(job, _fault(error))

    def _registered(self, job: Job, case: RegistrationCase) -> EvaluationRecord:
        registrar = self._registrar_for(case.ct.resolve(), job)
        image = read_xray(case.image, case.intrinsics, self.recipe.intensity or case.intensity, case.frame)
        torch.manual_seed(job.seed)
        result = registrar.register(image, None if _finds_its_start(job.method) else case.initial)
        warm, self._warm = self._warm, True
        pose = result.camera_from_patient
        return EvaluationRecord(
            **_about(job, case),
            accepted=result.accepted,
            outcome=result.outcome.value,
            reason=result.reason,
            camera_from_patient=None if pose is None else pose.matrix().tolist(),
            errors={} if pose is None else figures(pose, case, registrar.ct),
            similarity=result.similarity,
            scores=result.scores,
            n_renders=result.n_renders,
            device=result.device,
            intensity=result.intensity,
            ct_fingerprint=registrar.ct.fingerprint,
            seconds=result.elapsed_s,
            stage_seconds=result.seconds,
            warm=warm,
        )

    def _registrar_for(self, ct: Path, job: Job) -> Registrar:
        model = self.recipe.options.model if _finds_its_start(job.method) else ""
        options = replace(self.recipe.options, method=job.method, seed=job.seed, model=model)
        if self._registrar is None or self._registrar[0] != ct or self._registrar[1].options.method != job.method:
            if self._ct is None or self._ct[0] != ct:
                self._registrar = self._ct = None  # before there are two of them in memory
                self._ct = ct, read_ct(ct)
            self._registrar, self._warm = (ct, Registrar(self._ct[1], options)), False
        registrar = self._registrar[1]
        registrar.options = options
        return registrar


def _finds_its_start(method: str) -> bool:
    """Methods that need weights get these and no start; the others get the start and no weights. Else all would look alike."""
    return "weights" in load_method(method).needs


def figures(pose: RigidTransform, case: RegistrationCase, volume: CTVolume) -> dict[str, float]:
    """All errors of `metrics` that can be told of a pose, by name."""
    errors = asdict(target_registration_errors(pose, case.truth, case.landmarks_patient))
    distance = case.intrinsics.source_to_detector_mm
    if distance is None:
        return errors
    projected = asdict(projection_errors(pose, case.truth, case.landmarks_patient, case.intrinsics))
    return {**errors, **projected, "double_geodesic_mm": double_geodesic_mm(pose, case.truth, volume.centre_patient, distance)}


def failure(job: Job, sentence: str) -> EvaluationRecord:
    """The record of a job that has no answer; what the case says of itself is kept where it can be read."""
    try:
        about = _about(job, read_case(job.folder))
    except InputError:
        about = _about(job, None)
    return EvaluationRecord(**about, accepted=False, outcome=FAILED, reason=sentence)


def _about(job: Job, case: RegistrationCase | None) -> dict:
    start = None if case is None or case.initial is None else case.initial
    return {
        "case": job.case,
        "method": job.method,
        "ct": job.ct_name,
        "seed": job.seed,
        "variant": "" if case is None else case.variant,
        "start_band_mm": None if case is None else case.start_band_mm,
        "start_mtre_mm": None
        if case is None or start is None
        else target_registration_errors(start, case.truth, case.landmarks_patient).mtre_mm,
    }


def _fault(error: Exception) -> str:
    """Kind and place of a fault of the program. Its text may quote a file's content and is left out."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"the program failed: {type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
