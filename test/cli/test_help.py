"""The help texts: they are complete, readable, and shown without importing heavy libraries."""

import re
import subprocess
import sys

ANSI = "\x1b["


def test_help_is_plain_text_and_imports_no_heavy_library():
    code = (
        "import sys\nfrom fluoro_reg.cli.main import main\nstatus = main(['register', '--help'])\n"
        "heavy = {'torch', 'numba', 'scipy', 'pydicom', 'rosbags', 'matplotlib', 'rclpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else status)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert "--initial" in finished.stdout
    assert ANSI not in finished.stdout


def test_every_command_has_examples_and_every_option_has_a_help_text(cli):
    commands = re.findall(r"^│ ([a-z][a-z-]+)  ", cli("--help").out, re.MULTILINE)
    assert {"ct-info", "render", "register", "methods"} <= set(commands)
    for command in commands:
        finished = cli(command, "--help")
        assert finished.status == 0
        assert "Example" in finished.out
        assert not re.search(r"^│ (?:[* ]  )?--[a-z,-]+ +[^ ]+ *│$", finished.out, re.MULTILINE), (
            f"an option of {command} has no help"
        )


def test_brackets_in_examples_are_not_taken_for_markup(cli):
    assert "variants=[standard," in cli("simulate", "--help").out


def test_the_help_of_simulate_states_the_defaults_of_the_settings(cli, monkeypatch):
    from fluoro_reg.simulation.bags import BagOptions
    from fluoro_reg.simulation.cases import CaseOptions

    monkeypatch.setenv("COLUMNS", "300")  # so that every option is on one line
    helps = dict(re.findall(r"^│ [* ] +--([a-z-]+) (.*?) *│$", cli("simulate", "--help").out, re.MULTILINE))
    assert helps["cases"].endswith(f"Default: {CaseOptions().count}.")
    assert helps["frames"].endswith(f"Default: {BagOptions().frames}.")
    assert helps["size"].endswith(f"Default: {CaseOptions().size_px}.")
    assert CaseOptions().size_px == BagOptions().size_px
    ((low, high),) = CaseOptions().start_mm
    assert helps["start-mm"].endswith(f"Default: {low:g} {high:g}.")
