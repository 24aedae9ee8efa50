from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import pytest

from robot_rlpd import cli
from robot_rlpd.doctor import DoctorCommand
from robot_rlpd.errors import ConfigError
from robot_rlpd.registry import entry_points

if TYPE_CHECKING:
    from collections.abc import Callable

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | int | None], None]:
    """Makes the command `doctor` return or raise what it is given."""

    def use(what: BaseException | int | None) -> None:
        def command(config: DoctorCommand) -> int | None:
            if isinstance(what, BaseException):
                raise what
            return what

        command.__annotations__ = {"config": DoctorCommand, "return": int}
        monkeypatch.setattr(cli, "load_entry_point", lambda group, name: command)

    return use


def test_the_overview_lists_every_command_with_one_line_about_it(capsys: Capture) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in entry_points(cli.GROUP):
        spoken = name.replace(".", " ")
        (line,) = [line for line in lines if line.startswith(f"  {spoken}  ")]
        assert line.removeprefix(f"  {spoken}").strip().endswith((".", "interval."))
    assert max(map(len, lines)) <= 120


def test_the_help_of_a_group_lists_its_commands_alone(capsys: Capture) -> None:
    assert cli.main(["keys", "--help"]) == 0
    names = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert names == [name.replace(".", " ") for name in sorted(entry_points(cli.GROUP)) if name.startswith("keys.")]


def test_the_overview_imports_no_command() -> None:
    program = (
        "import sys; from robot_rlpd.cli import main; main(['--help'])\n"
        "heavy = {'torch', 'mujoco', 'gymnasium', 'zarr', 'numpy', 'tyro', 'demos.commands'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_no_command_is_wrong_usage_and_shows_the_overview(capsys: Capture) -> None:
    assert cli.main([]) == 2
    assert "usage: robot-rlpd COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["doctor", "--help"], ["demos", "info", "--help"]])
def test_each_command_has_help(words: list[str], capsys: Capture) -> None:
    assert cli.main(words) == 0
    assert f"usage: robot-rlpd {' '.join(words[:-1])}" in capsys.readouterr().out


def test_a_group_is_two_words(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    points = {name: EntryPoint(name=name, value="nowhere:nothing", group=cli.GROUP) for name in ("arms.list", "arm")}
    monkeypatch.setattr(cli, "entry_points", lambda group: points)
    loaded: list[str] = []

    def load(group: str, name: str) -> Callable[[object], int]:
        loaded.append(name)
        return lambda config: 0

    monkeypatch.setattr(cli, "load_entry_point", load)
    monkeypatch.setattr(cli, "parse", lambda command, name, arguments, as_json: arguments)
    assert cli.main(["arms", "list", "x"]) == 0
    assert cli.main(["arm", "list"]) == 0
    assert loaded == ["arms.list", "arm"]
    assert cli.main(["arms", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["found"] == "arms"


@pytest.mark.parametrize("words", [["run", "--actor", "--fast"], ["run", "--fast", "--actor"]])
def test_an_option_may_make_another_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    points = {name: EntryPoint(name=name, value="nowhere:nothing", group=cli.GROUP) for name in ("run", "run.--actor")}
    monkeypatch.setattr(cli, "entry_points", lambda group: points)
    read: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(cli, "load_entry_point", lambda group, name: lambda config: 0)
    monkeypatch.setattr(cli, "parse", lambda command, name, arguments, as_json: read.append((name, arguments)))
    assert cli.main(words) == 0
    assert cli.main(["run", "policy.onnx"]) == 0
    assert read == [("run.--actor", ["--fast"]), ("run", ["policy.onnx"])]


@pytest.mark.parametrize(("returned", "status"), [(0, 0), (1, 1), (None, 0), (130, 130)])
def test_a_command_decides_the_status(returned: int | None, status: int, doctor: Any) -> None:
    doctor(returned)
    assert cli.main(["doctor"]) == status


def test_ctrl_c_is_status_130(doctor: Any, capsys: Capture) -> None:
    doctor(KeyboardInterrupt())
    assert cli.main(["doctor", "--json"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_an_expected_error_is_one_line_and_one_object(doctor: Any, capsys: Capture) -> None:
    doctor(ConfigError("too\nlong", field="episodes", found=float("nan"), allowed="at least 1", hint="give fewer"))
    assert cli.main(["doctor"]) == 1
    line = "episodes: too long; found nan; allowed: at least 1; give fewer"
    assert capsys.readouterr() == ("", f"error: {line}\n")
    assert cli.main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "error": {
            "type": "ConfigError",
            "message": line,
            "field": "episodes",
            "found": "nan",
            "allowed": "at least 1",
            "hint": "give fewer",
        }
    }


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "the disk is full; free some space and try again"),
        (OSError(28, "No space left on device", "a.pt"), "a.pt: the disk is full; free some space and try again"),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
    ],
)
def test_what_the_system_refuses_is_one_line(error: OSError, line: str, doctor: Any, capsys: Capture) -> None:
    doctor(error)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_mistake_of_this_program_is_not_hidden(doctor: Any) -> None:
    doctor(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def test_wrong_usage_is_told_on_both_streams(capsys: Capture) -> None:
    assert cli.main(["doctor", "--unheard-of"]) == 2
    plain = capsys.readouterr()
    assert plain.out == ""
    assert cli.main(["doctor", "--unheard-of", "--json"]) == 2
    as_json = capsys.readouterr()
    assert "--unheard-of" in plain.err
    assert "--unheard-of" in as_json.err
    message = "Unrecognized options: --unheard-of; see robot-rlpd doctor --help"
    assert json.loads(as_json.out) == {"error": {"type": "usage", "message": message}}


@pytest.mark.parametrize(
    ("box", "essence"),
    [
        ("╭─ Title ─╮\n│ one │\n│ two │\n│ ─── │\n│ For full helptext │\n╰───╯\n", "one two"),
        ("+- Title -+\n| --one two |\n| --- |\n| Argument helptext |\n+---+\n", "--one two"),
        ("╭─╮\n│ a │\n│ ─ │\n│ b │\n╰─╯\n", "a; b"),
        ("", "wrong usage"),
    ],
)
def test_a_boxed_error_becomes_one_line(box: str, essence: str) -> None:
    assert cli._essence(box) == essence
