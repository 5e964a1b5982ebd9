"""`fluoro-reg methods` against the files in config/methods."""

import re

import yaml
from helpers.documentation import page

from fluoro_reg.resources import config_folder


def test_every_installed_method_is_listed_as_in_its_file(cli):
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (config_folder() / "methods").glob("*.yaml")}
    listed = cli("methods", "--json").json()["methods"]
    assert {method["name"] for method in listed} == set(files)
    for method in listed:
        assert method["description"] == files[method["name"]]["description"]
        assert method["needs"] == files[method["name"]]["needs"]
        assert set(method["devices"]) <= {"cpu", "cuda"}


def test_the_documentation_describes_every_method():
    files = {path.stem for path in (config_folder() / "methods").glob("*.yaml")}
    assert set(re.findall(r"^\| `([\w-]+)` \|", page("concepts/methods.md"), re.MULTILINE)) == files
    sections = set(re.findall(r"^## ([\w-]+)$", page("reference/methods.md"), re.MULTILINE))
    assert files <= sections


def test_the_text_is_a_table(cli):
    finished = cli("methods")
    assert finished.status == 0
    assert "lm-gradient-ncc" in finished.out
    assert finished.err == ""
