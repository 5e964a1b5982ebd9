"""The examination of an X-ray file: camera with its sources, what a C-arm states, pixels, and what is missing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fluoro_reg.doctor.camera_advice import KnownGeometry, missing_camera
from fluoro_reg.doctor.examination import Examination, Fact, Finding, Level, Section, refusal, warnings_of
from fluoro_reg.doctor.pixels import examine_pixels
from fluoro_reg.doctor.xray_headers import XrayHeader, read_header
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.distortion import Distortion
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import n_frames, read_stored, read_xray
from fluoro_reg.xray.stored import StoredImage


@dataclass(frozen=True, slots=True)
class XrayOptions:
    """What the user says about X-rays: the camera, the distortion to undo, and the meaning of the pixels."""

    camera: CameraIntrinsics | None = None
    intensity: Intensity = Intensity.AUTO
    distortion: Distortion | None = None


def examine_xray(path: Path, options: XrayOptions) -> Examination:
    """Return what a registration would see in an X-ray, or why it would refuse it. Of a cine, the middle frame is examined."""
    header = read_header(path)
    sections = list(header.sections)
    try:
        frames = n_frames(path)
        stored = read_stored(path, options.intensity, frames // 2)
        height, width = stored.pixels.shape
        camera = options.camera or (None if stored.intrinsics else no_camera(width, height))
        image = read_xray(path, camera, options.intensity, frames // 2, options.distortion)
    except InputError as error:
        return refusal(header.kind, str(error), sections)
    stated_by = "--intensity" if options.intensity is not Intensity.AUTO else header.intensity_item
    pixels = examine_pixels(image, stated_by)
    general = Section("Image", _image_facts(stored.pixels, frames))
    about_camera = _camera_findings(stored, options.camera, header, (width, height))
    findings = [*about_camera, *warnings_of(image.warnings), *pixels.findings]
    shown = [general, *_camera_section(stored, options, header), pixels.section, *sections]
    if header.has_writing:
        findings.append(
            Finding(Level.NOTE, "no picture is shown, because BurnedInAnnotation says that writing is in the image")
        )
        return Examination(header.kind, shown, findings)
    return Examination(header.kind, shown, findings, pixels.pictures)


def camera_facts(camera: CameraIntrinsics, focal: str, centre: str, distance: str) -> list[Fact]:
    """Return the facts of a camera, with the sources of focal lengths, principal point and distance."""
    return [
        Fact("image of the camera", [camera.width, camera.height], "px"),
        Fact("focal lengths fx, fy", [round(camera.fx, 3), round(camera.fy, 3)], "px", focal),
        Fact("principal point cx, cy", [round(camera.cx, 3), round(camera.cy, 3)], "px", centre),
        Fact("source to detector", camera.source_to_detector_mm, "mm", distance),
    ]


def no_camera(width: int, height: int) -> CameraIntrinsics:
    """Return a placeholder, so that pixels can be examined without a camera; nothing examined depends on it."""
    return CameraIntrinsics(width, height, float(width), float(width), (width - 1) / 2, (height - 1) / 2)


def _image_facts(pixels: np.ndarray, frames: int) -> list[Fact]:
    height, width = pixels.shape
    facts = [Fact("size (columns, rows)", [width, height], "px"), Fact("frames", frames)]
    return [*facts, Fact("frame examined", frames // 2, "", "counted from 0")] if frames > 1 else facts


def _camera_section(stored: StoredImage, options: XrayOptions, header: XrayHeader) -> list[Section]:
    if options.camera is not None:
        facts = camera_facts(options.camera, "camera.json", "camera.json", "camera.json")
        if options.distortion is not None:
            undone = f"{options.distortion.model} of camera.json, undone in the pixels"
            facts.append(Fact("distortion", list(options.distortion.coefficients), "", undone))
        return [Section("Camera", facts)]
    if stored.intrinsics is None:
        return []
    focal = "DistanceSourceToDetector / ImagerPixelSpacing"
    facts = camera_facts(stored.intrinsics, focal, header.centre_source, "DistanceSourceToDetector")
    return [Section("Camera", facts)]


def _camera_findings(
    stored: StoredImage, given: CameraIntrinsics | None, header: XrayHeader, size: tuple[int, int]
) -> list[Finding]:
    if given is None and stored.intrinsics is None:
        return [missing_camera(stored.why_no_intrinsics, header.known or KnownGeometry(*size))]
    if given is None:
        sentence = "the camera is that of the DICOM file, which is nominal; if the C-arm was calibrated, give its camera"
        return [Finding(Level.NOTE, sentence, "--camera camera.json")]
    return []
