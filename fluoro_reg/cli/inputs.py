"""What the subcommands read: a CT, an X-ray, further X-rays, a start; each a group of options and a function that reads it.

Small files are read before the CT, which takes seconds, so that a mistyped pose is refused at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluoro_reg.cli.options import IntensityChoice
from fluoro_reg.cli.output import Output
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.ct.volume import CTVolume
    from fluoro_reg.geometry import RigidTransform
    from fluoro_reg.registration import RegistrationOptions
    from fluoro_reg.xray.image import XrayImage
    from fluoro_reg.xray.view import CalibratedXray

SERIES_HELP = "Which DICOM series, when the folder holds several: its number in the list that the refusal prints, or its UID."
INTENSITY_HELP = (
    "What the pixels are: transmitted (proportional to detected photons, bone dark), attenuation (line integrals up to scale "
    "and offset, bone bright), or auto: as the DICOM says, else judged from the image."
)


SIMILARITY_HELP = (
    "Weights by 'train similarity' for this CT or several, for methods that follow one; repeatable, one of each kind."
)


@dataclass(frozen=True, slots=True)
class CTArguments:
    """Which CT."""

    ct: Annotated[Path, typer.Option(metavar="CT", help="CT: a folder or file of DICOM, or a NIfTI, NRRD or MHA file.")]
    series: Annotated[str | None, typer.Option(metavar="S", help=SERIES_HELP)] = None


@dataclass(frozen=True, slots=True)
class XrayArguments:
    """Which X-ray, taken by which camera."""

    image: Annotated[Path, typer.Option(metavar="X", help="X-ray: DICOM (XA, RF, CR, DX), PNG, TIFF or .npy.")]
    camera: Annotated[
        Path | None,
        typer.Option(
            metavar="C.json", help="camera.json: size in px, K in px. Needed unless the X-ray's DICOM has its geometry."
        ),
    ] = None
    intensity: Annotated[IntensityChoice, typer.Option(metavar="KIND", case_sensitive=False, help=INTENSITY_HELP)] = (
        IntensityChoice.AUTO
    )
    frame: Annotated[int, typer.Option(min=0, metavar="N", help="Frame of a cine or page of a TIFF, from 0.")] = 0


@dataclass(frozen=True, slots=True)
class FurtherXrayArguments:
    """Which other X-rays of the same patient, who has not moved."""

    view: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="V.json",
            help="A further X-ray of the same, unmoved patient, to be registered together with --image; repeatable. V.json "
            "names its image and camera, and says by camera_from_first (4 x 4, mm) where its camera stood to that of --image, "
            "in which the pose is given.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class InitialPoseArguments:
    """Where to begin."""

    initial: Annotated[
        Path | None,
        typer.Option(metavar="P.json", help="pose.json to start from: camera_from_patient, mm; 25 mm off is near enough."),
    ] = None
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="W.safetensors",
            help="Weights that 'train regressor' made for this CT: they find the start, so that --initial may be left out.",
        ),
    ] = None
    similarity: Annotated[list[Path] | None, typer.Option(metavar="W.safetensors", help=SIMILARITY_HELP)] = None

    def weights(self) -> dict[str, Any]:
        """The files that are named, as settings of a registration."""
        model = None if self.model is None else str(self.model)
        return {"model": model, "learned": learned_weights(self.similarity)}


def learned_weights(paths: list[Path] | None) -> dict[str, str] | None:
    """Files of weights by the similarity that they are of.

    Raises:
        InputError: a file that is none, or two of one kind.
    """
    from fluoro_reg.learned import similarity_kind

    found: dict[str, str] = {}
    for path in paths or []:
        kind = similarity_kind(path)
        if kind in found:
            raise InputError(f"{Path(found[kind]).name} and {path.name} are both weights of {kind}; give one of them")
        found[kind] = str(path)
    return found or None


def read_volume(options: CTArguments, output: Output) -> "CTVolume":
    """The CT; its reader's warnings go to standard error."""
    from fluoro_reg.ct.reader import read_ct

    with output.doing("reading the CT"):
        volume = read_ct(options.ct, options.series)
    for sentence in volume.warnings:
        output.warn(sentence)
    return volume


def read_image(options: XrayArguments) -> "XrayImage":
    """The X-ray with its camera."""
    from fluoro_reg.formats.cameras import read_camera
    from fluoro_reg.xray.image import Intensity
    from fluoro_reg.xray.reader import read_xray

    camera = None if options.camera is None else read_camera(options.camera)
    return read_xray(options.image, camera, Intensity(options.intensity.value), options.frame)


def read_views(xray: XrayArguments, further: FurtherXrayArguments) -> "list[CalibratedXray]":
    """The X-ray, whose camera is the reference, and the further ones."""
    from fluoro_reg.formats.views import read_view
    from fluoro_reg.geometry import RigidTransform
    from fluoro_reg.xray.view import CalibratedXray

    first = CalibratedXray(read_image(xray), RigidTransform.identity())
    return [first, *(read_view(path) for path in further.view or [])]


def check_together(further: FurtherXrayArguments, registration: "RegistrationOptions") -> None:
    """Refuses, for several X-rays, what would not be used."""
    from fluoro_reg.registration.method import load_method

    if not further.view:
        return
    if registration.model:
        raise InputError("weights find the start of a single X-ray; with --view leave --model out and give --initial P.json")
    if "weights" in load_method(registration.method).needs:
        raise InputError(
            f"the method {registration.method} finds the start of a single X-ray by weights; with --view choose another method "
            "and give --initial P.json"
        )


def read_initial_pose(options: InitialPoseArguments, registration: "RegistrationOptions") -> "RigidTransform | None":
    """The given start; None where weights will find one. That the weights can be read is found out here, before the CT is."""
    from fluoro_reg.config import to_mapping
    from fluoro_reg.formats.poses import read_pose
    from fluoro_reg.learned import check_similarity
    from fluoro_reg.registration.method import load_method, missing_weights
    from fluoro_reg.regressor.checkpoint import check_weights

    method = load_method(registration.method)
    if (sentence := missing_weights(method, registration.model, to_mapping(registration.learned))) is not None:
        raise InputError(sentence)
    for kind in method.learned:
        check_similarity(getattr(registration.learned, kind), kind)
    if registration.model:
        check_weights(registration.model)
    elif options.initial is None:
        raise InputError(
            f"the method {registration.method} needs a start pose; give one by --initial P.json, or weights that find one by "
            "--model W.safetensors"
        )
    return None if options.initial is None else read_pose(options.initial)
