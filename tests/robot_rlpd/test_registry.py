from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from robot_rlpd import registry
from robot_rlpd.errors import UnknownNameError


@pytest.fixture
def _points(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"join": "os.path:join", "absent": "no_such_module.sub:make", "broken": "os.path:no_such_function"}
    points = {name: EntryPoint(name=name, value=value, group="g") for name, value in values.items()}
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


def test_entry_points_are_found_without_importing_them() -> None:
    assert "robomimic" in registry.entry_points("robot_rlpd.converters")
    assert registry.entry_points("robot_rlpd.nothing") == {}


@pytest.mark.usefixtures("_points")
def test_a_name_is_loaded() -> None:
    assert registry.load_entry_point("robot_rlpd.tasks", "join") is sys.modules["os.path"].join


@pytest.mark.usefixtures("_points")
@pytest.mark.parametrize(
    ("group", "kind"), [("tasks", "task"), ("policies", "policy"), ("teleop", "teleop"), ("converters", "converter")]
)
def test_an_unknown_name_lists_those_that_exist(group: str, kind: str) -> None:
    with pytest.raises(UnknownNameError, match=f"{kind}: no such {kind}; found x; allowed: absent, broken, join"):
        registry.load_entry_point(f"robot_rlpd.{group}", "x")


@pytest.mark.usefixtures("_points")
def test_an_unknown_name_is_told_by_the_option_that_gave_it() -> None:
    with pytest.raises(UnknownNameError, match="device: no such device; found x"):
        registry.load_entry_point("robot_rlpd.teleop", "x", field="device")


@pytest.mark.usefixtures("_points")
def test_a_library_that_is_not_installed_is_named_with_what_to_do() -> None:
    with pytest.raises(UnknownNameError, match=r"task 'absent' needs the module 'no_such_module'.*pip install"):
        registry.load_entry_point("robot_rlpd.tasks", "absent")


@pytest.mark.usefixtures("_points")
def test_an_entry_point_of_something_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(AttributeError):
        registry.load_entry_point("robot_rlpd.tasks", "broken")
