"""Registration methods, read from YAML files that list the stages, each with its similarity and optimiser.

The files of the named methods are in `config/methods/`. Similarities and optimisers are looked up in their tables, and their
settings are the fields of those classes, so this module contains none of their defaults or bounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fluoro_reg.config import from_mapping, load_yaml, option, section
from fluoro_reg.errors import InputError
from fluoro_reg.learned import LEARNED_SIMILARITIES
from fluoro_reg.optimisers import OPTIMISERS, AbstractOptimiser, LevenbergMarquardt
from fluoro_reg.optimisers.problem import TwistComponents
from fluoro_reg.resources import config_folder
from fluoro_reg.similarity import RESIDUAL_SIMILARITIES, SIMILARITIES, AbstractSimilarity, GradientNCC

Optimiser = LevenbergMarquardt | AbstractOptimiser[Any]
STAGE_OPTIMISERS: dict[str, type[Optimiser]] = {**OPTIMISERS, "lm": LevenbergMarquardt}
_SUFFIXES = (".yaml", ".yml")
NEEDS = ("start", "weights", "similarity")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Learned:
    """A similarity by its name in `LEARNED_SIMILARITIES`; its weights define the rest."""

    kind: str


@dataclass(frozen=True, slots=True)
class SparsePatches:
    """Patches around the edges of the projected CT, compared one by one, instead of the whole image."""

    count: int = option(0, "number of patches, sampled once per stage; 0 takes the whole image", minimum=0, maximum=100_000)
    side: int = option(13, "side of a patch", unit="px", minimum=4, maximum=4096)


@dataclass(frozen=True, slots=True)
class Restraint:
    """A Gaussian around the starting pose of a stage, whose negative logarithm is added to the cost of the image."""

    weight: float = option(0.0, "weight of the Gaussian; the rest is the weight of the image", minimum=0.0, maximum=0.99)
    sigma: TwistComponents = option(
        (30.0, 30.0, 150.0, 0.26, 0.26, 0.17), "standard deviations: three in mm, three in rad", minimum=1e-9
    )


@dataclass(frozen=True, slots=True)
class StageOptions:
    """One stage: the optimiser starts from every remaining hypothesis, and the best distinct `keep` remain afterwards.

    A learned similarity has a scale of its own and ignores `object_px`.
    """

    object_px: int = option(
        64, "pixels across the CT's projection (or the image, if smaller) at this scale", minimum=8, maximum=4096
    )
    similarity: AbstractSimilarity | Learned = field(default_factory=GradientNCC)
    optimiser: Optimiser = field(default_factory=LevenbergMarquardt)
    sparse: SparsePatches = section(SparsePatches)
    restraint: Restraint = section(Restraint)
    keep: int = option(1, "hypotheses that remain for the next stage", minimum=1, maximum=64)

    def problem(self) -> str | None:
        """What is wrong with the combination, or None."""
        by_residuals, learned = isinstance(self.optimiser, LevenbergMarquardt), isinstance(self.similarity, Learned)
        if by_residuals and not isinstance(self.similarity, (Learned, *RESIDUAL_SIMILARITIES.values())):
            return f"lm needs a similarity with residuals, one of {', '.join((*RESIDUAL_SIMILARITIES, *LEARNED_SIMILARITIES))}"
        if (by_residuals or learned) and (self.sparse.count or self.restraint.weight):
            return "'sparse' and 'restraint' cannot be used with lm or learned similarities; leave them out"
        return None


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The coarse search before the first stage: rotated initial poses, each shifted in the plane to its best fit."""

    object_px: int = option(32, "pixels across the CT's projection during the search", minimum=8, maximum=512)
    out_of_plane_deg: tuple[float, ...] = option(
        (0.0, 10.0), "magnitudes of the out-of-plane rotations that are tried", unit="deg"
    )
    in_plane_deg: tuple[float, ...] = option((-10.0, 0.0, 10.0), "in-plane rotations that are tried", unit="deg")
    shift_mm: float = option(40.0, "largest in-plane shift", unit="mm", minimum=0.0, maximum=1000.0)
    keep: int = option(6, "hypotheses that remain for the first stage, besides the initial pose itself", minimum=0, maximum=256)
    range: str = option(
        "", "views that are searched besides the initial pose: a name such as ap-pa, or a carm.yaml; empty: only without a pose"
    )


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """The poses to try besides the one that a regressor predicts, if there is a regressor."""

    spread: float = option(
        0.0, "also poses this many predicted standard deviations to either side; 0: none", minimum=0.0, maximum=5.0
    )
    opposite_view: bool = option(False, "also the pose that it predicts if the X-ray is an opposite view (PA for AP)")


@dataclass(frozen=True, slots=True)
class Method:
    """How a pose is found from an image and an initial pose.

    Raises:
        InputError: There are no stages, or a stage combines incompatible settings.

    Attributes:
        name: The name, or the stem of the file.
        description: One line.
        needs: What the user must give, of `NEEDS`: an initial pose, weights of a regressor, weights of a similarity.
        devices: The devices that it runs on.
        search: The coarse search before the first stage.
        prediction: How a regressor's prediction is used.
        stages: One or more stages, from coarse to fine.
    """

    name: str
    description: str
    needs: tuple[str, ...] = ("start",)
    devices: tuple[str, ...] = ("cpu", "cuda")
    search: SearchOptions = section(SearchOptions)
    prediction: PredictionOptions = section(PredictionOptions)
    stages: tuple[StageOptions, ...] = field(default=(StageOptions(),))

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError(f"the method {self.name} has no stages; give it one or more")
        for number, stage in enumerate(self.stages):
            if (problem := stage.problem()) is not None:
                raise InputError(f"the method {self.name}, stage {number}: {problem}")

    @property
    def learned(self) -> tuple[str, ...]:
        """The learned similarities that the stages use, each once."""
        return learned_similarities(self.stages)

    def tracking_stages(self) -> tuple[StageOptions, ...]:
        """The last two stages with one hypothesis. The finest stage alone would lose track, even from a good initial pose."""
        return tuple(replace(stage, keep=1) for stage in self.stages[-2:])


