"""Images of the worst registrations of each method: the X-ray with the bones' edges at the estimated and at the true pose.

Accepted registrations with a gross error come first, then those with the largest errors. Cases and CTs are read again. If they
no longer exist, a sentence replaces the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.comparison import GROSS_MM
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.report.pictures import edges_webp, xray_webp
from fluoro_reg.evaluation.report.plots import RecordsByMethod
from fluoro_reg.formats.cases import read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.progress import Progress
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.overlay import POSE_COLOUR, bone_volume
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.xray.reader import read_xray

TRUTH_COLOUR = (110, 180, 255)
CASES_PER_METHOD = 4


@dataclass(frozen=True, slots=True)
class WorstCase:
    """A record with WebP layers; without layers, `missing` states the reason."""

    record: EvaluationRecord
    xray: bytes = b""
    estimated: bytes = b""
    truth: bytes = b""
    missing: str = ""


def worst_records(records: Sequence[EvaluationRecord], count: int = CASES_PER_METHOD) -> list[EvaluationRecord]:
    """Return the worst records, without failures.

    Accepted gross errors come first, then other poses by decreasing error, then registrations without a pose.
    """

    def badness(record: EvaluationRecord) -> tuple[bool, bool, float]:
        error_mm = record.trial.mtre_mm
        return record.accepted and error_mm > GROSS_MM, record.camera_from_patient is not None, error_mm

    return sorted((record for record in records if not record.failed), key=badness, reverse=True)[:count]


def render_worst_cases(
    methods: RecordsByMethod, folder_of: Callable[[str], Path], progress: Progress
) -> dict[str, list[WorstCase]]:
    """Return the worst cases of each method with images.

    Cases are rendered CT by CT, because reading a CT takes a long time.

    Args:
        methods: The records of each method.
        folder_of: Returns the folder of a case by its name.
        progress: Called after each case.
    """
    selected = [record for records in methods.values() for record in worst_records(records)]
    rendered: dict[tuple[str, str], WorstCase] = {}
    renderer = _WorstCaseRenderer()
    for done, record in enumerate(sorted(selected, key=lambda r: (r.ct, r.variant)), 1):
        rendered[record.key] = renderer.render(record, folder_of(record.case))
        progress(done, len(selected))
    return {method: [rendered[record.key] for record in worst_records(records)] for method, records in methods.items()}


class _WorstCaseRenderer:
    """Renders the layers of worst cases, and keeps the renderer of the last CT."""

    def __init__(self) -> None:
        self._renderer: tuple[Path, AbstractRenderer] | None = None

    def render(self, record: EvaluationRecord, folder: Path) -> WorstCase:
        try:
            case = read_case(folder)
            image = read_xray(case.image, case.intrinsics, case.intensity, case.frame)
            renderer = self._renderer_of(case.ct.resolve())
        except InputError as error:
            return WorstCase(record, missing=f"no image: {error}")
        camera, estimated = image.intrinsics, b""
        if record.camera_from_patient is not None:
            pose = RigidTransform.from_matrix(record.camera_from_patient, "the estimated pose")
            estimated = edges_webp(renderer, pose, camera, POSE_COLOUR)
        truth = edges_webp(renderer, case.truth, camera, TRUTH_COLOUR)
        return WorstCase(record, xray_webp(image.pixels, camera), estimated, truth)

    def _renderer_of(self, ct: Path) -> AbstractRenderer:
        if self._renderer is None or self._renderer[0] != ct:
            self._renderer = None
            self._renderer = ct, make_renderer(bone_volume(read_ct(ct)), "cpu")
        return self._renderer[1]
