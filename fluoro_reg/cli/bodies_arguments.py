"""Arguments that name the bodies of a patient, with the function that reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluoro_reg.cli.output import Output
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.ct.label_map import LabelMap
    from fluoro_reg.ct.volume import CTVolume
    from fluoro_reg.formats.bodies import BodiesConfig

BODIES_PANEL = "Bones that move on their own"


@dataclass(frozen=True, slots=True)
class BodiesArguments:
    """The bodies, and the segmentation that shows where they are."""

    bodies: Annotated[
        Path | None,
        typer.Option(
            metavar="B.yaml",
            help="bodies.yaml: the bones that move on their own, what they are made of, and their joints.",
            rich_help_panel=BODIES_PANEL,
        ),
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="SEG",
            help="Segmentation of the CT with the labels of --bodies, on any grid: NIfTI, NRRD, MHA or DICOM SEG.",
            rich_help_panel=BODIES_PANEL,
        ),
    ] = None

    def config(self) -> "BodiesConfig | None":
        """Read bodies.yaml, and check that the segmentation is given where it is needed; None without --bodies.

        Raises:
            InputError: The file is not one, or the segmentation is missing or not used.
        """
        from fluoro_reg.formats.bodies import read_bodies

        if self.bodies is None:
            if self.labels is not None:
                raise InputError("--labels belongs to --bodies, which says what the labels are; give both")
            return None
        config = read_bodies(self.bodies)
        if config.moves_labels and self.labels is None:
            raise InputError(f"{self.bodies.name} makes bodies of labels; give the segmentation with --labels SEG")
        return config

    def read(self, config: "BodiesConfig", output: Output) -> "tuple[LabelMap | None, dict[str, CTVolume]]":
        """Read the segmentation and the CTs of the bodies that have their own; warnings go to `output`."""
        from fluoro_reg.ct.label_map import read_label_map
        from fluoro_reg.ct.reader import read_ct

        with output.status("reading the bodies"):
            labels = None if self.labels is None else read_label_map(self.labels)
            volumes = {name: read_ct(body.ct) for name, body in config.bodies.items() if body.ct}
        for name, volume in volumes.items():
            for sentence in volume.warnings:
                output.warn(f"{name}: {sentence}")
        return labels, volumes
