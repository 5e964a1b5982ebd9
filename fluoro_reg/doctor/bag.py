"""The examination of a bag: topics and rates, pairing of images with CameraInfo, frames, QoS, the camera, and one image."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from fluoro_reg.doctor.bag_contents import BagContents, Topic, read_bag
from fluoro_reg.doctor.bag_headers import header_facts, header_findings
from fluoro_reg.doctor.bag_pairing import pairing_facts, pairing_findings, partner_of
from fluoro_reg.doctor.camera_info import camera_info_facts, camera_of_info
from fluoro_reg.doctor.examination import Examination, Fact, Finding, Level, Section, refusal, warnings_of
from fluoro_reg.doctor.pixels import examine_pixels
from fluoro_reg.doctor.xray import camera_facts, no_camera
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_frames import CameraInfoChoice
from fluoro_reg.formats.bags import CAMERA_INFO_TOPIC, IMAGE_TOPIC
from fluoro_reg.formats.recordings import RecordingSource
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import CameraInfoRules, disagreement_with
from fluoro_reg.xray.distortion import Distortion
from fluoro_reg.xray.encodings import pixels_from_compressed, pixels_from_message
from fluoro_reg.xray.reader import xray_from_pixels

KIND = "bag"


def examine_bag(path: Path, source: RecordingSource) -> Examination:
    """Return what a registration would see in a bag, or why it would refuse it."""
    try:
        contents = read_bag(path, source.image_topic, source.camera_info_topic)
    except InputError as error:
        return refusal(KIND, str(error))
    sections = [Section("Topics", [_topic_fact(topic) for topic in contents.topics])]
    if contents.images is None or contents.image is None:
        sentence = "the bag has no readable image (sensor_msgs/Image or CompressedImage); record the topic of the X-rays"
        return refusal(KIND, sentence, sections)
    choice = CameraInfoChoice.GIVEN if source.camera is not None else source.camera_info
    findings = [*warnings_of(contents.warnings), *_topic_findings(contents), *header_findings(contents)]
    sections += [Section("Images", header_facts(contents.images)), *_image_section(contents.image)]
    sections.append(Section("Pairing by stamp", pairing_facts(contents)))
    findings += pairing_findings(contents, choice)
    return _with_pixels(contents, source, sections, findings)


def _with_pixels(
    contents: BagContents, source: RecordingSource, sections: list[Section], findings: list[Finding]
) -> Examination:
    """Add the camera and the pixels of the examined image."""
    try:
        pixels = _decoded(contents.image)
    except InputError as error:
        return Examination(KIND, sections, [*findings, Finding(Level.REFUSED, str(error))])
    size = (pixels.shape[1], pixels.shape[0])
    camera, distortion, shown, about_camera = _camera(contents, source, size)
    try:
        xray = xray_from_pixels(pixels, camera or no_camera(*size), source.intensity, distortion=distortion)
    except InputError as error:
        return Examination(KIND, [*sections, *shown], [*findings, *about_camera, Finding(Level.REFUSED, str(error))])
    found = examine_pixels(xray, "--intensity")
    return Examination(KIND, [*sections, *shown, found.section], [*findings, *about_camera, *found.findings], found.pictures)


def _camera(
    contents: BagContents, source: RecordingSource, size: tuple[int, int]
) -> tuple[CameraIntrinsics | None, Distortion | None, list[Section], list[Finding]]:
    """Return the camera of the examined image and the distortion to undo, with facts and findings about them."""
    info = partner_of(contents)
    shown, findings = [], []
    if source.camera is not None:
        shown.append(Section("Camera", camera_facts(source.camera, "camera.json", "camera.json", "camera.json")))
        if info is not None:
            findings = warnings_of(disagreement_with(source.camera, info, size))
            shown.append(Section("CameraInfo", camera_info_facts(info, len(contents.cameras), None)))
        return source.camera, source.distortion, shown, findings
    if info is None:
        return None, None, shown, findings
    camera, findings = camera_of_info(info, size, CameraInfoRules(source.camera_matrix, source.undistort))
    shown.append(Section("CameraInfo", camera_info_facts(info, len(contents.cameras), camera)))
    if camera is None:
        return None, None, shown, findings
    return camera.intrinsics, camera.distortion, shown, findings


def _decoded(image: Any) -> Num[np.ndarray, "height width"]:
    return pixels_from_message(image) if hasattr(image, "encoding") else pixels_from_compressed(image)


def _topic_fact(topic: Topic) -> Fact:
    offered = ", ".join(word for word in (topic.reliability, topic.durability) if word)
    return Fact(topic.name, topic.count, "messages", topic.type + (f"; offered: {offered}" if offered else ""))


def _topic_findings(contents: BagContents) -> list[Finding]:
    """Return the topics to name, where they are not the default ones, and what the node's QoS must be."""
    assert contents.images is not None
    findings = []
    chosen = {"--image-topic": contents.images.topic, "--camera-info-topic": contents.infos and contents.infos.topic}
    defaults = {"--image-topic": IMAGE_TOPIC, "--camera-info-topic": CAMERA_INFO_TOPIC}
    options = [f"{option} {name}" for option, name in chosen.items() if name and name != defaults[option]]
    if options:
        sentence = (
            "the topics are not those that replay takes by default; name them, and remap image and camera_info in the node"
        )
        findings.append(Finding(Level.NOTE, sentence, " ".join(options)))
    offered = {topic.reliability for topic in contents.topics if topic.name in chosen.values() and topic.reliability}
    if offered == {"reliable"}:
        sentence = "the publishers were reliable; the node may ask for that, and then loses no image on a bad network"
        findings.append(Finding(Level.NOTE, sentence, "qos.image: reliable"))
    elif offered:
        sentence = "a publisher was best effort, to which a reliable subscription gets no message; keep the node's default"
        findings.append(Finding(Level.NOTE, sentence, "qos.image: sensor_data"))
    return findings


def _image_section(image: Any) -> list[Section]:
    if not hasattr(image, "encoding"):
        return [Section("Image", [Fact("format", "compressed (JPEG, PNG or TIFF by content)")])]
    size = [int(image.width), int(image.height)]
    facts = [
        Fact("size (columns, rows)", size, "px"),
        Fact("encoding", str(image.encoding)),
        Fact("step", int(image.step), "bytes"),
    ]
    return [Section("Image", facts)]
