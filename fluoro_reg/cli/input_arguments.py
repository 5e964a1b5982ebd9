"""Arguments that name a CT and X-rays, with the functions that read them."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluoro_reg.cli.output import Output
from fluoro_reg.cli.start_arguments import SearchArguments
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.ct.volume import CTVolume
    from fluoro_reg.registration import RegistrationOptions
    from fluoro_reg.xray.image import XrayImage
    from fluoro_reg.xray.view import CalibratedXray

CT_HELP = "CT: a folder or file of DICOM, or a NIfTI, NRRD or MHA file."
SERIES_HELP = (
    "DICOM series to read from a folder with several: its number in the list that the error message prints, or its "
    "SeriesInstanceUID."
)
INTENSITY_HELP = (
    "Meaning of the pixel values: transmitted (proportional to detected photons, bone dark), attenuation (line integrals up to "
    "scale and offset, bone bright), or auto (from the DICOM header, else estimated from the image)."
)
UNDISTORT_HELP = (
    "Undo the lens distortion that the camera states (d of camera.json, D of CameraInfo) in the pixels; needs OpenCV. Without "
    "this option, a distorted camera is refused."
)


class IntensityChoice(str, enum.Enum):
    """The values of `fluoro_reg.xray.image.Intensity`, copied so that `--help` need not import torch; a test compares them."""

    AUTO = "auto"
    TRANSMITTED = "transmitted"
    ATTENUATION = "attenuation"


@dataclass(frozen=True, slots=True)
class CTArguments:
    """The CT."""

    ct: Annotated[Path, typer.Option("--ct", metavar="CT", help=CT_HELP)]
    series: Annotated[str | None, typer.Option(metavar="S", help=SERIES_HELP)] = None
    ct_cache: Annotated[
        bool,
        typer.Option(
            "--ct-cache/--no-ct-cache",
            help="Keep the CT that was read in the user's cache folder, where it is found the next time; "
            "FLUORO_REG_CT_CACHE=off turns it off for good. Default: --ct-cache.",
            show_default=False,
        ),
    ] = True


@dataclass(frozen=True, slots=True)
class XrayArguments:
    """X-rays and their camera."""

    image: Annotated[
        list[Path],
        typer.Option(
            metavar="X",
            help="X-ray: DICOM (XA, RF, CR, DX), PNG, TIFF or .npy, or a folder of them; repeatable. Each of several is "
            "registered on its own.",
        ),
    ]
    camera: Annotated[
        Path | None,
        typer.Option(
            metavar="C.json",
            help="camera.json: image size and K in px. Required unless the X-ray is a DICOM file with its geometry.",
        ),
    ] = None
    intensity: Annotated[
        IntensityChoice,
        typer.Option(metavar="KIND", case_sensitive=False, help=f"{INTENSITY_HELP} Default: auto.", show_default=False),
    ] = IntensityChoice.AUTO
    frame: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Frame of a cine or page of a TIFF, counted from 0. Default: 0.", show_default=False
        ),
    ] = 0
    undistort: Annotated[bool, typer.Option("--undistort", help=UNDISTORT_HELP)] = False

    def files(self) -> list[Path]:
        """Return the files of all X-rays, in the order in which they are given and, of a folder, in name order.

        Raises:
            InputError: A folder has no X-ray.
        """
        from fluoro_reg.xray.folder import find_xrays

        return [file for path in self.image for file in (find_xrays(path) if path.is_dir() else [path])]

    @property
    def are_several(self) -> bool:
        """Whether each X-ray gets a line of output: there is more than one, or a folder."""
        return len(self.image) > 1 or self.image[0].is_dir()


@dataclass(frozen=True, slots=True)
class FurtherXrayArguments:
    """More X-rays of the same patient, who has not moved."""

    second_view: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="V.json",
            help="Another X-ray of the same, unmoved patient, registered together with --image; repeatable. V.json names its "
            "image, its camera, and camera_from_first (4 x 4, mm), the transform to its camera from the camera of --image.",
        ),
    ] = None

    def files(self, searched: SearchArguments) -> list[Path]:
        """Return the files of all further X-rays, also of those that are given with --view, as before version 0.3."""
        return [*(self.second_view or []), *searched.files()]


def read_volume(arguments: CTArguments, output: Output) -> "CTVolume":
    """Read the CT and pass its warnings to `output`."""
    from fluoro_reg.ct.cache import read_ct_cached
    from fluoro_reg.ct.reader import read_ct

    with output.status("reading the CT"):
        read = read_ct_cached if arguments.ct_cache else read_ct
        volume = read(arguments.ct, arguments.series)
    for sentence in volume.warnings:
        output.warn(sentence)
    return volume


def read_image(arguments: XrayArguments) -> "XrayImage":
    """Read the first X-ray with its camera."""
    from fluoro_reg.formats.cameras import read_camera_of_image
    from fluoro_reg.xray.image import Intensity
    from fluoro_reg.xray.reader import read_xray

    camera, distortion = read_camera_of_image(arguments.camera, arguments.undistort)
    return read_xray(arguments.image[0], camera, Intensity(arguments.intensity.value), arguments.frame, distortion)


def read_views(xray: XrayArguments, further: list[Path]) -> "list[CalibratedXray]":
    """Read all X-rays. The camera of the first one is the reference frame of the others."""
    from fluoro_reg.formats.views import read_view
    from fluoro_reg.geometry import RigidTransform
    from fluoro_reg.xray.view import CalibratedXray

    first = CalibratedXray(read_image(xray), RigidTransform.identity())
    return [first, *(read_view(path, xray.undistort) for path in further)]


def check_further_xrays(further: list[Path], registration: "RegistrationOptions") -> None:
    """Check that the settings can be used with several X-rays.

    Raises:
        InputError: There are several X-rays, and the initial pose would come from weights.
    """
    from fluoro_reg.registration.method import load_method

    if not further:
        return
    if registration.model:
        raise InputError(
            "weights predict the initial pose from a single X-ray; with --second-view leave --model out, and give "
            "--initial P.json or let the first X-ray be searched"
        )
    if "weights" in load_method(registration.method).needs:
        raise InputError(
            f"the method {registration.method} predicts the initial pose from a single X-ray; with --second-view choose "
            "another method"
        )
