"""The CT and the tracker that the transition `configure` loads."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.formats.poses import read_pose
from fluoro_reg.registration import Registrar, RegistrationOptions, Tracker
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.processor import FrameTracker
from fluoro_reg.xray.distortion import load_opencv


@dataclass(frozen=True, slots=True)
class Session:
    """A CT, the tracker that registers images to it, and the name of its method."""

    volume: CTVolume
    tracker: FrameTracker
    method: str


def load_session(options: NodeOptions, registration: RegistrationOptions, log: Callable[[str], object]) -> Session:
    """Read the CT and the initial pose, and prepare the registration; later frames need no file.

    Args:
        options: options of the node.
        registration: options of the registration.
        log: called with each line to log.

    Raises:
        InputError: the CT, the initial pose or the method is unusable, or OpenCV is needed and missing.
    """
    if not options.ct.path:
        raise InputError("the parameter ct.path is empty; set it to the CT to register to")
    if options.undistort:
        load_opencv()  # a missing OpenCV is reported now, and not with every image
    begin = time.monotonic()
    initial_pose = read_pose(options.initial.path) if options.initial.path else None
    volume = read_ct(options.ct.path, options.ct.series or None)
    registrar = Registrar(volume, registration)
    size, spacing = ("x".join(f"{value:g}" for value in row) for row in (volume.shape_ijk, volume.voxel_size_mm))
    log(f"CT of {size} voxels, {spacing} mm, ready in {time.monotonic() - begin:.1f} s (fingerprint {volume.fingerprint[:12]})")
    return Session(volume, Tracker(registrar, initial_pose, background=True), registrar.method.name)
