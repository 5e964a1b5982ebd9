"""The plan of an evaluation: unique names, seeds that depend only on case and method, digests that detect changes."""

import json
import shutil
from pathlib import Path

import pytest

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.plan import case_digest, job_seed, plan_cases, plan_jobs, select_methods
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.registration.method import load_methods
from fluoro_reg.registration.options import LearnedOptions

NO_WEIGHTS = RegistrationOptions()


@pytest.fixture
def cases(small_cases: Path, tmp_path: Path) -> Path:
    """A copy of the cases with their CT beside them, as they are usually shared."""
    for folder in small_cases.iterdir():
        shutil.copytree(folder, tmp_path / "one" / folder.name)
        content = json.loads((folder / "case.json").read_text())
        shutil.copytree((folder / content["ct"]).resolve(), tmp_path / "one_ct", dirs_exist_ok=True)
        case = tmp_path / "one" / folder.name / "case.json"
        case.write_text(json.dumps({**content, "ct": "../../one_ct"}))
    return tmp_path / "one"


def test_cases_are_named_after_their_folder_and_limited(cases: Path) -> None:
    assert [case.name for case in plan_cases([cases])] == [f"one/case_00{n}" for n in range(4)]
    assert [case.name for case in plan_cases([cases], limit=2)] == ["one/case_000", "one/case_001"]
    assert [case.name for case in plan_cases([cases / "case_002"])] == ["case_002"]
    assert {case.ct_name for case in plan_cases([cases])} == {"ct"}, "the name in case.json"


def test_folders_and_cts_with_equal_names_are_numbered(cases: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "one", tmp_path / "other" / "one")
    shutil.copytree(tmp_path / "one_ct", tmp_path / "other" / "one_ct")
    planned = plan_cases([cases, tmp_path / "other" / "one"], limit=1)
    assert [(case.name, case.ct_name) for case in planned] == [("one/case_000", "ct"), ("one (2)/case_000", "ct (2)")]


def test_a_ct_shared_by_two_folders_counts_once(cases: Path, tmp_path: Path) -> None:
    shutil.copytree(cases, tmp_path / "two")
    assert {case.ct_name for case in plan_cases([cases, tmp_path / "two"])} == {"ct"}


def test_a_folder_given_twice_or_without_cases_is_rejected(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given twice"):
        plan_cases([cases, tmp_path / "one" / ".." / "one"])
    with pytest.raises(InputError, match=r"there is no case folder .* in one_ct"):
        plan_cases([tmp_path / "one_ct"])


def test_a_malformed_case_is_included(cases: Path) -> None:
    (cases / "case_001" / "truth.json").unlink()
    planned = plan_cases([cases])
    assert [case.ct is None for case in planned] == [False, True, False, False]
    assert planned[1].ct_name == ""


def names_of(words: list[str], options: RegistrationOptions) -> list[str]:
    return [method.name for method in select_methods(words, options)]


def test_methods_are_selected_by_name_list_and_all() -> None:
    assert names_of(["lm-local,lm-patch-ncc", "lm-local"], NO_WEIGHTS) == ["lm-local", "lm-patch-ncc"]
    without_weights = [method.name for method in load_methods().values() if method.needs in ((), ("start",))]
    assert names_of(["all"], NO_WEIGHTS) == without_weights and "global-lm" in without_weights
    no_similarity = [method.name for method in load_methods().values() if not method.learned]
    assert names_of(["all"], RegistrationOptions(model="w")) == no_similarity
    prost_alone = RegistrationOptions(learned=LearnedOptions(prost="w"))
    added = set(names_of(["all"], prost_alone)) - set(names_of(["all"], NO_WEIGHTS))
    assert added == {"prost", "prost-cmaes", "prost-lm"}
    with pytest.raises(InputError, match="spherical-lm needs weights of the similarity spherical; give them with --similarity"):
        select_methods(["spherical-lm"], prost_alone)
    with pytest.raises(InputError, match="diffpose needs weights"):
        select_methods(["lm-local,diffpose"], NO_WEIGHTS)
    with pytest.raises(InputError, match=r"'lm'.*lm-local"):
        select_methods(["lm"], NO_WEIGHTS)
    with pytest.raises(InputError, match=r"at least one method.*lm-local"):
        select_methods([","], NO_WEIGHTS)


def test_a_method_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("description: coarse\nstages: [{object_px: 64}]\n")
    assert names_of([f"lm-local,{file}", str(file)], NO_WEIGHTS) == ["lm-local", "mine"]
    other = tmp_path / "elsewhere" / "mine.yaml"
    other.parent.mkdir()
    other.write_text("stages: [{object_px: 32}]\n")
    with pytest.raises(InputError, match="two files of methods are called mine"):
        select_methods([str(file), str(other)], NO_WEIGHTS)
    with pytest.raises(InputError, match=r"cannot read absent\.yaml"):
        select_methods(["absent.yaml"], NO_WEIGHTS)


def test_jobs_are_ordered_by_ct_and_method(cases: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "one_ct", tmp_path / "another_ct")
    case = cases / "case_001" / "case.json"
    case.write_text(json.dumps({**json.loads(case.read_text()), "ct": "../../another_ct"}))
    order = [(job.case[-1], job.method) for job in plan_jobs(plan_cases([cases]), ["lm-patch-ncc", "lm-local"], 0)]
    first, second = [*"023"], [*"1"]
    assert order == [(case, m) for group in (first, second) for m in ("lm-patch-ncc", "lm-local") for case in group]


def test_a_seed_depends_on_run_case_and_method_alone(cases: Path) -> None:
    every = {job.key: job.seed for job in plan_jobs(plan_cases([cases]), ["lm-local", "lm-patch-ncc"], 5)}
    alone = {job.key: job.seed for job in plan_jobs(plan_cases([cases])[2:3], ["lm-patch-ncc"], 5)}
    assert len(set(every.values())) == 8 and alone.items() <= every.items()
    assert job_seed(5, "a", "b") != job_seed(6, "a", "b") and 0 <= job_seed(5, "a", "b") < 2**31


@pytest.mark.parametrize(
    "file", ["image.png", "camera.json", "initial.json", "truth.json", "landmarks.json", "../../one_ct/slice_0001.dcm"]
)
def test_a_digest_depends_on_every_file(cases: Path, file: str) -> None:
    before = [case_digest(case) for case in plan_cases([cases])]
    with (cases / "case_000" / file).open("ab") as target:
        target.write(b" ")
    after = [case_digest(case) for case in plan_cases([cases])]
    assert before[0] != after[0]
    assert (before[1:] == after[1:]) == ("_ct" not in file) and len(set(before)) == 4
