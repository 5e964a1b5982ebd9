"""Pairing of images and CameraInfo by equal stamps, as the node and `replay` pair them, and how far apart the others are."""

from typing import Any

import numpy as np

from fluoro_reg.doctor.bag_contents import BagContents
from fluoro_reg.doctor.examination import Fact, Finding, Level
from fluoro_reg.formats.bag_frames import CameraInfoChoice, stamp_of

_ONE_CAMERA = "--camera-info latest"


def pairing_facts(contents: BagContents) -> list[Fact]:
    """Return how many images have a CameraInfo of their stamp, and the distance of the others to the nearest one."""
    images, infos, paired = _counts(contents)
    facts = [Fact("images", images), Fact("CameraInfo", infos), Fact("images with a CameraInfo of their stamp", paired)]
    offsets = _offsets_ms(contents)
    if len(offsets):
        facts.append(
            Fact("nearest CameraInfo of the others", round(float(np.median(offsets)), 3), "ms", "median; after is positive")
        )
    return facts


def pairing_findings(contents: BagContents, choice: CameraInfoChoice) -> list[Finding]:
    """Return what to do about images without a CameraInfo of their stamp; `choice` says which CameraInfo the user wants."""
    images, infos, paired = _counts(contents)
    if paired == images or choice is CameraInfoChoice.GIVEN:
        return []
    if infos == 0:
        sentence = "there is no CameraInfo, so the images have no camera; record it, or give a camera"
        return [Finding(Level.MISSING, sentence, "--camera camera.json")]
    if choice is CameraInfoChoice.LATEST:
        return []
    lost = f"{images - paired} of {images} images have no CameraInfo of their stamp and are not registered"
    if len(contents.cameras) == 1 and infos < images:
        sentence = f"{lost}; the camera does not change, so its last CameraInfo can serve all images"
        return [Finding(Level.MISSING if paired == 0 else Level.WARNING, sentence, _ONE_CAMERA)]
    offsets = _offsets_ms(contents)
    near = f"; the nearest one is {np.median(np.abs(offsets)):.3g} ms away" if len(offsets) else ""
    sentence = f"{lost}{near}; publish both with the same stamp, as image_transport's camera publisher does"
    return [Finding(Level.MISSING if paired == 0 else Level.WARNING, sentence)]


def partner_of(contents: BagContents) -> Any:
    """Return the CameraInfo that was valid when the examined image was recorded, else the first; None without any."""
    if not contents.cameras or contents.images is None or contents.image is None:
        return None
    stamp = stamp_of(contents.image)
    received = contents.images.received[contents.images.stamps.index(stamp)]
    earlier = [info for info_received, info in contents.cameras if info_received <= received]
    return earlier[-1] if earlier else contents.cameras[0][1]


def _counts(contents: BagContents) -> tuple[int, int, int]:
    images = contents.images.stamps if contents.images is not None else []
    infos = contents.infos.stamps if contents.infos is not None else []
    known = set(infos)
    return len(images), len(infos), sum(stamp in known for stamp in images)


def _offsets_ms(contents: BagContents) -> np.ndarray:
    """Return for each image without a partner the time to the nearest CameraInfo, in ms."""
    if contents.images is None or contents.infos is None or not contents.infos.stamps:
        return np.zeros(0)
    infos = np.sort(np.array(contents.infos.stamps, dtype=np.int64))
    lonely = np.array([stamp for stamp in contents.images.stamps if stamp not in set(contents.infos.stamps)], dtype=np.int64)
    after = np.clip(np.searchsorted(infos, lonely), 0, len(infos) - 1)
    before = np.clip(after - 1, 0, len(infos) - 1)
    differences = np.stack([infos[before] - lonely, infos[after] - lonely])
    return np.take_along_axis(differences, np.abs(differences).argmin(0)[None], 0)[0] * 1e-6 if len(lonely) else np.zeros(0)
