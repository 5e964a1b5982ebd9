"""`fluoro-reg register`: one X-ray, or several of known relative geometry, one CT, a start; one pose with a verdict."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.panel import Panel

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.files import check_writable, write_file
from fluoro_reg.cli.inputs import (
    CTArguments,
    FurtherXrayArguments,
    InitialPoseArguments,
    XrayArguments,
    check_together,
    read_initial_pose,
    read_views,
    read_volume,
)
from fluoro_reg.cli.options import Common
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.cli.recipe import RecipeOptions

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8
    from PIL.Image import Image
    from torch import Tensor

    from fluoro_reg.ct.volume import CTVolume
    from fluoro_reg.geometry import RigidTransform
    from fluoro_reg.registration import RegistrationResult
    from fluoro_reg.xray.view import CalibratedXray

NAME = "register"
GAP_PX = 8  # between the pictures of an overlay
EXAMPLES = (
    "Example:\n\n$ fluoro-reg register --ct ct_folder --image xray.png --camera camera.json --initial initial.json\n\n"
    "$ fluoro-reg register --ct ct_folder --image cine.dcm --frame 12 --camera camera.json --initial initial.json "
    "--overlay overlay.png --set gate.minimum_similarity=0.6 --json > pose.json\n\n"
    "$ fluoro-reg register --ct ct_folder --image frontal.dcm --initial initial.json --view lateral.json\n\n"
    "Exit status: 0 accepted; 1 rejected, with the reason (the JSON is still printed); 2 unusable input."
)


def command(
    ct: CTArguments,
    xray: XrayArguments,
    further: FurtherXrayArguments,
    start: InitialPoseArguments,
    recipe: RecipeOptions,
    common: Common,
    overlay: Annotated[
        Path | None,
        typer.Option(
            metavar="F.png",
            help="Write the X-ray with the CT's projected bone edges: green at the pose found, orange at the start. Several "
            "X-rays stand side by side, that of --image on the left.",
        ),
    ] = None,
) -> int:
    """Register one X-ray, or several together, to a CT: camera_from_patient (mm), judged.

    The pose is accepted only when every gate holds; otherwise the reason is given and nothing should use the pose. What --json
    prints is itself a pose.json. Files are in mm; times in s. With --view one pose must suit all X-rays, and each of them can
    refuse it.
    """
    from fluoro_reg.registration import Registrar

    output = Output(common.json)
    options = recipe.settings(common, start.weights())
    if overlay is not None:
        check_writable(overlay, (".png",))
    check_together(further, options)
    initial = read_initial_pose(start, options)
    views = read_views(xray, further)
    volume = read_volume(ct, output)
    with output.doing("registering"):
        registrar = Registrar(volume, options)
        if len(views) == 1:
            result = registrar.register(views[0].image, initial)
        else:
            assert initial is not None  # without weights there is no registration without a start
            result = registrar.register_views(views, initial)
    if overlay is not None:
        if result.camera_from_patient is None:
            output.warn(f"{overlay.name} is not written: there is no pose to show")
        else:
            pictured = _overlay(views, volume, result.camera_from_patient, result.initial_camera_from_patient)
            write_file(overlay, pictured.save)
    names = [path.name for path in (xray.image, *(further.view or []))]
    output.show(result.to_json(), _verdict(result, volume.centre_patient, _which_is_which(views, names)))
    return ExitStatus.ACCEPTED if result.accepted else ExitStatus.REJECTED


def _overlay(
    views: "list[CalibratedXray]", volume: "CTVolume", found: "RigidTransform", initial: "RigidTransform | None"
) -> "Image":
    """All views side by side; `found` and `initial` are poses in the first camera."""
    from PIL.Image import fromarray

    from fluoro_reg.rendering import make_renderer
    from fluoro_reg.rendering.overlay import bone_volume, overlay

    renderer = make_renderer(bone_volume(volume), "cpu")
    pictures = []
    for view in views:
        here, before = (None if pose is None else view.camera_from_reference @ pose for pose in (found, initial))
        assert here is not None
        pictures.append(overlay(view.image.pixels, renderer, here, view.image.intrinsics, before))
    return fromarray(_side_by_side(pictures))


def _side_by_side(pictures: "list[UInt8[np.ndarray, '_ _ 3']]") -> "UInt8[np.ndarray, 'height width 3']":
    """Pixel for pixel, tops aligned; what is left over is black."""
    import numpy as np

    height = max(picture.shape[0] for picture in pictures)
    columns = [np.pad(picture, ((0, height - picture.shape[0]), (0, GAP_PX), (0, 0))) for picture in pictures]
    return np.concatenate(columns, axis=1)[:, :-GAP_PX]


def _which_is_which(views: "list[CalibratedXray]", names: list[str]) -> list[str]:
    """Which view is which, for people, who read "view 2" in a reason."""
    from fluoro_reg.geometry import so3

    turns = [math.degrees(float(so3.angle(view.camera_from_reference.rotation))) for view in views[1:]]
    further = (f"{name}, turned by {turn:.1f} deg" for name, turn in zip(names[1:], turns, strict=True))
    return [f"view {n}: {words}" for n, words in enumerate((names[0], *further), 1)]


def _verdict(result: "RegistrationResult", centre_patient: "Float[Tensor, '3']", views: list[str]) -> Panel:
    lines: dict[str, object] = {"reason": result.reason, "outcome": result.outcome.value, "method": result.method}
    together = len(views) > 1
    if together:
        lines["method"] = f"{result.method} in each view, then Levenberg-Marquardt on gradient NCC in all"
        lines["views"] = [f"{len(views)}, registered together", *views]
    start, end = result.initial_camera_from_patient, result.camera_from_patient
    if start is not None and end is not None:
        lines["moved from the start"] = _motion(start, end, centre_patient)
    if result.similarity is not None:
        lines["similarity"] = f"{result.similarity:.3f} (1 is perfect)"
    if result.covariance is not None:
        lines["standard deviations"] = _deviations(result, centre_patient)
    if result.alternatives:
        best = max(other.similarity for other in result.alternatives)
        lines["other poses"] = f"{len(result.alternatives)}, the best with similarity {best:.3f}"
    judged = "" if result.intensity_confidence is None else f" (judged from the image, {result.intensity_confidence:.0%} sure)"
    lines["X-ray of that view" if together else "X-ray"] = f"{result.intensity}{judged}"
    lines["time"] = f"{result.elapsed_s:.2f} s, {result.n_renders} renderings, {result.device}"
    style, title = ("green", "ACCEPTED") if result.accepted else ("red", "REJECTED")
    return Panel(table_of(lines), title=escape(title), border_style=style, expand=False)


def _motion(start: "RigidTransform", end: "RigidTransform", centre_patient: "Float[Tensor, '3']") -> str:
    """How far the CT's centre went across and along the camera's axis, and the turn."""
    from fluoro_reg.geometry import so3

    before, after = (pose.apply(centre_patient[None])[0] for pose in (start, end))
    x, y, z = (after - before).tolist()
    turn = math.degrees(float(so3.angle(end.rotation @ start.rotation.mT)))
    return f"{math.hypot(x, y):.1f} mm in the image plane, {abs(z):.1f} mm in depth, {turn:.1f} deg"


def _deviations(result: "RegistrationResult", centre_patient: "Float[Tensor, '3']") -> str:
    """The doubt at the CT's centre; at the patient's origin, where ROS wants it, the turns would dominate."""
    from fluoro_reg.registration.assessment.covariance import position_covariance

    assert result.covariance is not None and result.camera_from_patient is not None
    there = position_covariance(result.covariance, result.camera_from_patient, centre_patient)
    x, y, z = there.diagonal().clamp_min(0).sqrt().tolist()
    turn = math.degrees(float(result.covariance.diagonal()[3:].clamp_min(0).sqrt().max()))
    return f"{math.hypot(x, y):.2f} mm in the image plane, {z:.2f} mm in depth, {turn:.2f} deg"
