from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from robot_rlpd import doctor
from robot_rlpd.doctor import LIBRARIES, DoctorCommand, examine

if TYPE_CHECKING:
    import pytest


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
    assert found == json.loads(json.dumps(examine()))
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
