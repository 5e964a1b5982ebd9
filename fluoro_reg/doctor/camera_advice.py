"""What to give for a camera that a file lacks: a camera.json with what is known filled in, and hints at the rest.

Hints come from nominal items of a DICOM header. They can be off by several per cent, so a person sees them and no
program uses them.
"""

from dataclasses import dataclass

from fluoro_reg.doctor.examination import Finding, Level


@dataclass(frozen=True, slots=True)
class KnownGeometry:
    """What is known of a camera: the image size (px), and lengths in mm that are None if the file does not state them.

    Attributes:
        width: Columns of the image.
        height: Rows of the image.
        source_to_detector: DistanceSourceToDetector.
        pixel_spacing: ImagerPixelSpacing (row, column).
        source_to_patient: DistanceSourceToPatient.
        magnification: EstimatedRadiographicMagnificationFactor, without a unit.
        field_width: FieldOfViewDimensions or IntensifierSize: the width that the image spans on the detector.
    """

    width: int
    height: int
    source_to_detector: float | None = None
    pixel_spacing: tuple[float, float] | None = None
    source_to_patient: float | None = None
    magnification: float | None = None
    field_width: float | None = None


def missing_camera(why: str, known: KnownGeometry) -> Finding:
    """Return the finding that an X-ray has no camera, with the camera.json to give.

    Args:
        why: What is missing, such as `ImagerPixelSpacing is missing`.
        known: What the file states.
    """
    if known.source_to_detector is not None and known.pixel_spacing is not None:
        sentence = (
            f"there is no camera ({why}); if the numbers of its header hold for these pixels, give them as --camera camera.json"
        )
        return Finding(Level.MISSING, sentence, camera_json(known))
    sentence = (
        f"there is no camera ({why}); give --camera camera.json, where FX and FY are the source-to-detector distance divided "
        "by the width and the height of a pixel on the detector, and SDD is that distance in mm"
    )
    hints = _hints(known)
    if hints:
        sentence += f" (nominal hints, never used: {', '.join(hints)})"
    return Finding(Level.MISSING, sentence, camera_json(known))


def camera_json(known: KnownGeometry) -> str:
    """Return a camera.json, with capital letters for what is not known."""
    distance, spacing = known.source_to_detector, known.pixel_spacing
    fx, fy = ("FX", "FY") if distance is None or spacing is None else (f"{distance / mm:.6g}" for mm in reversed(spacing))
    centre = f"{(known.width - 1) / 2}", f"{(known.height - 1) / 2}"
    k = f"[{fx}, 0.0, {centre[0]}, 0.0, {fy}, {centre[1]}, 0.0, 0.0, 1.0]"
    stated = "SDD" if distance is None else f"{distance:g}"
    return f'{{"width": {known.width}, "height": {known.height}, "k": {k}, "source_to_detector_mm": {stated}}}'


def _hints(known: KnownGeometry) -> list[str]:
    hints = []
    if known.source_to_detector is None and known.source_to_patient and known.magnification:
        distance = known.source_to_patient * known.magnification
        hints.append(f"DistanceSourceToPatient times the magnification gives SDD = {distance:.0f}")
    if known.pixel_spacing is None and known.field_width:
        spacing = known.field_width / known.width
        hints.append(f"a field of {known.field_width:g} mm over {known.width} columns gives {spacing:.3f} mm a pixel")
    if known.pixel_spacing is not None and known.source_to_detector is None:
        rows, columns = known.pixel_spacing
        hints.append(f"ImagerPixelSpacing is {rows:g} x {columns:g} mm, so that FX = SDD / {columns:g}")
    return hints
