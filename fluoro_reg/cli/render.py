"""`fluoro-reg render`: render a DRR of a CT with the renderer that registration uses."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluoro_reg.cli.common_arguments import CommonArguments
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import CTArguments, read_volume
from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.cli.output_files import check_writable, write_file
from fluoro_reg.cli.typer_command import epilog_text
from fluoro_reg.config import option

if TYPE_CHECKING:
    import numpy as np

NAME = "render"
EPILOG = epilog_text(
    [
        ("Render an image to look at", "fluoro-reg render --ct ct/ --camera camera.json --pose pose.json --out drr.png"),
        (
            "Write line integrals as float32",
            "fluoro-reg render --ct ct.nii.gz --camera camera.json --pose pose.json --out drr.npy",
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """Settings of `render`."""

    device: str = option(
        "auto", "device to compute on; auto: cuda if CUDA and Triton are present, else cpu", choices=("cpu", "cuda", "auto")
    )
    seed: int = option(0, "accepted for consistency; rendering is deterministic", minimum=0)
    black_percentile: float = option(1.0, "PNG: the line integral at this percentile is black", unit="%", minimum=0, maximum=99)
    white_percentile: float = option(
        99.9, "PNG: the line integral at this percentile is white", unit="%", minimum=1, maximum=100
    )
    gamma: float = option(
        1.0, "PNG: exponent of the grey values between black and white; below 1 brightens soft tissue", minimum=0.1, maximum=10
    )


def command(
    ct: CTArguments,
    camera: Annotated[Path, typer.Option(metavar="C.json", help="camera.json: image size and K in px.")],
    pose: Annotated[Path, typer.Option(metavar="P.json", help="pose.json: camera_from_patient, mm.")],
    out: Annotated[Path, typer.Option(metavar="F.png|F.npy", help="File to write: 8-bit image or float32 line integrals.")],
    common: CommonArguments,
) -> int:
    """Render a digitally reconstructed radiograph (DRR) of a CT.

    A .npy file holds the line integrals of attenuation (float32, rows x columns, no unit). A .png file shows them in 8 bits
    with bright bone: the 1st percentile is black and the 99.9th is white.

    Settings for --set: black_percentile, white_percentile and gamma.
    """
    from fluoro_reg.formats.cameras import read_distorted_camera
    from fluoro_reg.formats.poses import read_pose
    from fluoro_reg.rendering import make_renderer, project

    output = Output(common.json)
    options = common.settings(RenderSettings, {"device": common.device, "seed": common.seed})
    check_writable(out, (".png", ".npy"))
    intrinsics, distortion = read_distorted_camera(camera)
    camera_from_patient = read_pose(pose)
    if distortion is not None:
        output.warn(f"{camera.name} has lens distortion, which is not rendered: the DRR is that of the undistorted image")
    volume = read_volume(ct, output)
    start = time.perf_counter()
    integrals = project(make_renderer(volume, options.device), camera_from_patient, intrinsics).cpu().numpy()
    elapsed_s = time.perf_counter() - start
    if not integrals.any():
        output.warn("no ray meets the CT, so the image is black; check the pose (camera_from_patient, mm) and the camera")
    _write(integrals, out, options)
    answer = {
        "out": out.name,
        "width": intrinsics.width,
        "height": intrinsics.height,
        "maximum_line_integral": float(integrals.max()),
        "elapsed_s": elapsed_s,
        "ct_fingerprint": volume.fingerprint,
    }
    output.show(answer, key_value_table(answer))
    return ExitStatus.ACCEPTED


def _write(integrals: "np.ndarray", path: Path, options: RenderSettings) -> None:
    import numpy as np
    from PIL import Image

    if path.suffix.lower() == ".npy":
        write_file(path, lambda file: np.save(file, integrals.astype(np.float32)))
        return
    black, white = np.percentile(integrals, [options.black_percentile, options.white_percentile])
    grey = np.clip((integrals - black) / max(white - black, 1e-6), 0, 1) ** options.gamma
    write_file(path, Image.fromarray((255 * grey).round().astype(np.uint8)).save)
