"""The pictures of the demo's report: X-rays and, as layers of their own, the CT's bone edges at the poses heard on /tf.

Layers let a reader take the edges away and judge by eye. WebP keeps forty frames at a megabyte or two; images are enlarged by
cubic interpolation so that the lines are as fine as the pose is exact.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.evaluation.bag import read_frames
from fluoro_reg.evaluation.demo import DemoScene, FrameRecord
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.geometry.files import read_pose
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.overlay import OTHER_COLOUR, POSE_COLOUR, bone_volume, grey_levels, pose_lines
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.xray.encodings import intrinsics_from_message, pixels_from_message

SIZE_PX = 448
QUALITY = 80
GAP_PX = 8


@dataclass(frozen=True, slots=True)
class FramePicture:
    """WebP files: the X-ray, and the edges on a transparent ground where there is a pose."""

    xray: bytes
    edges: bytes | None


@dataclass(frozen=True, slots=True)
class DemoPictures:
    """One picture a frame, in order; the edges at the start, on the first frame, with the start's error."""

    frames: list[FramePicture]
    start_edges: bytes
    start_mtre_mm: float


@dataclass(frozen=True, slots=True)
class StartPose:
    """Where the node was told to begin, and how far that is from the truth of the first frame."""

    camera_from_patient: RigidTransform
    mtre_mm: float

    @staticmethod
    def read(scene: DemoScene, truth: RigidTransform, points_patient: Float[torch.Tensor, "n 3"]) -> "StartPose":
        """From the recording's initial.json."""
        start = read_pose(scene.recording.initial)
        return StartPose(start, target_registration_errors(start, truth, points_patient).mtre_mm)


def paint(volume: CTVolume, scene: DemoScene, start: StartPose, records: Sequence[FrameRecord]) -> DemoPictures:
    """All pictures, from the recording and the answers."""
    renderer = make_renderer(bone_volume(volume), "cpu")
    messages = [(image, info) for _, image, info in read_frames(scene.recording.bag)]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(_frame, renderer, image, info, record.camera_from_patient)
            for (image, info), record in zip(messages, records, strict=True)
        ]
        frames = [job.result() for job in jobs]
    camera = enlarged(intrinsics_from_message(messages[0][1]))
    return DemoPictures(frames, _edges(renderer, start.camera_from_patient, camera, OTHER_COLOUR), start.mtre_mm)


def before_and_after(pictures: DemoPictures) -> Image.Image:
    """The first frame with the edges at the start, and with those at the pose found; 256 colours keep the file small."""
    first = pictures.frames[0]
    halves = [_flat(first.xray, edges) for edges in (pictures.start_edges, first.edges)]
    width, height = halves[0].size
    pair = Image.new("RGB", (2 * width + GAP_PX, height), "white")
    for n, half in enumerate(halves):
        pair.paste(half, (n * (width + GAP_PX), 0))
    return pair.quantize(256, dither=Image.Dither.NONE)


def enlarged(camera: CameraIntrinsics) -> CameraIntrinsics:
    """The camera of the picture: the longer side has SIZE_PX pixels."""
    scale = SIZE_PX / max(camera.width, camera.height)
    return camera.resized(round(camera.width * scale), round(camera.height * scale))


def _flat(xray: bytes, edges: bytes | None) -> Image.Image:
    image = Image.open(io.BytesIO(xray)).convert("RGBA")
    if edges is not None:
        image.alpha_composite(Image.open(io.BytesIO(edges)).convert("RGBA"))
    return image.convert("RGB")


def _frame(renderer: AbstractRenderer, image: Any, info: Any, pose: RigidTransform | None) -> FramePicture:
    camera = enlarged(intrinsics_from_message(info))
    pixels = torch.tensor(pixels_from_message(image).astype(np.float32))[None, None]
    size = (camera.height, camera.width)
    large = torch.nn.functional.interpolate(pixels, size=size, mode="bicubic", align_corners=False)[0, 0]
    xray = _webp(Image.fromarray(grey_levels(large.numpy()).round().astype(np.uint8)), quality=QUALITY)
    return FramePicture(xray, None if pose is None else _edges(renderer, pose, camera, POSE_COLOUR))


def _edges(renderer: AbstractRenderer, pose: RigidTransform, camera: CameraIntrinsics, colour: tuple[int, int, int]) -> bytes:
    coverage = (255 * pose_lines(renderer, pose, camera)).round().astype(np.uint8)
    layer = np.empty((*coverage.shape, 4), np.uint8)
    layer[..., :3], layer[..., 3] = colour, coverage
    return _webp(Image.fromarray(layer), lossless=True)


def _webp(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format="WEBP", method=2, **options)
    return file.getvalue()
