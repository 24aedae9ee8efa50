from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest

from robot_rlpd import doctor, machine
from robot_rlpd.doctor import LIBRARIES, DoctorCommand, examine
from robot_rlpd.errors import ConfigError, DeadlineError
from robot_rlpd.testing import FakeRobot

if TYPE_CHECKING:
    from pathlib import Path


def test_every_library_is_told_with_its_version_or_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(doctor.LIBRARIES, "no_such_library", "sim")
    assert doctor.doctor(DoctorCommand()) == 0
    out = capsys.readouterr().out
    for name in LIBRARIES:
        assert f"  {name} " in out
    assert "not installed: pip install 'robot-rlpd[sim]'" in out


def test_json_is_one_object_with_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.doctor(DoctorCommand(json=True)) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    examined = json.loads(json.dumps(examine()))
    for once in (found, examined):
        once["timing"].pop("oversleep_us")
    assert found == examined
    assert found["libraries"]["numpy"]["extra"] == "base"
    assert found["libraries"]["numpy"]["version"]
    assert {"reach", "pick_place", "gymnasium"} <= set(found["registered"]["tasks"])
    assert "doctor" in found["registered"]["commands"]


def test_looking_for_a_library_does_not_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.__import__", None)
    assert doctor._version("no_such_library") == ""


def test_permission_is_tried_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getscheduler(0)
    assert isinstance(examine()["real_time"], bool)
    assert os.sched_getscheduler(0) == before

    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert examine()["real_time"] is False


def test_a_machine_without_a_compiler_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    doctor.doctor(DoctorCommand())
    assert "compiler for a faster update: none; install g++" in capsys.readouterr().out


def test_a_robot_file_is_checked_with_the_robot_and_the_robot_is_not_moved(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRobot()
    monkeypatch.setattr("robot_rlpd.robot_file.open_robot", lambda name, **options: fake)
    file = tmp_path / "robot.toml"
    file.write_text('robot = "fake:one"\n[limits.x]\nhigh = 0.3\nvelocity = 0.2\nmeasured = "position[x]"\n')
    assert doctor.doctor(DoctorCommand(robot=file, json=True)) == 0
    found = json.loads(capsys.readouterr().out)["robot"]
    assert (found["name"], found["driver"], found["control_rate_hz"]) == ("fake", "fake:one", 10.0)
    assert found["components"]["x"]["measured"] == "position[0]"
    assert found["components"]["x"]["limits"]["velocity"] == 0.2
    assert found["components"]["y"]["limits"] is None
    assert fake.executed == []
    assert fake.closed
    doctor.doctor(DoctorCommand(robot=file))
    out = capsys.readouterr().out
    assert "robot 'fake' (fake:one), 10 Hz, ok" in out
    assert "high 0.3" in out
    assert "nothing watches for a silent commander" in out
    file.write_text('robot = "fake:one"\n[limits.z]\n')
    with pytest.raises(ConfigError, match=r"limits\.z: no such action component"):
        doctor.doctor(DoctorCommand(robot=file))


def test_the_way_to_a_learner_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert doctor.doctor(DoctorCommand(learner=address, json=True)) == 0
        way = json.loads(capsys.readouterr().out)["learner"]
        assert way["address"] == address
        assert 0 < way["round_trip_us"]["p50"] <= way["round_trip_us"]["max"]
        doctor.doctor(DoctorCommand(learner=address))
        assert f"way to {address}:" in capsys.readouterr().out
    with pytest.raises(DeadlineError, match="learner: nobody answers there"):
        doctor.doctor(DoctorCommand(learner=address))


@pytest.mark.parametrize("address", ["127.0.0.1:5", "tcp://host", "tcp://host:0", "tcp://host:x", "ipc://"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(ConfigError, match="learner: found"):
        machine.round_trip_us(address)


def test_each_weakness_of_the_machine_comes_with_what_to_do() -> None:
    good = {"governors": ["performance"], "clock_source": "tsc", "clock_synchronised": True}
    assert machine.advice(good, real_time=True) == []
    bad = {"governors": ["powersave"], "clock_source": "hpet", "clock_synchronised": None}
    told = " ".join(machine.advice(bad, real_time=False))
    for word in ("rtprio", "performance", "'hpet'", "synchronised"):
        assert word in told


def test_what_this_system_does_not_say_is_left_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "SYS", tmp_path)
    found = machine.timing()
    assert (found["governors"], found["clock_source"], found["real_time_kernel"]) == ([], "", False)
    assert found["oversleep_us"]["max"] >= found["oversleep_us"]["p50"] > 0
