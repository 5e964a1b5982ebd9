"""`fluoro-reg render`: the X-ray that a CT would give, by the renderer that registration uses."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.files import check_writable, write_file
from fluoro_reg.cli.inputs import CTArguments, read_volume
from fluoro_reg.cli.options import Common
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.config import option

if TYPE_CHECKING:
    import numpy as np

NAME = "render"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg render --ct ct_folder --camera camera.json --pose pose.json --out drr.png\n\n"
    "$ fluoro-reg render --ct ct.nii.gz --camera camera.json --pose pose.json --out drr.npy --json"
)


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """Settings of `render`."""

    device: str = option("auto", "where to compute", choices=("cpu", "cuda", "auto"))
    seed: int = option(0, "taken as everywhere; a rendering has nothing random", minimum=0)
    black_percentile: float = option(1.0, "PNG: the line integral at this percentile is black", unit="%", minimum=0, maximum=99)
    white_percentile: float = option(
        99.9, "PNG: the line integral at this percentile is white", unit="%", minimum=1, maximum=100
    )
    gamma: float = option(
        1.0, "PNG: exponent of the grey between black and white; below 1 lifts soft tissue", minimum=0.1, maximum=10
    )


def command(
    ct: CTArguments,
    camera: Annotated[Path, typer.Option(metavar="C.json", help="camera.json: size in px, K in px.")],
    pose: Annotated[Path, typer.Option(metavar="P.json", help="pose.json: camera_from_patient, mm.")],
    out: Annotated[Path, typer.Option(metavar="F.png|F.npy", help="File to write: 8-bit picture or float32 line integrals.")],
    common: Common,
) -> int:
    """Render a digitally reconstructed radiograph (DRR) of a CT.

    F.npy holds the line integrals of attenuation (float32, rows x columns, no unit: 1/mm times mm). F.png shows them in 8 bits,
    bone bright, between the 1st (black) and the 99.9th percentile (white); settings: black_percentile, white_percentile, gamma.
    """
    from fluoro_reg.formats.cameras import read_camera
    from fluoro_reg.formats.poses import read_pose
    from fluoro_reg.rendering import make_renderer, project

    output = Output(common.json)
    options = common.settings(RenderOptions, {"device": common.device, "seed": common.seed})
    check_writable(out, (".png", ".npy"))
    intrinsics, camera_from_patient = read_camera(camera), read_pose(pose)
    volume = read_volume(ct, output)
    begin = time.perf_counter()
    integrals = project(make_renderer(volume, options.device), camera_from_patient, intrinsics).cpu().numpy()
    elapsed_s = time.perf_counter() - begin
    if not integrals.any():
        output.warn("no ray meets the CT: the image is black; check the pose (camera_from_patient, mm) and the camera")
    _write(integrals, out, options)
    answer = {
        "out": out.name,
        "width": intrinsics.width,
        "height": intrinsics.height,
        "maximum_line_integral": float(integrals.max()),
        "elapsed_s": elapsed_s,
        "ct_fingerprint": volume.fingerprint,
    }
    output.show(answer, table_of(answer))
    return ExitStatus.ACCEPTED


def _write(integrals: "np.ndarray", path: Path, options: RenderOptions) -> None:
    import numpy as np
    from PIL import Image

    if path.suffix.lower() == ".npy":
        write_file(path, lambda file: np.save(file, integrals.astype(np.float32)))
        return
    black, white = np.percentile(integrals, [options.black_percentile, options.white_percentile])
    grey = np.clip((integrals - black) / max(white - black, 1e-6), 0, 1) ** options.gamma
    write_file(path, Image.fromarray((255 * grey).round().astype(np.uint8)).save)
