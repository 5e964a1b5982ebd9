"""The documentation: the site builds strictly, and the code blocks of its pages run.

Blocks of the README, the getting-started and the how-to pages run in the order of the page, in a folder of small inputs under
the names that the pages use. Long jobs are shortened by `SHORTER`: a command of the given name gets these options, which
replace the page's own. `how-to/datasets.md` has tests of its own (test/evaluation/datasets). A block that cannot run has a
comment before it, `<!-- not run: reason -->`; `NOT_RUN` counts them, and their syntax, options and arguments are checked.
"""

import ast
import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import yaml
from helpers.documentation import DOCS, ROOT, build_docs, generated_pages, page, written_pages
from helpers.recording_files import write_cine
from helpers.xray_images import write_xa

import fluoro_reg
from fluoro_reg.cli.main import main
from fluoro_reg.config import walk_options
from fluoro_reg.formats.bags import read_frames
from fluoro_reg.registration import GateOptions, Outcome
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu, phantom_labels
from fluoro_reg.training.similarity import SimilarityTraining
from fluoro_reg.xray.encodings import pixels_from_message

RUN = ("README.md", *(f"docs/{path.relative_to(DOCS)}" for path in sorted(DOCS.glob("getting-started/*.md"))))
RUN += tuple(f"docs/{path.relative_to(DOCS)}" for path in sorted(DOCS.glob("how-to/*.md")) if path.stem != "datasets")
NOT_RUN = {
    "README.md": 2,
    "docs/concepts/methods.md": 1,
    "docs/development/contributing.md": 3,
    "docs/getting-started/command-line.md": 3,
    "docs/getting-started/embedded.md": 4,
    "docs/getting-started/ros.md": 6,
    "docs/how-to/c-arm.md": 1,
    "docs/how-to/datasets.md": 1,
    "docs/how-to/evaluate.md": 1,
    "docs/how-to/robot.md": 4,
    "docs/how-to/secure.md": 1,
    "docs/how-to/several-views.md": 2,
    "docs/how-to/starts.md": 1,
}
SHORTER = {
    "train regressor": "--set steps=4 --set batch=4 --set validations=1 --set validation_images=8 --set network.image_px=32",
    "train similarity": "--set steps=30 --set batch=12 --set validations=2 --set validation_images=16 --set average=0.5 "
    "--set prost.image_px=16 --set prost.samples=8 --set prost.encoder_channels=[8,8]",
    "simulate": "--cases 1 --size 128",
    "simulate --bag": "--frames 3 --size 128",
    "evaluate": "--limit 1 --workers 1",
}
TOPICS = {"image", "camera_info", "second/image", "second/camera_info"}
REPLACED = ("--budget", "--cases", "--frames", "--size", "--limit", "--workers")
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One code block of a page."""

    language: str
    title: str | None
    reason: str | None
    code: str


def blocks_of(text: str) -> list[Block]:
    return [Block(m["language"], m["title"], m["reason"], m["code"]) for m in BLOCK.finditer(text)]


def commands_of(code: str) -> list[list[str]]:
    """The words of every command of a shell block."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


# Running blocks


