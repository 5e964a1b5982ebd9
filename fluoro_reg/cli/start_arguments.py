"""Arguments that say where a registration begins: an initial pose, weights, or a range of views to search.

Subcommands read or check these files before the CT, which takes seconds, so that a mistyped pose is reported at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.geometry import RigidTransform
    from fluoro_reg.registration import RegistrationOptions

INITIAL_POSE_PANEL = "Initial pose and weights"
SIMILARITY_HELP = (
    "Weights from 'train similarity', for this CT or for several, for methods with a learned similarity; repeatable, one file "
    "of each kind."
)


@dataclass(frozen=True, slots=True)
class SearchArguments:
    """The views that are searched where there is neither an initial pose nor weights."""

    view: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Views to search where neither --initial nor --model is given: ap, pa, ap-pa, lateral-left, lateral-right, "
            "around or any. Default: ap-pa.",
            rich_help_panel=INITIAL_POSE_PANEL,
        ),
    ] = None
    range: Annotated[
        Path | None,
        typer.Option(
            metavar="C.yaml",
            help="carm.yaml with the range of views to search (mm, deg), instead of --view.",
            rich_help_panel=INITIAL_POSE_PANEL,
        ),
    ] = None

    def files(self) -> list[Path]:
        """Return the values of --view that are files, each of which describes a further X-ray."""
        return [Path(value) for value in self.view or [] if Path(value).suffix]

    def settings(self) -> dict[str, Any] | None:
        """Return the range to search as settings of a registration; None if none is given.

        Raises:
            InputError: There are several ranges, or there is no such range.
        """
        from fluoro_reg.carm.range import load_range

        names = [value for value in self.view or [] if not Path(value).suffix]
        given = [*names, *([] if self.range is None else [str(self.range)])]
        if len(given) > 1:
            raise InputError(f"only one range of views can be searched, got {', '.join(given)}; give --view or --range once")
        if not given:
            return None
        load_range(given[0])
        return {"view": names[0]} if names else {"range": given[0]}


@dataclass(frozen=True, slots=True)
class InitialPoseArguments:
    """The initial pose, or weights that predict it, and the weights of learned similarities."""

    initial: Annotated[
        Path | None,
        typer.Option(
            metavar="P.json",
            help="Initial pose, a pose.json (camera_from_patient, mm). An error of up to about 25 mm is fine. Without one, a "
            "range of views is searched.",
            rich_help_panel=INITIAL_POSE_PANEL,
        ),
    ] = None
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="W.safetensors",
            help="Weights from 'train regressor' for this CT. They predict the initial pose, so that --initial is optional.",
            rich_help_panel=INITIAL_POSE_PANEL,
        ),
    ] = None
    similarity: Annotated[
        list[Path] | None,
        typer.Option(metavar="W.safetensors", help=SIMILARITY_HELP, rich_help_panel=INITIAL_POSE_PANEL),
    ] = None

    def weights(self) -> dict[str, Any]:
        """Return the given weights as settings of a registration."""
        model = None if self.model is None else str(self.model)
        return {"model": model, "learned": weights_by_similarity(self.similarity)}


def weights_by_similarity(paths: list[Path] | None) -> dict[str, str] | None:
    """Return files of weights by the name of their similarity, or None if there are none.

    Raises:
        InputError: A file does not hold weights of a similarity, or two files hold weights of the same one.
    """
    from fluoro_reg.learned import similarity_kind

    found: dict[str, str] = {}
    for path in paths or []:
        kind = similarity_kind(path)
        if kind in found:
            raise InputError(f"{Path(found[kind]).name} and {path.name} are both weights of {kind}; give one of them")
        found[kind] = str(path)
    return found or None


def read_initial_pose(arguments: InitialPoseArguments, registration: "RegistrationOptions") -> "RigidTransform | None":
    """Read the initial pose, and check the weights before the CT is read.

    Returns:
        camera_from_patient in mm, or None if `--initial` is not given.

    Raises:
        InputError: The initial pose is unusable, or weights that the method needs are missing or unusable.
    """
    from fluoro_reg.config import to_mapping
    from fluoro_reg.formats.poses import read_pose
    from fluoro_reg.learned import check_similarity
    from fluoro_reg.registration.method import load_method, missing_weights
    from fluoro_reg.regressor.checkpoint import check_regressor

    method = load_method(registration.method)
    if (sentence := missing_weights(method, registration.model, to_mapping(registration.learned))) is not None:
        raise InputError(sentence)
    for kind in method.learned:
        check_similarity(getattr(registration.learned, kind), kind)
    if registration.model:
        check_regressor(registration.model)
    return None if arguments.initial is None else read_pose(arguments.initial)
