"""How to register: the few settings of a registration that have options of their own; all others go by `--set`."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluoro_reg.cli.options import Common

if TYPE_CHECKING:
    from fluoro_reg.registration import RegistrationOptions


class Roi(str, enum.Enum):
    """The choices of `RegistrationOptions.roi`, here without torch so that `--help` stays quick; a test compares them."""

    AUTO = "auto"
    FULL = "full"
    MOVING_SUPPORT = "moving-support"
    BOX = "box"


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """The settings that matter most; not typed, they come from --set, --config or the defaults."""

    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Named method; 'fluoro-reg methods' lists them. Default: lm-gradient-ncc."),
    ] = None
    roi: Annotated[
        Roi | None,
        typer.Option(
            help="Where residuals are taken: the full image, near the projected CT (moving-support), or its box; auto: "
            "moving-support when the CT is mostly air, else full. Default: auto."
        ),
    ] = None
    saturation: Annotated[
        str | None,
        typer.Option(
            metavar="S|off|auto",
            help="S of the intensity model 1 - exp(-S L), L the line integral (no unit); auto: on for metal. Default: auto.",
        ),
    ] = None

    def settings(self, common: Common, weights: Mapping[str, Any] | None = None) -> "RegistrationOptions":
        """All settings of a registration, layered; `weights` are the files that are named by options of their own."""
        from fluoro_reg.registration import RegistrationOptions

        typed = {"method": self.method, "roi": self.roi, "saturation": self.saturation, **(weights or {})}
        return common.settings(RegistrationOptions, {**typed, "device": common.device, "seed": common.seed})
