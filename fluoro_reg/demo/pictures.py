"""The pictures of the demo's report: X-rays and, as layers of their own, the CT's bone edges at the poses heard on /tf."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.demo.assessment import FrameRecord
from fluoro_reg.demo.initial_pose import InitialPose
from fluoro_reg.demo.scene import DemoScene
from fluoro_reg.evaluation.report.pictures import edges_picture, xray_picture
from fluoro_reg.formats.bags import read_frames
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.overlay import OTHER_COLOUR, POSE_COLOUR, bone_volume
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.xray.encodings import intrinsics_from_message, pixels_from_message

GAP_PX = 8


@dataclass(frozen=True, slots=True)
class FramePicture:
    """WebP files: the X-ray, and the edges on a transparent ground where there is a pose."""

    xray: bytes
    edges: bytes | None


@dataclass(frozen=True, slots=True)
class DemoPictures:
    """One picture a frame, in order; the edges at the start, on the first frame, and words for it."""

    frames: list[FramePicture]
    start_edges: bytes
    start_words: str


def paint(volume: CTVolume, scene: DemoScene, start: InitialPose, records: Sequence[FrameRecord]) -> DemoPictures:
    """All pictures, from the recording and the answers."""
    renderer = make_renderer(bone_volume(volume), "cpu")
    messages = [(image, info) for _, image, info in read_frames(scene.recording.bag)]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(_frame, renderer, image, info, record.camera_from_patient)
            for (image, info), record in zip(messages, records, strict=True)
        ]
        frames = [job.result() for job in jobs]
    camera = intrinsics_from_message(messages[0][1])
    return DemoPictures(frames, edges_picture(renderer, start.camera_from_patient, camera, OTHER_COLOUR), start.words)


def before_and_after(pictures: DemoPictures) -> Image.Image:
    """The first frame with the edges at the start, and with those at the pose found; 256 colours keep the file small."""
    first = pictures.frames[0]
    halves = [_flat(first.xray, edges) for edges in (pictures.start_edges, first.edges)]
    width, height = halves[0].size
    pair = Image.new("RGB", (2 * width + GAP_PX, height), "white")
    for n, half in enumerate(halves):
        pair.paste(half, (n * (width + GAP_PX), 0))
    return pair.quantize(256, dither=Image.Dither.NONE)


def _flat(xray: bytes, edges: bytes | None) -> Image.Image:
    image = Image.open(io.BytesIO(xray)).convert("RGBA")
    if edges is not None:
        image.alpha_composite(Image.open(io.BytesIO(edges)).convert("RGBA"))
    return image.convert("RGB")


def _frame(renderer: AbstractRenderer, image: Any, info: Any, pose: RigidTransform | None) -> FramePicture:
    camera = intrinsics_from_message(info)
    xray = xray_picture(torch.tensor(pixels_from_message(image).astype(np.float32)), camera)
    return FramePicture(xray, None if pose is None else edges_picture(renderer, pose, camera, POSE_COLOUR))
