"""The reference has an entry for everything there is, and the pages keep their form."""

import re
from pathlib import Path

import yaml
from helpers.documentation import BLOCK, ROOT, generated_pages, page, written_pages
from reference_pages.settings import SETTINGS

import fluoro_reg
from fluoro_reg.config import walk_options
from fluoro_reg.registration import GateOptions, Outcome, RegistrationOptions
from fluoro_reg.ros.options import NodeOptions


def test_every_settings_class_of_the_command_line_is_documented() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fluoro_reg" / "cli").glob("*.py"))
    used = set(re.findall(r"\bsettings\((\w+Options)\b", sources)) | set(re.findall(r"settings\((\w+Options),", sources))
    assert len(used) >= 8
    assert used <= {cls.__name__ for _, _, cls in SETTINGS}


def test_every_setting_and_parameter_has_a_row_with_a_description() -> None:
    settings, parameters = page("reference/settings.md"), page("reference/node-parameters.md")
    for _, _, cls in SETTINGS:
        for info in walk_options(cls):
            assert re.search(rf"^\| `{re.escape(info.name)}` \| .* \| \S.* \|$", settings, re.MULTILINE), info.name
    for cls in (NodeOptions, RegistrationOptions):
        assert [info.name for info in walk_options(cls) if f"| `{info.name}` |" not in parameters] == []


def test_every_package_and_every_public_name_has_its_entry() -> None:
    packages = {path.parent.name for path in (ROOT / "fluoro_reg").glob("*/__init__.py")}
    assert {Path(name).stem for name in generated_pages() if name.startswith("reference/python/")} == packages | {"index"}
    entries = set(re.findall(r'heading: "fluoro_reg\.(\w+)"', page("reference/python/index.md")))
    assert entries == set(fluoro_reg.__all__) - {"__version__"}
    architecture = page("development/architecture.md")
    assert [name for name in sorted(packages) if f"| `{name}/` |" not in architecture] == []


def test_every_gate_and_outcome_is_explained_on_the_page_of_rejections() -> None:
    text = page("how-to/rejections.md")
    assert [info.name for info in walk_options(GateOptions) if f"`gate.{info.name}`" not in text] == []
    assert [outcome.value for outcome in Outcome if f"| `{outcome.value}` |" not in text] == []


def test_files_that_architecture_names_exist() -> None:
    text = page("development/architecture.md")
    named = set(re.findall(r"`([a-z_]+/[\w/]*(?:\.py)?)`", text))
    assert len(named) > 30
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "fluoro_reg" / name).exists()]
    assert missing == []


def test_prose_is_at_most_130_characters_wide() -> None:
    wide = []
    for name, text in written_pages().items():
        prose = BLOCK.sub("", text).splitlines()
        wide += [f"{name}: {line}" for line in prose if len(line) > 130 and not line.startswith(("|", "!["))]
    assert wide == []


def test_citation_and_changelog_have_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == fluoro_reg.__version__ and citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    changelog = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(fluoro_reg.__version__)} \(\d{{4}}-\d\d-\d\d\)\n-+$", changelog, re.MULTILINE)
