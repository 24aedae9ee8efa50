from __future__ import annotations

import os

import pytest

from demos.recording.priority import real_time_priority
from robot_rlpd.errors import ConfigError


def test_the_priority_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, policy, parameters: asked.append(policy))
    with real_time_priority():
        assert asked == [os.SCHED_FIFO | os.SCHED_RESET_ON_FORK]
    assert asked[1:] == [os.SCHED_OTHER]


def test_without_permission_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(ConfigError, match=r"real_time: .*limits"), real_time_priority():
        pass
