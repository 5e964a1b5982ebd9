"""How to read a recording: the options that `replay` and `export-dataset recording` share."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluoro_reg.cli.input_arguments import INTENSITY_HELP, UNDISTORT_HELP, IntensityChoice

if TYPE_CHECKING:
    from fluoro_reg.formats.recordings import RecordingSource

RECORDING_PANEL = "Recording"


class CameraInfoChoiceName(str, enum.Enum):
    """Choices of `formats.bag_frames.CameraInfoChoice`, copied so that `--help` need not import it; a test compares them."""

    STAMP = "stamp"
    LATEST = "latest"


class CameraMatrixName(str, enum.Enum):
    """The values of `xray.camera_info.CameraMatrix`, copied so that `--help` need not import torch; a test compares them."""

    AUTO = "auto"
    K = "k"
    P = "p"


@dataclass(frozen=True, slots=True)
class RecordingArguments:
    """What a recording does not contain. Topics default to None because a cine has none."""

    image_topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="Bag: topic of the images (sensor_msgs/Image or CompressedImage). Default: /carm/image_raw.",
            rich_help_panel=RECORDING_PANEL,
        ),
    ] = None
    camera_info_topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="Bag: topic of sensor_msgs/CameraInfo, paired with images by equal stamps. Default: /carm/camera_info.",
            rich_help_panel=RECORDING_PANEL,
        ),
    ] = None
    camera: Annotated[
        Path | None,
        typer.Option(
            metavar="C.json",
            help="camera.json (px) of all frames, instead of the CameraInfo of a bag. Required for a cine unless its file has "
            "its geometry.",
            rich_help_panel=RECORDING_PANEL,
        ),
    ] = None
    camera_info: Annotated[
        CameraInfoChoiceName | None,
        typer.Option(
            metavar="WHICH",
            case_sensitive=False,
            help="Bag: which CameraInfo belongs to an image: stamp (that with its stamp) or latest (the last one recorded "
            "before it, such as a single or latched one; the first one for earlier images). Default: stamp.",
            rich_help_panel=RECORDING_PANEL,
        ),
    ] = None
    camera_matrix: Annotated[
        CameraMatrixName | None,
        typer.Option(
            metavar="MATRIX",
            case_sensitive=False,
            help="Bag: matrix of CameraInfo that holds for the pixels: k (raw image), p (rectified already, whatever D is), or "
            "auto (k, and images whose D is not zero or whose P differs from K are rejected). Default: auto.",
            rich_help_panel=RECORDING_PANEL,
        ),
    ] = None
    intensity: Annotated[
        IntensityChoice | None,
        typer.Option(
            metavar="KIND", case_sensitive=False, help=f"{INTENSITY_HELP} Default: auto.", rich_help_panel=RECORDING_PANEL
        ),
    ] = None
    undistort: Annotated[bool, typer.Option("--undistort", help=UNDISTORT_HELP, rich_help_panel=RECORDING_PANEL)] = False

    def read(self) -> "RecordingSource":
        """Return the arguments with the camera read."""
        from fluoro_reg.formats.bag_frames import CameraInfoChoice
        from fluoro_reg.formats.cameras import read_camera_of_image
        from fluoro_reg.formats.recordings import RecordingSource
        from fluoro_reg.xray.camera_info import CameraMatrix
        from fluoro_reg.xray.image import Intensity

        camera, distortion = read_camera_of_image(self.camera, self.undistort)
        intensity = Intensity.AUTO if self.intensity is None else Intensity(self.intensity.value)
        choice = CameraInfoChoice.STAMP if self.camera_info is None else CameraInfoChoice(self.camera_info.value)
        matrix = CameraMatrix.AUTO if self.camera_matrix is None else CameraMatrix(self.camera_matrix.value)
        return RecordingSource(
            self.image_topic, self.camera_info_topic, camera, intensity, distortion, choice, matrix, self.undistort
        )