def learned_similarities(stages: Sequence[StageOptions]) -> tuple[str, ...]:
    """The learned similarities that the stages use, without duplicates."""
    return tuple(dict.fromkeys(stage.similarity.kind for stage in stages if isinstance(stage.similarity, Learned)))


def load_methods() -> dict[str, Method]:
    """All installed methods by name."""
    return {name: _read(path) for name, path in _installed().items()}


def load_method(method: Method | Path | str) -> Method:
    """The method with a name, or from the path of a YAML file; a `Method` is returned unchanged.

    Raises:
        InputError: There is no such method (the message lists the known ones), or the file is not a method.

    Example:
        >>> tuple(stage.object_px for stage in load_method("lm-gradient-ncc").stages)
        (32, 64, 128)
    """
    if isinstance(method, Method):
        return method
    installed = _installed()
    if Path(method).suffix in _SUFFIXES:
        if Path(method).stem in installed:
            raise InputError(f"{Path(method).name} has the name of an installed method; give the file another name")
        return _read(Path(method))
    if str(method) not in installed:
        known = ", ".join(installed)
        raise InputError(f"there is no method '{method}'; choose one of {known}, or give the path of a YAML file")
    return _read(installed[str(method)])


def missing_weights(method: Method, model: object, learned: Mapping[str, object]) -> str | None:
    """The sentence that says which weights a method lacks and how to get them, or None.

    Args:
        method: The method.
        model: A regressor or its weights file; empty or None if there is none.
        learned: Learned similarities or their weights files, by the names in `LEARNED_SIMILARITIES`.
    """
    if "weights" in method.needs and not model:
        made = "'fluoro-reg train regressor' makes them"
        return f"the method {method.name} needs weights; give them with --model W.safetensors (setting model); {made}"
    for kind in method.learned:
        if not learned.get(kind):
            made = f"'fluoro-reg train similarity --kind {kind}' makes them"
            needed = f"the method {method.name} needs weights of the similarity {kind}"
            return f"{needed}; give them with --similarity W.safetensors (setting learned.{kind}); {made}"
    return None


def _installed() -> dict[str, Path]:
    """The files of the installed methods by name, in the order of the names."""
    return {path.stem: path for path in sorted((config_folder() / "methods").glob("*.yaml"))}


def _read(path: Path) -> Method:
    content: dict[str, Any] = load_yaml(path)
    rows, searched, predicted = content.pop("stages", None), content.pop("search", {}), content.pop("prediction", {})
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in (*rows, searched, predicted)):
        raise InputError(
            f"{path.name} needs 'stages', a list of one or more sections; 'search' and 'prediction' are single sections"
        )
    stages = tuple(_stage(row, f"{path.name}, stage {i}") for i, row in enumerate(rows))
    search = from_mapping(SearchOptions, searched, f"{path.name}, search")
    prediction = from_mapping(PredictionOptions, predicted, f"{path.name}, prediction")
    description, needs = str(content.pop("description", "")), content.pop("needs", ["start"])
    if not isinstance(needs, list) or not all(need in NEEDS for need in needs):
        raise InputError(f"{path.name}: 'needs' must be a list of {', '.join(NEEDS)}, such as [start]")
    needs = tuple(needs)
    needs += ("similarity",) if learned_similarities(stages) and "similarity" not in needs else ()
    if content:
        known = "description, needs, search, prediction, stages"
        raise InputError(f"{path.name}: unknown key '{next(iter(content))}'; known keys: {known}")
    return Method(path.stem, description, needs, search=search, prediction=prediction, stages=stages)


def _stage(row: Mapping[str, Any], where: str) -> StageOptions:
    plain = {key: value for key, value in row.items() if key not in ("similarity", "optimiser")}
    similarity = _similarity(row.get("similarity", "gradient-ncc"), f"{where}: 'similarity'")
    optimiser = _entry(STAGE_OPTIMISERS, row.get("optimiser", "lm"), f"{where}: 'optimiser'")
    stage = replace(from_mapping(StageOptions, plain, where), similarity=similarity, optimiser=optimiser)
    if (problem := stage.problem()) is not None:
        raise InputError(f"{where}: {problem}")
    return stage


def _similarity(given: Any, where: str) -> AbstractSimilarity | Learned:
    """An entry of `SIMILARITIES`, or a learned similarity, whose settings are in its weights."""
    if given in [*LEARNED_SIMILARITIES, *({"name": name} for name in LEARNED_SIMILARITIES)]:
        return Learned(given["name"] if isinstance(given, Mapping) else given)
    return _entry(SIMILARITIES, given, where, tuple(LEARNED_SIMILARITIES))


def _entry(table: Mapping[str, type[T]], given: Any, where: str, others: tuple[str, ...] = ()) -> T:
    """The entry that a section names, with the section's other settings; a name alone means the defaults."""
    settings = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in table:
        raise InputError(f"{where} must be one of {', '.join((*table, *others))}, got {name!r}")
    return from_mapping(table[name], settings, where)
