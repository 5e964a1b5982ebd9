"""`fluoro-reg register`: register one X-ray, several of known relative geometry, or many one after the other, to a CT."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.panel import Panel

from fluoro_reg.cli.bodies_arguments import BodiesArguments
from fluoro_reg.cli.common_arguments import CommonArguments
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import (
    CTArguments,
    FurtherXrayArguments,
    XrayArguments,
    check_further_xrays,
    read_views,
    read_volume,
)
from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.cli.output_files import check_writable, write_file
from fluoro_reg.cli.register_bodies import bodies_table
from fluoro_reg.cli.register_many import register_many
from fluoro_reg.cli.registration_arguments import RegistrationArguments
from fluoro_reg.cli.start_arguments import InitialPoseArguments, SearchArguments, read_initial_pose
from fluoro_reg.cli.typer_command import epilog_text
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8
    from PIL.Image import Image
    from torch import Tensor

    from fluoro_reg.ct.volume import CTVolume
    from fluoro_reg.formats.bodies import BodiesConfig
    from fluoro_reg.geometry import RigidTransform
    from fluoro_reg.registration import RegistrationOptions, RegistrationResult
    from fluoro_reg.xray.view import CalibratedXray

NAME = "register"
GAP_PX = 8  # between the images of an overlay
EPILOG = epilog_text(
    [
        (
            "Register an X-ray from an initial pose",
            "fluoro-reg register --ct ct/ --image xray.png --camera camera.json --initial initial.json",
        ),
        (
            "Register an X-ray without an initial pose",
            "fluoro-reg register --ct ct/ --image xray.png --camera camera.json --view lateral-left",
        ),
        (
            "Register one frame of a cine, draw the result, and save the pose",
            "fluoro-reg register --ct ct/ --image cine.dcm --frame 12 --camera camera.json \\\n"
            "--initial initial.json --overlay overlay.png --json > pose.json",
        ),
        (
            "Register all X-rays of a folder, each on its own",
            "fluoro-reg register --ct ct/ --image xrays/ --camera camera.json --json > poses.jsonl",
        ),
        (
            "Register a frontal and a lateral X-ray together",
            "fluoro-reg register --ct ct/ --image frontal.dcm --initial initial.json --second-view lateral.json",
        ),
        (
            "Register every bone on its own",
            "fluoro-reg register --ct ct/ --bodies bodies.yaml --labels segmentation.nii.gz --image xray.png \\\n"
            "--camera camera.json --initial initial.json --json > poses.json",
        ),
    ],
    "0 accepted; 1 rejected (the result is still printed, with the reason); 2 unusable input. Several X-rays: 0 all accepted; "
    "1 any rejected or unreadable (its line says why); 2 none readable, or unusable CT or arguments.",
)


def command(
    ct: CTArguments,
    xray: XrayArguments,
    further: FurtherXrayArguments,
    initial_pose: InitialPoseArguments,
    searched: SearchArguments,
    several: BodiesArguments,
    registration: RegistrationArguments,
    common: CommonArguments,
    overlay: Annotated[
        Path | None,
        typer.Option(
            metavar="F.png",
            help="Write the X-ray with the projected bone edges of the CT: green at the final pose, orange at the initial one. "
            "Several X-rays are placed side by side, --image first. With --bodies, accepted bodies have colours of their own, "
            "and rejected ones are grey.",
        ),
    ] = None,
) -> int:
    """Register one X-ray, several together, or many one after the other, to a CT.

    The result is the pose camera_from_patient (mm) and whether it is accepted. A pose is accepted only if it passes every gate;
    otherwise the reason is given, and the pose must not be used. The JSON result is a valid pose.json.

    Without --initial and --model, the views of a C-arm are searched (--view, --range). With --second-view, one pose must fit
    all X-rays, and each X-ray can reject it; without --initial, the first X-ray is searched.

    With --image more than once, or a folder, every X-ray is registered on its own, from the same --initial or search. --json
    then prints one JSON object on one line for each, in order, with the key image. An X-ray that cannot be read is rejected
    on its line, and the others go on.

    With --bodies, every bone that bodies.yaml names has a pose of its own, and is accepted or rejected on its own. The result
    speaks of the reference body, as without --bodies, and holds all bodies in addition (bodies in --json).
    """
    from fluoro_reg.registration import Registrar

    output = Output(common.json)
    further_files = further.files(searched)
    options = registration.settings(common, {**initial_pose.weights(), "initial": searched.settings()})
    if overlay is not None:
        check_writable(overlay, (".png",))
    check_further_xrays(further_files, options)
    initial = read_initial_pose(initial_pose, options)
    bodies = several.config()
    if xray.are_several and bodies is not None:
        raise InputError("--bodies registers one X-ray, or several of known relative geometry; give --image once, with a file")
    if xray.are_several:
        _check_several(further_files, overlay)
        return register_many(xray.files(), xray, ct, initial, options, output)
    views = read_views(xray, further_files)
    for sentence in dict.fromkeys(warning for view in views for warning in view.image.warnings):
        output.warn(sentence)
    volume = read_volume(ct, output)
    if bodies is not None:
        return _register_bodies(volume, bodies, several, views, initial, options, overlay, output)
    with output.status("registering"):
        registrar = Registrar(volume, options)
        is_alone = len(views) == 1
        result = registrar.register(views[0].image, initial) if is_alone else registrar.register_views(views, initial)
    for sentence in result.warnings:
        output.warn(sentence)
    if overlay is not None:
        if result.camera_from_patient is None:
            output.warn(f"{overlay.name} is not written because there is no pose to show")
        else:
            image = _overlay(views, volume, result.camera_from_patient, result.initial_camera_from_patient)
            write_file(overlay, image.save)
    names = [path.name for path in (xray.image[0], *further_files)]
    output.show(result.to_json(), _result_panel(result, volume.centre_patient, _view_descriptions(views, names)))
    return ExitStatus.ACCEPTED if result.accepted else ExitStatus.REJECTED


def _register_bodies(
    volume: "CTVolume",
    config: "BodiesConfig",
    arguments: BodiesArguments,
    views: "list[CalibratedXray]",
    initial: "RigidTransform | None",
    options: "RegistrationOptions",
    overlay: Path | None,
    output: Output,
) -> int:
    from PIL.Image import fromarray

    from fluoro_reg.registration.bodies.overlay import BodiesOverlay
    from fluoro_reg.registration.bodies.registrar import BodiesRegistrar

    labels, volumes = arguments.read(config, output)
    with output.status("registering"):
        registrar = BodiesRegistrar(volume, config, labels, volumes, options)
        is_alone = len(views) == 1
        result = registrar.register(views[0].image, initial) if is_alone else registrar.register_views(views, initial)
    if overlay is not None:
        drawing = BodiesOverlay(registrar.bodies)
        image = fromarray(_side_by_side([drawing.draw(view, result) for view in views]))
        write_file(overlay, image.save)
    output.show(result.to_json(), bodies_table(result))
    return ExitStatus.ACCEPTED if result.accepted else ExitStatus.REJECTED


def _check_several(further_files: list[Path], overlay: Path | None) -> None:
    if further_files:
        raise InputError("--second-view belongs to one X-ray; give --image once, with a file")
    if overlay is not None:
        raise InputError("--overlay shows one X-ray; give --image once, with a file, or leave --overlay out")


def _overlay(
    views: "list[CalibratedXray]", volume: "CTVolume", final: "RigidTransform", initial: "RigidTransform | None"
) -> "Image":
    """All views side by side; `final` and `initial` are poses of the first camera."""
    from PIL.Image import fromarray

    from fluoro_reg.rendering import make_renderer
    from fluoro_reg.rendering.overlay import bone_volume, overlay

    renderer = make_renderer(bone_volume(volume), "cpu")
    images = []
    for view in views:
        final_pose = view.camera_from_reference @ final
        initial_pose = None if initial is None else view.camera_from_reference @ initial
        images.append(overlay(view.image.pixels, renderer, final_pose, view.image.intrinsics, initial_pose))
    return fromarray(_side_by_side(images))


def _side_by_side(images: "list[UInt8[np.ndarray, '_ _ 3']]") -> "UInt8[np.ndarray, 'height width 3']":
    """The images in a row, unscaled, aligned at the top, on black."""
    import numpy as np

    height = max(image.shape[0] for image in images)
    columns = [np.pad(image, ((0, height - image.shape[0]), (0, GAP_PX), (0, 0))) for image in images]
    return np.concatenate(columns, axis=1)[:, :-GAP_PX]


def _view_descriptions(views: "list[CalibratedXray]", names: list[str]) -> list[str]:
    """A line for each view, because reasons refer to views by number."""
    from fluoro_reg.geometry import so3

    angles = [math.degrees(float(so3.angle(view.camera_from_reference.rotation))) for view in views[1:]]
    further = (f"{name}, rotated by {angle:.1f} deg" for name, angle in zip(names[1:], angles, strict=True))
    return [f"view {n}: {description}" for n, description in enumerate((names[0], *further), 1)]


def _result_panel(result: "RegistrationResult", centre_patient: "Float[Tensor, '3']", views: list[str]) -> Panel:
    lines: dict[str, object] = {"reason": result.reason, "outcome": result.outcome.value, "method": result.method}
    several = len(views) > 1
    if several:
        lines["method"] = f"{result.method} in each view, then Levenberg-Marquardt on gradient NCC in all"
        lines["views"] = [f"{len(views)}, registered together", *views]
    initial, final = result.initial_camera_from_patient, result.camera_from_patient
    if initial is not None and final is not None:
        lines["motion from the initial pose"] = _motion(initial, final, centre_patient)
    if result.start_detail:
        lines["searched"] = result.start_detail
    if result.similarity is not None:
        lines["similarity"] = f"{result.similarity:.3f} (1 is perfect)"
    if result.covariance is not None:
        lines["standard deviations"] = _standard_deviations(result, centre_patient)
    if result.alternatives:
        best = max(other.similarity for other in result.alternatives)
        lines["alternatives"] = f"{len(result.alternatives)}, the best with similarity {best:.3f}"
    confidence = result.intensity_confidence
    estimated = "" if confidence is None else f" (estimated from the image, {confidence:.0%} confident)"
    lines["intensity of that view" if several else "intensity"] = f"{result.intensity}{estimated}"
    lines["time"] = f"{result.elapsed_s:.2f} s, {result.n_renders} renderings, {result.device}"
    style, title = ("green", "ACCEPTED") if result.accepted else ("red", "REJECTED")
    return Panel(key_value_table(lines), title=escape(title), border_style=style, expand=False)


def _motion(initial: "RigidTransform", final: "RigidTransform", centre_patient: "Float[Tensor, '3']") -> str:
    """The motion of the CT's centre in the camera frame, and the rotation angle."""
    from fluoro_reg.geometry import so3

    before, after = (pose.apply(centre_patient[None])[0] for pose in (initial, final))
    x, y, z = (after - before).tolist()
    angle = math.degrees(float(so3.angle(final.rotation @ initial.rotation.mT)))
    return f"{math.hypot(x, y):.1f} mm in the image plane, {abs(z):.1f} mm in depth, {angle:.1f} deg"


def _standard_deviations(result: "RegistrationResult", centre_patient: "Float[Tensor, '3']") -> str:
    """The uncertainty at the CT's centre. At the patient's origin, which ROS refers to, the rotations would dominate."""
    from fluoro_reg.registration.assessment.covariance import position_covariance

    assert result.covariance is not None and result.camera_from_patient is not None
    at_centre = position_covariance(result.covariance, result.camera_from_patient, centre_patient)
    x, y, z = at_centre.diagonal().clamp_min(0).sqrt().tolist()
    angle = math.degrees(float(result.covariance.diagonal()[3:].clamp_min(0).sqrt().max()))
    return f"{math.hypot(x, y):.2f} mm in the image plane, {z:.2f} mm in depth, {angle:.2f} deg"
