"""How a recording is to be read: the options that `replay` and `export-dataset recording` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluoro_reg.cli.inputs import INTENSITY_HELP
from fluoro_reg.cli.options import IntensityChoice

if TYPE_CHECKING:
    from fluoro_reg.formats.recordings import Source


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a recording does not say of itself. Topics are None where not typed, since a cine has none."""

    image_topic: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="Of a bag: sensor_msgs/Image or CompressedImage. Default: /carm/image_raw."),
    ] = None
    camera_info_topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="Of a bag: sensor_msgs/CameraInfo; belongs to the image of its very stamp. Default: /carm/camera_info.",
        ),
    ] = None
    camera: Annotated[
        Path | None,
        typer.Option(metavar="C.json", help="Of a cine: camera.json, in px. Needed unless the DICOM has its geometry."),
    ] = None
    intensity: Annotated[
        IntensityChoice | None,
        typer.Option(metavar="KIND", case_sensitive=False, help=f"{INTENSITY_HELP} Default: auto."),
    ] = None

    def read(self) -> "Source":
        """With the camera read."""
        from fluoro_reg.formats.cameras import read_camera
        from fluoro_reg.formats.recordings import Source
        from fluoro_reg.xray.image import Intensity

        camera = None if self.camera is None else read_camera(self.camera)
        intensity = Intensity.AUTO if self.intensity is None else Intensity(self.intensity.value)
        return Source(self.image_topic, self.camera_info_topic, camera, intensity)
