"""Named methods are data: stages with their similarity and optimiser settings, one YAML file each in `config/methods/`."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fluoro_reg.config import from_mapping, load_yaml, option, section
from fluoro_reg.errors import InputError
from fluoro_reg.resources import config_folder
from fluoro_reg.similarity import RESIDUAL_SIMILARITIES, AbstractResidualSimilarity


@dataclass(frozen=True, slots=True)
class StageOptions:
    """One scale: Levenberg-Marquardt from every hypothesis still alive, then the best distinct `keep` go on."""

    object_px: int = option(
        64, "pixels across the CT's projection (or the image, if smaller) at this scale", minimum=8, maximum=4096
    )
    similarity: str = option(
        "gradient-ncc", "what is maximised; Levenberg-Marquardt needs residuals", choices=tuple(RESIDUAL_SIMILARITIES)
    )
    robust_scale: float = option(4.0, "Geman-McClure's c; a large number is plain least squares", minimum=1e-3, maximum=1e12)
    patch: int = option(16, "patch-ncc: side of a patch", unit="px", minimum=4, maximum=1024)
    iterations: int = option(20, "at most this many steps", minimum=1, maximum=1000)
    keep: int = option(1, "hypotheses that go on to the next stage", minimum=1, maximum=64)

    def build_similarity(self) -> AbstractResidualSimilarity:
        """The similarity with those of this stage's settings that it knows."""
        kind = RESIDUAL_SIMILARITIES[self.similarity]
        known = {setting.name for setting in fields(kind)} & {"robust_scale", "patch"}
        return kind(**{name: getattr(self, name) for name in known})


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The cheap search before the first stage: turned starts, each shifted in the plane to its best place by FFT."""

    object_px: int = option(32, "pixels across the CT's projection during the search", minimum=8, maximum=512)
    out_of_plane_deg: tuple[float, ...] = option((0.0, 10.0), "radii of the out-of-plane turns that are tried", unit="deg")
    in_plane_deg: tuple[float, ...] = option((-10.0, 0.0, 10.0), "in-plane turns that are tried", unit="deg")
    shift_mm: float = option(40.0, "largest shift in the plane", unit="mm", minimum=0.0, maximum=1000.0)
    keep: int = option(6, "hypotheses that go on to the first stage, besides the start itself", minimum=0, maximum=256)


@dataclass(frozen=True, slots=True)
class Method:
    """A named way from an image and a start to a pose."""

    name: str
    description: str
    needs: tuple[str, ...] = ("start",)
    devices: tuple[str, ...] = ("cpu", "cuda")
    search: SearchOptions = section(SearchOptions)
    stages: tuple[StageOptions, ...] = field(default=(StageOptions(),))

    def tracking_stages(self) -> tuple[StageOptions, ...]:
        """The last two stages with one hypothesis: coarse to fine even from a good start, since the finest alone gets lost."""
        return tuple(replace(stage, keep=1) for stage in self.stages[-2:])


def load_methods() -> dict[str, Method]:
    """All methods that are installed, by name."""
    return {path.stem: _read(path) for path in sorted((config_folder() / "methods").glob("*.yaml"))}


def load_method(name: str) -> Method:
    """One method.

    Raises:
        InputError: no such method; the sentence lists those there are.
    """
    methods = load_methods()
    if name not in methods:
        raise InputError(f"no method is called '{name}'; choose one of {', '.join(methods)}")
    return methods[name]


def _read(path: Path) -> Method:
    content: dict[str, Any] = load_yaml(path)
    rows, searched = content.pop("stages", None), content.pop("search", {})
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in (*rows, searched)):
        raise InputError(f"{path.name} needs 'stages', a list of one or more sections of settings; 'search' is one section")
    stages = tuple(from_mapping(StageOptions, row, f"{path.name}, stage {i}") for i, row in enumerate(rows))
    search = from_mapping(SearchOptions, searched, f"{path.name}, search")
    description, needs = str(content.pop("description", "")), tuple(content.pop("needs", ("start",)))
    if content:
        raise InputError(f"{path.name}: unknown key '{next(iter(content))}'; known here: description, needs, search, stages")
    return Method(path.stem, description, needs, search=search, stages=stages)
