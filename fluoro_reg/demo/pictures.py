"""The images of the demo's report: X-rays and, as separate layers, the CT's bone edges at the poses received on /tf.

Bones that move on their own have a colour each.
"""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from fluoro_reg.ct.bodies import split_bodies
from fluoro_reg.ct.label_map import read_label_map
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.demo.assessment import FrameRecord
from fluoro_reg.demo.initial_pose import InitialPose
from fluoro_reg.demo.scene import DemoScene
from fluoro_reg.evaluation.report.pictures import edges_webp, layers_webp, xray_webp
from fluoro_reg.formats.bags import read_frames
from fluoro_reg.formats.bodies import read_bodies
from fluoro_reg.registration.bodies.overlay import colour_of
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.overlay import OTHER_COLOUR, POSE_COLOUR, bone_volume
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.xray.camera_info import intrinsics_from_message
from fluoro_reg.xray.encodings import pixels_from_message

GAP_PX = 8


@dataclass(frozen=True, slots=True)
class FrameImage:
    """WebP images of one frame: the X-ray and, if there is a pose, the edges on a transparent background."""

    xray: bytes
    edges: bytes | None


@dataclass(frozen=True, slots=True)
class DemoImages:
    """The images of all frames in order, and for the first frame the edges at the initial pose and its description."""

    frames: list[FrameImage]
    initial_edges: bytes
    initial_description: str


def render_images(volume: CTVolume, scene: DemoScene, initial: InitialPose, records: Sequence[FrameRecord]) -> DemoImages:
    """Render the images of the recording's frames with the bone edges at the received poses."""
    renderer, bodies = make_renderer(bone_volume(volume), "cpu"), body_renderers(volume, scene)
    messages = [(image, info) for _, image, info in read_frames(scene.recording.bag)]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(_frame_image, renderer, bodies, image, info, record)
            for (image, info), record in zip(messages, records, strict=True)
        ]
        frames = [job.result() for job in jobs]
    camera = intrinsics_from_message(messages[0][1])
    initial_edges = edges_webp(renderer, initial.camera_from_patient, camera, OTHER_COLOUR)
    return DemoImages(frames, initial_edges, initial.description)


def before_and_after(images: DemoImages) -> Image.Image:
    """Return the first frame twice, with the edges at the initial and at the estimated pose; 256 colours keep it small."""
    first = images.frames[0]
    halves = [_flatten(first.xray, edges) for edges in (images.initial_edges, first.edges)]
    width, height = halves[0].size
    pair = Image.new("RGB", (2 * width + GAP_PX, height), "white")
    for n, half in enumerate(halves):
        pair.paste(half, (n * (width + GAP_PX), 0))
    return pair.quantize(256, dither=Image.Dither.NONE)


def _flatten(xray: bytes, edges: bytes | None) -> Image.Image:
    image = Image.open(io.BytesIO(xray)).convert("RGBA")
    if edges is not None:
        image.alpha_composite(Image.open(io.BytesIO(edges)).convert("RGBA"))
    return image.convert("RGB")


def body_renderers(volume: CTVolume, scene: DemoScene) -> dict[str, AbstractRenderer]:
    """Renderers of the bones that move on their own, by name, the reference first; none where the CT is one body."""
    if scene.bodies is None:
        return {}
    config, labels = read_bodies(scene.bodies.bodies), read_label_map(scene.bodies.labels).on_grid_of(volume)
    moving = {name: body.numbers for name, body in config.bodies.items() if name != config.reference}
    rest, parts = split_bodies(volume, labels, moving)
    volumes = {config.reference: bone_volume(rest), **parts}
    return {name: make_renderer(part, "cpu") for name, part in volumes.items()}


def _frame_image(
    renderer: AbstractRenderer, bodies: Mapping[str, AbstractRenderer], image: Any, info: Any, record: FrameRecord
) -> FrameImage:
    """The X-ray and the edges of what was received on /tf: of the CT, or of every body."""
    camera = intrinsics_from_message(info)
    xray = xray_webp(torch.tensor(pixels_from_message(image).astype(np.float32)), camera)
    layers = []
    if record.camera_from_patient is not None and not bodies:
        layers.append((renderer, record.camera_from_patient, POSE_COLOUR))
    for number, (name, of_body) in enumerate(bodies.items()):
        if (pose := record.bodies[name].camera_from_patient) is not None:
            layers.append((of_body, pose, colour_of(number)))
    return FrameImage(xray, layers_webp(layers, camera) if layers else None)
