"""How to read a recording: the options that `replay` and `export-dataset recording` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluoro_reg.cli.input_arguments import INTENSITY_HELP, UNDISTORT_HELP, IntensityChoice

if TYPE_CHECKING:
    from fluoro_reg.formats.recordings import RecordingSource

RECORDING_PANEL = "Recording"


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
            help="Cine: camera.json (px). Required unless the DICOM file has its geometry.",
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
        from fluoro_reg.formats.cameras import read_camera_of_image
        from fluoro_reg.formats.recordings import RecordingSource
        from fluoro_reg.xray.image import Intensity

        camera, distortion = read_camera_of_image(self.camera, self.undistort)
        intensity = Intensity.AUTO if self.intensity is None else Intensity(self.intensity.value)
        return RecordingSource(
            self.image_topic, self.camera_info_topic, camera, intensity, distortion=distortion, undistort=self.undistort
        )
