"""The worst registrations of each method as pictures: the X-ray, the bones' edges where they were found and where they are.

Worst is what was accepted and is grossly wrong, then what is most wrong. Cases and CTs are read again: where they have gone,
there is a sentence and no picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.comparison import GROSS_MM
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.report.pictures import edges_picture, xray_picture
from fluoro_reg.evaluation.report.plots import ByMethod
from fluoro_reg.formats.cases import read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.progress import Progress
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.overlay import POSE_COLOUR, bone_volume
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.xray.reader import read_xray

TRUTH_COLOUR = (110, 180, 255)
SHOWN = 4


@dataclass(frozen=True, slots=True)
class WorstCase:
    """A record with WebP layers; none when `missing` says why."""

    record: EvaluationRecord
    xray: bytes = b""
    found: bytes = b""
    truth: bytes = b""
    missing: str = ""


def worst(records: Sequence[EvaluationRecord], count: int = SHOWN) -> list[EvaluationRecord]:
    """The dangerous ones first, then the other poses, from the most wrong on; those without a pose last, and no failures."""

    def badness(record: EvaluationRecord) -> tuple[bool, bool, float]:
        error_mm = record.trial.mtre_mm
        return record.accepted and error_mm > GROSS_MM, record.camera_from_patient is not None, error_mm

    return sorted((record for record in records if not record.failed), key=badness, reverse=True)[:count]


def paint(methods: ByMethod, folder_of: Callable[[str], Path], progress: Progress) -> dict[str, list[WorstCase]]:
    """The worst cases of each method. CT by CT, since reading one takes long; `progress` is called with (done, of)."""
    chosen = [record for records in methods.values() for record in worst(records)]
    painted: dict[tuple[str, str], WorstCase] = {}
    painter = _Painter()
    for done, record in enumerate(sorted(chosen, key=lambda r: (r.ct, r.variant)), 1):
        painted[record.key] = painter.paint(record, folder_of(record.case))
        progress(done, len(chosen))
    return {method: [painted[record.key] for record in worst(records)] for method, records in methods.items()}


class _Painter:
    """Keeps the last CT's renderer."""

    def __init__(self) -> None:
        self._renderer: tuple[Path, AbstractRenderer] | None = None

    def paint(self, record: EvaluationRecord, folder: Path) -> WorstCase:
        try:
            case = read_case(folder)
            image = read_xray(case.image, case.intrinsics, case.intensity, case.frame)
            renderer = self._renderer_of(case.ct.resolve())
        except InputError as error:
            return WorstCase(record, missing=f"no picture: {error}")
        camera, found = image.intrinsics, b""
        if record.camera_from_patient is not None:
            pose = RigidTransform.from_matrix(record.camera_from_patient, "the pose that was found")
            found = edges_picture(renderer, pose, camera, POSE_COLOUR)
        truth = edges_picture(renderer, case.truth, camera, TRUTH_COLOUR)
        return WorstCase(record, xray_picture(image.pixels, camera), found, truth)

    def _renderer_of(self, ct: Path) -> AbstractRenderer:
        if self._renderer is None or self._renderer[0] != ct:
            self._renderer = None
            self._renderer = ct, make_renderer(bone_volume(read_ct(ct)), "cpu")
        return self._renderer[1]
