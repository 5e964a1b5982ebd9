"""The CT, the bodies and the tracker that the transition `configure` loads."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from fluoro_reg.ct.label_map import read_label_map
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bodies import read_bodies
from fluoro_reg.formats.poses import read_pose
from fluoro_reg.formats.views import read_camera_from_first
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Registrar, RegistrationOptions, Tracker
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.bodies.tracker import BodiesTracker
from fluoro_reg.registration.views_tracker import ViewsTracker
from fluoro_reg.ros.frames import check_body_options
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.processor import FrameTracker
from fluoro_reg.xray.distortion import load_opencv


@dataclass(frozen=True, slots=True)
class Session:
    """A CT, the tracker that registers images to it, and the name of its method.

    `bodies` are those with poses of their own, the reference first; none where the CT is one body.
    """

    volume: CTVolume
    tracker: FrameTracker
    method: str
    bodies: tuple[Body, ...] = ()


def load_session(options: NodeOptions, registration: RegistrationOptions, log: Callable[[str], object]) -> Session:
    """Read the CT and the initial pose, and prepare the registration; later frames need no file.

    Args:
        options: options of the node.
        registration: options of the registration.
        log: called with each line to log.

    Raises:
        InputError: the CT, the bodies, the initial pose or the method is unusable, or OpenCV is needed and missing.
    """
    if not options.ct.path:
        raise InputError("the parameter ct.path is empty; set it to the CT to register to")
    if options.undistort:
        load_opencv()  # a missing OpenCV is reported now, and not with every image
    begin = time.monotonic()
    initial_pose = read_pose(options.initial.path) if options.initial.path else None
    volume = read_ct(options.ct.path, options.ct.series or None)
    session = _session(options, registration, volume, initial_pose)
    size, spacing = ("x".join(f"{value:g}" for value in row) for row in (volume.shape_ijk, volume.voxel_size_mm))
    log(f"CT of {size} voxels, {spacing} mm, ready in {time.monotonic() - begin:.1f} s (fingerprint {volume.fingerprint[:12]})")
    if session.bodies:
        log(f"bodies: {', '.join(body.name for body in session.bodies)}")
    return session


def _session(
    options: NodeOptions, registration: RegistrationOptions, volume: CTVolume, initial_pose: RigidTransform | None
) -> Session:
    """The tracker of one rigid CT, in one camera or in two, or of bodies."""
    second = options.second
    if second.exists and options.bodies.path:
        given = "second.path" if second.path else "second.frame"
        raise InputError(f"{given} and bodies.path exclude each other: bodies are followed by one camera; set one only")
    if second.path and second.frame:
        raise InputError("second.path and second.frame both say where the second camera is; set one only")
    if not options.bodies.path:
        if options.labels.path:
            raise InputError("labels.path belongs to bodies.path, which says what the labels are; set both")
        registrar = Registrar(volume, registration)
        if second.exists:
            cameras = [read_camera_from_first(second.path) if second.path else None]
            return Session(volume, ViewsTracker(registrar, cameras, initial_pose), registrar.method.name)
        return Session(volume, Tracker(registrar, initial_pose, background=True), registrar.method.name)
    config = read_bodies(options.bodies.path)
    check_body_options(options, {name: body.frame for name, body in config.bodies.items()}, config.reference)
    if config.moves_labels and not options.labels.path:
        raise InputError("bodies.path makes bodies of labels; set labels.path to the segmentation of the CT")
    labels = read_label_map(options.labels.path) if options.labels.path else None
    volumes = {name: read_ct(body.ct) for name, body in config.bodies.items() if body.ct}
    several = BodiesRegistrar(volume, config, labels, volumes, registration)
    tracker = BodiesTracker(several, initial_pose, background=True)
    return Session(volume, tracker, several.method.name, several.bodies)
