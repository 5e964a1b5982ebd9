"""The examination of a bag: topics and rates, pairing of images with CameraInfo, frames, QoS, the camera, and one image."""

from pathlib import Path
from typing import Any

from fluoro_reg.doctor.bag_contents import BagContents, Topic, read_bag
from fluoro_reg.doctor.bag_headers import header_facts, header_findings
from fluoro_reg.doctor.bag_pairing import pairing_facts, pairing_findings, partner_of
from fluoro_reg.doctor.camera_info import camera_info_facts, camera_info_findings, intrinsics_of
from fluoro_reg.doctor.examination import Examination, Fact, Finding, Level, Section, refusal
from fluoro_reg.doctor.pixels import PixelExamination, examine_pixels
from fluoro_reg.doctor.xray import no_camera
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bags import CAMERA_INFO_TOPIC, IMAGE_TOPIC
from fluoro_reg.formats.recordings import RecordingSource
from fluoro_reg.xray.camera_info import distortion_from_message
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
    if contents.images is None or not contents.images.stamps:
        return refusal(
            KIND, "the bag has no image (sensor_msgs/Image or CompressedImage); record the topic of the X-rays", sections
        )
    findings = _topic_findings(contents)
    sections += [Section("Images", header_facts(contents.images)), *_image_section(contents.image)]
    findings += header_findings(contents)
    sections.append(Section("Pairing by stamp", pairing_facts(contents)))
    findings += pairing_findings(contents)
    info = partner_of(contents)
    if info is not None:
        sections.append(Section("CameraInfo", camera_info_facts(info, len(contents.camera_infos))))
        findings += camera_info_findings(info, contents.image, source.undistort)
    pixels = _pixels(contents.image, info, source)
    if isinstance(pixels, Finding):
        return Examination(KIND, sections, [*findings, pixels])
    return Examination(KIND, [*sections, pixels.section], [*findings, *pixels.findings], pixels.pictures)


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


def _pixels(image: Any, info: Any, source: RecordingSource) -> PixelExamination | Finding:
    """Return the examination of an image; without a camera of its size, of its pixels as they are."""
    camera = intrinsics_of(info)
    try:
        pixels = pixels_from_message(image) if hasattr(image, "encoding") else pixels_from_compressed(image)
        height, width = pixels.shape
        if camera is None or (camera.width, camera.height) != (width, height):
            xray = xray_from_pixels(pixels, no_camera(width, height), source.intensity)
        else:
            distortion = distortion_from_message(info) if source.undistort else None
            xray = xray_from_pixels(pixels, camera, source.intensity, distortion=distortion)
    except InputError as error:
        return Finding(Level.REFUSED, str(error))
    return examine_pixels(xray, "--intensity")
