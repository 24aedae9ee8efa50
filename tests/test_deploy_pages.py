"""The pages about robots, safety and the robot's computer work as written: their code is run, their files are read."""

from __future__ import annotations

import configparser
import dataclasses
import re
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest

from deploy.runtime.commands import RunConfig
from robot_rlpd.bridge.commands import ServeConfig
from robot_rlpd.limits import Watch
from robot_rlpd.motion_filter import REASONS
from robot_rlpd.robot_file import make_robot, read_robot_file
from robot_rlpd.task import TaskOptions

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_driver_of_the_worked_example_passes_its_own_conformance_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in zip(("my_arm", "test_my_arm"), blocks("robots.md", "python"), strict=True):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, f"{name}.py", "exec"), module.__dict__)
    suite: Any = sys.modules["test_my_arm"].TestMyArm()
    tests = [name for name in dir(suite) if name.startswith("test_")]
    assert len(tests) == 7
    for name in tests:
        getattr(suite, name)()


def test_the_robot_file_of_the_page_holds_a_robot(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the page's robot is simulated")
    (text,) = blocks("safety.md", "toml")
    file = tmp_path / "robot.toml"
    file.write_text(text)
    assert all(getattr(read_robot_file(file).watch, name) is not None for name in Watch.__dataclass_fields__)
    with make_robot(str(file), TaskOptions()) as robot:
        robot.reset(seed=0)
    page = (ROOT / "docs" / "safety.md").read_text()
    told = re.search(r"`limited_by` \((.*?)\)", page)
    assert told is not None
    assert re.findall(r"(\d) (\w+)", told[1].replace("bit ", "")) == [(str(i), name) for i, name in enumerate(REASONS)]


def test_a_program_drives_a_robot_as_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("robot-computer.md", "python")
    exec(compile(code, "robot-computer.md", "exec"), {})
    assert "3/3 solved" in capsys.readouterr().out


def test_the_unit_and_the_container_use_options_that_exist() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((ROOT / "deploy" / "templates" / "robot-rlpd.service").read_text())
    assert unit.sections() == ["Unit", "Service", "Install"]
    container = (ROOT / "deploy" / "templates" / "Containerfile").read_text()
    for text, command, kind in (
        (unit["Service"]["ExecStart"], "serve", ServeConfig),
        (container.partition("With docker")[0], "run", RunConfig),
    ):
        typed = re.split(rf"(?:robot-rlpd|#) +{command}(?= )", text)[1]
        used = [option.replace("-", "_") for option in re.findall(r"(?<= )--([a-z-]+)", typed)]
        assert "robot" in used
        assert set(used) <= {option.name for option in dataclasses.fields(kind)}


def test_the_wheelhouse_holds_all_base_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=!~]", dependency)[0] for dependency in project["dependencies"]]
    page = (ROOT / "docs" / "robot-computer.md").read_text()
    assert f"--constraint constraints.txt {' '.join(names)}\n" in page