@pytest.fixture(scope="module")
def inputs(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call by name: CTs, two X-rays of known geometry, a recording as bag, cine and DICOM."""
    folder = tmp_path_factory.mktemp("documentation") / "inputs"
    folder.mkdir()
    (folder / "ct_folder").symlink_to(phantom_folder)
    for number, name in enumerate(("other_ct", "third_ct"), start=1):
        write_dicom_series(folder / name, *phantom_hu(PhantomOptions(spacing_mm=(8.0, 8.0, 8.0), seed=number)))
    write_segmentation(folder / "segmentation.nii.gz")
    simulated = ["simulate", "--ct", str(phantom_folder), "--size", "256", "--json"]
    with contextlib.redirect_stdout(io.StringIO()):
        case = folder / "views" / "case_000"
        settings = ["--set", "second_view_deg=60", "--set", "oblique_fraction=0", "--start-mm", "5", "10"]
        assert main([*simulated, "--cases", "1", "--out", str(case.parent), *settings]) == 0
        assert main([*simulated, "--bag", "--frames", "3", "--set", "blank=[]", "--out", str(folder / "recording")]) == 0
    view = json.loads((case / "view.json").read_text())
    second = case / view["image"]
    for name, source in {"xray.png": "image.png", "frontal.png": "image.png", "camera.json": "camera.json"}.items():
        (folder / name).write_bytes((case / source).read_bytes())
    (folder / "lateral.png").write_bytes(second.read_bytes())
    (folder / "lateral_camera.json").write_bytes((case / view.get("camera", "camera.json")).read_bytes())
    lateral = {**view, "image": "lateral.png", "camera": "lateral_camera.json"}
    (folder / "lateral.json").write_text(json.dumps(lateral))
    (folder / "initial.json").write_bytes((case / "initial.json").read_bytes())
    (folder / "bag_folder").symlink_to(folder / "recording" / "bag")
    for name in ("camera", "initial"):
        (folder / f"bag_{name}.json").write_bytes((folder / "recording" / f"{name}.json").read_bytes())
    frames = np.stack([pixels_from_message(image) for _, image, _ in read_frames(folder / "bag_folder")])
    write_cine(folder / "cine.dcm", frames)
    write_xray_with_geometry(folder / "xray.dcm", frames[0], json.loads((folder / "bag_camera.json").read_text()))
    (folder / "dicom_initial.json").write_bytes((folder / "bag_initial.json").read_bytes())
    return folder


def write_segmentation(path: Path) -> None:
    """The bones of the phantom on another grid than its CT."""
    labels = phantom_labels(PhantomOptions(spacing_mm=(3.0, 3.0, 3.0)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.patient_from_voxel.numpy()
    nibabel.save(nibabel.Nifti1Image(labels.labels.numpy().transpose(2, 1, 0), affine), path)


def write_xray_with_geometry(path: Path, pixels: np.ndarray, camera: dict) -> None:
    """An XA file whose tags give the camera."""
    distance = camera["source_to_detector_mm"]
    spacing = [distance / camera["k"][4], distance / camera["k"][0]]
    write_xa(path, pixels, DistanceSourceToDetector=distance, ImagerPixelSpacing=spacing)


@pytest.mark.parametrize("name", RUN)
def test_code_blocks_run(name: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimilarityTraining, "mean_decrease", lambda training: 1.0)  # in so few steps the value may not decrease
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path.resolve())
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks_of((ROOT / name).read_text(encoding="utf-8")):
        if block.title:
            target = tmp_path / block.title
            target.unlink(missing_ok=True)
            target.write_text(block.code)
        if block.reason:
            continue
        if block.language == "python":
            exec(compile(block.code, name, "exec"), namespace)
        elif block.language == "bash":
            for command in commands_of(block.code):
                run(command)
    if "result" in namespace:  # the last Python block of the page
        assert namespace["result"].accepted, namespace["result"].reason


def run(words: list[str]) -> None:
    """Run one command of the program in this process; `>` is a redirection, as in a shell."""
    assert words[0] == "fluoro-reg", f"only fluoro-reg runs here; mark the block as not run: {shlex.join(words)}"
    words, target = (words[: words.index(">")], Path(words[-1])) if ">" in words else (words, None)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = main(shortened(words[1:]))
    # A network of four steps finds no pose; that the others are accepted is what the pages promise.
    may_be_rejected = words[1] == "register" and ("--model" in words or "--similarity" in words)
    assert status == 0 or (may_be_rejected and status == 1), f"{shlex.join(words)}: {output.getvalue()}"
    if target is not None:
        target.write_text(output.getvalue())


def shortened(words: list[str]) -> list[str]:
    """A command with the options of `SHORTER` in place of its own."""
    kind = [*words[:1], "--bag"] if words[0] == "simulate" and "--bag" in words else words
    name = next((name for name in reversed(SHORTER) if kind[: len(name.split())] == name.split()), None)
    if name is None or "--report-only" in words:
        return words
    kept = [word for i, word in enumerate(words) if word not in REPLACED or (name == "evaluate" and word == "--cases")]
    values = [
        words[i + 1] for i, word in enumerate(words) if word in REPLACED and not (name == "evaluate" and word == "--cases")
    ]
    for value in values:
        kept.remove(value)
    return [*kept, *shlex.split(SHORTER[name])]


# Blocks that do not run


def test_blocks_that_do_not_run_are_marked_and_counted() -> None:
    marked = {name: sum(block.reason is not None for block in blocks_of(text)) for name, text in written_pages().items()}
    assert {name: count for name, count in marked.items() if count} == NOT_RUN
    markers = {name: len(re.findall(r"^<!-- not run:", text, re.MULTILINE)) for name, text in written_pages().items()}
    assert {name: count for name, count in markers.items() if count} == NOT_RUN, "a marker is not directly before a block"


def unrun_blocks() -> Iterator[tuple[str, Block]]:
    for name, text in written_pages().items():
        for block in blocks_of(text):
            if block.reason and block.language == "bash":
                yield name, block


def test_blocks_that_do_not_run_are_valid_shell() -> None:
    for name, block in unrun_blocks():
        checked = subprocess.run(["bash", "-n"], input=block.code, text=True, capture_output=True)
        assert checked.returncode == 0, f"{name}: {checked.stderr}"


def test_launch_arguments_and_parameters_on_the_pages_exist() -> None:
    arguments = {name: launch_arguments(name) for name in ("registration.launch.py", "replay.launch.py")}
    arguments["replay.launch.py"] |= arguments["registration.launch.py"]
    module = build_docs()
    parameters = {info.name for cls in (module.NodeOptions, module.RegistrationOptions) for info in walk_options(cls)}
    seen = 0
    for name, block in unrun_blocks():
        for words in commands_of(block.code):
            given = {word.split(":=")[0] for word in words if ":=" in word}
            launched = [word for word in words if word.endswith(".launch.py")]
            known = arguments[launched[0]] if launched else parameters | TOPICS
            known = known.union(*(example_parameters(word) for word in words if word.startswith("examples/")))
            assert given <= known, f"{name}: {given - known}"
            seen += len(given)
            paths = [word for word in words if word.startswith(("scripts/", "benchmarks/"))]
            assert [path for path in paths if not (ROOT / path).exists()] == [], name
    assert seen > 10


def example_parameters(name: str) -> set[str]:
    """The parameters that a ROS program in `examples/` declares."""
    return set(re.findall(r'declare_parameter\("(\w+)"', (ROOT / name).read_text(encoding="utf-8")))


def launch_arguments(name: str) -> set[str]:
    """The names in the list ARGUMENTS of a launch file, which only an installed ROS 2 can import."""
    tree = ast.parse((ROOT / "launch" / name).read_text(encoding="utf-8"))
    (value,) = [n.value for n in tree.body if isinstance(n, (ast.Assign, ast.AnnAssign)) and "ARGUMENTS" in ast.unparse(n)[:12]]
    assert isinstance(value, ast.List)
    return {ast.literal_eval(row.elts[0]) for row in value.elts if isinstance(row, ast.Tuple)}


def test_data_blocks_are_valid() -> None:
    for name, text in written_pages().items():
        for block in blocks_of(text):
            if block.language == "yaml":
                assert isinstance(yaml.safe_load(block.code), dict), name
            elif block.language == "json" and not re.search(r"\.\.\.|\br\b|\[x, |\d+ numbers", block.code):
                assert isinstance(json.loads(block.code), dict), name


# The reference


def test_every_settings_class_of_the_command_line_is_documented() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fluoro_reg" / "cli").glob("*.py"))
    used = set(re.findall(r"\bsettings\((\w+Options)\b", sources)) | set(re.findall(r"settings\((\w+Options),", sources))
    assert len(used) >= 8
    assert used <= {cls.__name__ for _, _, cls in build_docs().SETTINGS}


def test_every_setting_and_parameter_has_a_row_with_a_description() -> None:
    settings, parameters = page("reference/settings.md"), page("reference/node-parameters.md")
    for _, _, cls in build_docs().SETTINGS:
        for info in walk_options(cls):
            assert re.search(rf"^\| `{re.escape(info.name)}` \| .* \| \S.* \|$", settings, re.MULTILINE), info.name
    for cls in (build_docs().NodeOptions, build_docs().RegistrationOptions):
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


# Habits


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


# The site


class Links(HTMLParser):
    """The anchors of a page, the addresses it links to, and what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in values:
            self.loaded.append(values["src"])
        if tag == "link" and "href" in values and values.get("rel") != "canonical":
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    """Every page of the built site."""
    pytest.importorskip("zensical", reason="needs the extra 'docs'")
    out = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, str(ROOT / "scripts" / "build_docs.py"), "--out", str(out)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "warning" not in (built.stdout + built.stderr).lower()
    pages = {}
    for path in sorted(out.rglob("*.html")):
        pages[path] = Links()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return pages


def test_every_page_is_built_and_in_the_navigation(site: dict[Path, Links]) -> None:
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    listed = set(re.findall(r'= "([\w/-]+\.md)"', navigation))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | set(generated_pages())
    assert listed == pages
    assert len(site) >= len(pages)


def test_the_site_loads_nothing_from_other_hosts(site: dict[Path, Links]) -> None:
    loaded = {address for links in site.values() for address in links.loaded}
    assert len(loaded) > 5
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []


def test_links_and_anchors_of_the_site_lead_somewhere(site: dict[Path, Links]) -> None:
    broken = []
    for path, links in site.items():
        for link in links.links:
            if path.name == "404.html" or re.match(r"[a-z]+:|//", link):
                continue
            place, _, anchor = link.partition("#")
            target = (path.parent / place).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and target in site and anchor not in site[target].anchors):
                broken.append(f"{path.parent.name}: {link}")
    assert broken == []
