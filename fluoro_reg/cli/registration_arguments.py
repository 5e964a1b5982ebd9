"""The settings of a registration that have options of their own. All others are set with `--set`."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluoro_reg.cli.common_arguments import CommonArguments

if TYPE_CHECKING:
    from fluoro_reg.registration import RegistrationOptions

REGISTRATION_PANEL = "Registration"


class Roi(str, enum.Enum):
    """The choices of `RegistrationOptions.roi`, copied so that `--help` need not import torch; a test compares them."""

    AUTO = "auto"
    FULL = "full"
    MOVING_SUPPORT = "moving-support"
    BOX = "box"


@dataclass(frozen=True, slots=True)
class RegistrationArguments:
    """The most important settings. An option that is not given comes from --set, --config or the defaults."""

    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.yaml",
            help="Registration method: a name that 'fluoro-reg methods' lists, or the path of a YAML file. Default: "
            "lm-gradient-ncc.",
            rich_help_panel=REGISTRATION_PANEL,
        ),
    ] = None
    roi: Annotated[
        Roi | None,
        typer.Option(
            metavar="REGION",
            help="Image region where residuals are computed: full, moving-support (near the projected CT), box (around the "
            "projected CT), or auto (moving-support if the CT is mostly air, else full). Default: auto.",
            rich_help_panel=REGISTRATION_PANEL,
        ),
    ] = None
    saturation: Annotated[
        str | None,
        typer.Option(
            metavar="S|off|auto",
            help="S of the intensity model 1 - exp(-S L), where L is the line integral (no unit); auto turns it on if the CT "
            "contains metal. Default: auto.",
            rich_help_panel=REGISTRATION_PANEL,
        ),
    ] = None

    def settings(self, common: CommonArguments, weights: Mapping[str, Any] | None = None) -> "RegistrationOptions":
        """Return all settings of a registration.

        Args:
            common: The options with the other layers of settings.
            weights: Settings that name files of weights (see `InitialPoseArguments.weights`).
        """
        from fluoro_reg.registration import RegistrationOptions

        given = {"method": self.method, "roi": self.roi, "saturation": self.saturation, **(weights or {})}
        return common.settings(RegistrationOptions, {**given, "device": common.device, "seed": common.seed})
