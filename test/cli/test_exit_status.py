"""The exit status, and what is on standard output and standard error, in a separate process as in a shell."""

import subprocess
import sys
import warnings
from importlib.metadata import entry_points

import pytest

import fluoro_reg
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.main import run

FLUORO_REG = [sys.executable, "-m", "fluoro_reg.cli.main"]
ANSI = "\x1b["


def shell(*arguments: object, **keywords: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FLUORO_REG, *map(str, arguments)], capture_output=True, text=True, timeout=120, **keywords)


def is_one_sentence(text: str) -> bool:
    return text.startswith("fluoro-reg: ") and text.count("\n") == 1 and "Traceback" not in text and ANSI not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command"),
        (["regster"], "regster"),
        (["register", "--ct", "ct"], "--image"),
        (["register", "--imag", "x.png"], "--imag"),
        (["register", "--intensity", "loud", "--ct", "ct", "--image", "x.png"], "transmitted"),
        (["register", "--frame", "-1", "--ct", "ct", "--image", "x.png"], "--frame"),
        (["ct-info"], "CT"),
        (["ct-info", "a", "b"], "b"),
        (["methods", "--device", "cpu"], "--device"),
        (["render", "--ct"], "--ct"),
    ],
)
def test_wrong_arguments_give_status_2_one_sentence_and_no_output(arguments, message):
    finished = shell(*arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert is_one_sentence(finished.stderr), finished.stderr
    assert message in finished.stderr


def test_a_missing_ct_gives_status_2_and_shows_only_the_last_part_of_its_path():
    finished = shell("ct-info", "some/private/folder/ct", "--json")
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert is_one_sentence(finished.stderr)
    assert "private" not in finished.stderr


def test_the_installed_command_is_run():
    (command,) = entry_points(group="console_scripts", name="fluoro-reg")
    assert command.load() is run


def test_the_version_is_that_of_the_package():
    assert shell("--version").stdout == f"fluoro-reg {fluoro_reg.__version__}\n"


def test_a_bug_gives_status_70_and_quotes_nothing(cli, monkeypatch):
    def broken() -> None:
        raise RuntimeError("patient DOE^JANE")

    monkeypatch.setattr("fluoro_reg.registration.method.load_methods", broken)
    finished = cli("methods")
    assert finished.status == ExitStatus.FAULT
    assert finished.out == ""
    assert "RuntimeError" in finished.err
    assert "DOE" not in finished.err
    assert "Traceback" in cli("methods", "--debug").err


def test_ctrl_c_gives_status_130(cli, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fluoro_reg.registration.method.load_methods", interrupted)
    finished = cli("methods")
    assert finished.status == ExitStatus.INTERRUPTED
    assert "Traceback" not in finished.err


def test_closing_standard_output_early_is_not_a_bug():
    process = subprocess.Popen([*FLUORO_REG, "methods", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    _, errors = process.communicate(timeout=120)
    assert errors == ""
    assert process.returncode == ExitStatus.BROKEN_PIPE


def test_warnings_of_readers_do_not_reach_the_user(cli, monkeypatch):
    def noisy() -> dict:
        warnings.warn("Invalid value for VR PN: 'DOE^JANE'", stacklevel=1)
        return {}

    monkeypatch.setattr("fluoro_reg.registration.method.load_methods", noisy)
    assert "DOE" not in cli("methods").err
