"""Names of frames as tf2 takes them: not empty, without a leading slash, and different for a parent and its child.

tf2 drops a transform with other names, and the pose would be missing without a word. What the user sets is refused in
`configure`; names in messages, which the user often cannot change, lose their slash.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from fluoro_reg.errors import InputError
from fluoro_reg.ros.options import FrameOptions, NodeOptions


def without_slash(frame_id: str) -> str:
    """Return the name without leading slashes, which ROS 1 wrote and tf2 does not allow."""
    return frame_id.lstrip("/")


def check_frame_options(options: NodeOptions) -> None:
    """Check the frames of the parameters.

    Raises:
        InputError: a frame is missing, has a name that tf2 does not allow, or is used twice.
    """
    frames = options.frames
    given = {
        "frames.patient": frames.patient,
        "frames.camera": frames.camera,
        "frames.anchor": frames.anchor,
        "second.frame": options.second.frame,
    }
    for parameter, name in given.items():
        _check_name(parameter, name)
    if not frames.patient:
        raise InputError("frames.patient is empty; give the patient's frame a name, such as patient")
    if options.tf.mode == "anchored" and not frames.anchor:
        raise InputError("tf.mode is anchored, but frames.anchor is empty; set it to the parent, such as robot_base")
    if options.tf.fuse and options.tf.mode != "anchored":
        raise InputError(f"tf.fuse needs a frame that stays still, but tf.mode is {options.tf.mode}; set it to anchored")
    names = [name for name in given.values() if name]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        same = " and ".join(parameter for parameter, name in given.items() if name == repeated)
        raise InputError(f"{same} are both '{repeated}'; tf2 needs different frames, so rename one")


def check_body_options(options: NodeOptions, frame_of_body: Mapping[str, str], reference: str) -> None:
    """Check the frames of bodies.yaml, and the parameters that bodies exclude.

    Raises:
        InputError: a frame has a name that tf2 does not allow or that a parameter uses, or poses are to be fused.
    """
    if options.tf.fuse:
        raise InputError("tf.fuse takes the patient to lie still, but the bodies of bodies.path move; set one of the two only")
    frames = options.frames
    if frames.patient not in (FrameOptions().patient, frame_of_body[reference]):
        raise InputError(
            f"frames.patient is '{frames.patient}', but in bodies.path the frame of the reference {reference} is "
            f"'{frame_of_body[reference]}', which takes its place; write 'frame: {frames.patient}' there, or leave one out"
        )
    for body, name in frame_of_body.items():
        _check_name(f"in bodies.path, the frame of {body}", name)
        for parameter, other in (("frames.camera", frames.camera), ("frames.anchor", frames.anchor)):
            if name == other:
                raise InputError(f"in bodies.path, the frame of {body} is '{name}', as is {parameter}; rename one")


def with_reference_frame(options: NodeOptions, reference_frame: str) -> NodeOptions:
    """Return the options, in which the frame of the reference body takes the place of the patient's."""
    return replace(options, frames=replace(options.frames, patient=reference_frame))


def check_camera_frame(camera_frame: str, options: NodeOptions, body_frames: Collection[str] = ()) -> None:
    """Check the camera's frame of one image, which is the image's frame_id unless a parameter overrides it.

    `body_frames` are those of bodies other than the reference.

    Raises:
        InputError: it is empty, or the name of another frame.
    """
    if not camera_frame:
        raise InputError("the image has no frame_id; set it in the driver, or set the parameter frames.camera")
    anchor = options.frames.anchor if options.tf.mode == "anchored" or options.second.frame else ""
    others = {"frames.patient": options.frames.patient, "frames.anchor": anchor, "second.frame": options.second.frame}
    for parameter, name in others.items():
        if camera_frame == name:
            raise InputError(f"the image's frame_id is '{name}', as is {parameter}; set frames.camera, or rename one")
    if camera_frame in body_frames:
        raise InputError(f"the image's frame_id is '{camera_frame}', as is a body's frame; set frames.camera, or rename one")


def _check_name(parameter: str, name: str) -> None:
    if name.startswith("/"):
        advice = f"write '{name.lstrip('/')}'" if name.strip("/") else "give it a name"
        raise InputError(f"{parameter} is '{name}', but names of frames begin without a slash on tf2; {advice}")
    if name != name.strip():
        raise InputError(f"{parameter} is '{name}', with spaces at its ends; remove them")
