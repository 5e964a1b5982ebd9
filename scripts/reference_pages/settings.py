"""The pages of settings, node parameters and methods: every option of every class of settings."""

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any

import yaml

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.cli.render import RenderSettings
from fluoro_reg.config import OptionInfo, walk_options
from fluoro_reg.demo.scene import DemoOptions
from fluoro_reg.evaluation.datasets.deepfluoro import DeepFluoroOptions
from fluoro_reg.evaluation.datasets.export import InitialPoseOptions
from fluoro_reg.evaluation.datasets.ljubljana import LjubljanaOptions
from fluoro_reg.registration.method import STAGE_OPTIMISERS, PredictionOptions, SearchOptions, StageOptions
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.resources import config_folder
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.similarity import SIMILARITIES
from fluoro_reg.simulation.bags import BagOptions
from fluoro_reg.simulation.cases import CaseOptions
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.similarity import SimilarityTrainingOptions
from reference_pages.text import table

# A title, where the settings are used, and the class that defines them.
SETTINGS: list[tuple[str, str, type]] = [
    ("Registration", "`register`, `replay` and `evaluate`, and the node", RegistrationOptions),
    ("Rendering", "`render`", RenderSettings),
    ("Simulated cases", "`simulate`", CaseOptions),
    ("Simulated recordings", "`simulate --bag`, and `demo` below `recording.`", BagOptions),
    ("Training of a regressor", "`train regressor`", TrainingOptions),
    ("Training of a similarity", "`train similarity`", SimilarityTrainingOptions),
    ("DeepFluoro", "`export-dataset deepfluoro`", DeepFluoroOptions),
    ("Ljubljana", "`export-dataset ljubljana`", LjubljanaOptions),
    ("Recordings", "`export-dataset recording`", InitialPoseOptions),
    ("Demo", "`demo`", DemoOptions),
    ("Range of views", "`carm.yaml`, the file of `--range`", CarmRange),
]


def settings_page() -> str:
    """Every setting of every subcommand."""
    parts = [
        "# Settings\n\nSettings are given by `--set KEY=VALUE` or in the YAML file of `--config`, where a dotted name may also "
        "be nested. Options that have a name of their own on the [command line](command-line.md) override `--set`, and `--set` "
        "overrides `--config`. An unknown key, a wrong type or a value out of bounds is refused. Bounds are inclusive.\n"
    ]
    for title, used, cls in SETTINGS:
        parts.append(f"## {title}\n\nUsed by {used}.\n\n{options_table(cls)}")
    return "\n".join(parts)


def node_parameters_page() -> str:
    """Every parameter of the node."""
    return "\n".join(
        [
            "# Node parameters\n\nThe parameters of `registration_node`. They are read when the node is configured; a name "
            "that is not listed here makes that transition fail, and so does a value out of bounds. "
            "[`config/registration.yaml`](../getting-started/ros.md#parameters) lists them as a file to copy from.\n",
            f"## The node\n\n{options_table(NodeOptions)}",
            "## The registration\n\nThese are the [settings](settings.md#registration) of `fluoro-reg register`.\n\n"
            f"{options_table(RegistrationOptions)}",
        ]
    )


def methods_page() -> str:
    """Every installed method with its file, and what a file of one's own may contain."""
    parts = [
        "# Methods\n\n[Concepts: methods](../concepts/methods.md) explains how they work and compares them. Every method is a "
        "YAML file in `config/methods/`; its comments say where its numbers come from.\n"
    ]
    for path in sorted((config_folder() / "methods").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        needs = ", ".join(f"`{need}`" for need in content["needs"])
        body = "\n".join(line for line in text.splitlines() if not line.startswith("description:"))
        parts.append(f"## {path.stem}\n\n{content['description']}. Needs: {needs}.\n\n```yaml\n{body}\n```\n")
    parts.append(
        "## Keys of a method file\n\n`description`, `needs`, `search`, `prediction` and `stages`, a list. A stage holds "
        "`similarity` and `optimiser`, each a name or a section with `name` and settings, and:\n"
    )
    stage = (info for info in walk_options(StageOptions) if info.name not in ("similarity", "optimiser"))
    parts.append(_options_rows(stage))
    for title, cls in (("search", SearchOptions), ("prediction", PredictionOptions)):
        parts.append(f"### {title}\n\n{options_table(cls)}")
    for title, entries in (("Optimisers", STAGE_OPTIMISERS), ("Similarities", SIMILARITIES)):
        parts.append(f"## {title}\n")
        for name, cls in entries.items():
            parts.append(f"### {name}\n\n{_first_line(cls)}\n\n{options_table(cls)}")
    return "\n".join(parts)


def options_table(cls: type) -> str:
    """The options of a configuration class as a Markdown table."""
    return _options_rows(walk_options(cls))


def _options_rows(options: Iterable[OptionInfo]) -> str:
    rows = ((f"`{o.name}`", f"`{_yaml(o.default)}`" if o.default not in (None, "") else "", _meaning(o)) for o in options)
    return table(("setting", "default", "meaning"), rows)


def _meaning(info: OptionInfo) -> str:
    allowed = [info.unit] if info.unit else []
    if info.choices:
        allowed.append(" or ".join(f"`{choice}`" for choice in info.choices))
    if info.minimum is not None or info.maximum is not None:
        low, high = ("" if bound is None else f"{bound:.10g}" for bound in (info.minimum, info.maximum))
        allowed.append(f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}")
    return f"{info.doc} [{'; '.join(allowed)}]" if allowed else info.doc


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return str(value)


def _first_line(cls: type) -> str:
    if dataclasses.is_dataclass(cls) and (cls.__doc__ or "").startswith(f"{cls.__name__}("):
        return ""  # dataclass writes its signature where there is no docstring
    return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
