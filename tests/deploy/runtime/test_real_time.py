from __future__ import annotations

import gc
import os
import time

import pytest

from deploy.runtime.real_time import SpinningClock, loaded_objects_frozen, real_time_priority
from robot_rlpd.errors import ConfigError


def test_a_spinning_clock_never_wakes_before_the_deadline() -> None:
    clock = SpinningClock()
    for wait_s in (-1.0, 0.0, 0.0001, 0.001):
        deadline_s = clock.now_s() + wait_s
        clock.sleep_until_s(deadline_s)
        assert time.monotonic() >= deadline_s


def test_the_priority_is_asked_for_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, policy, p: asked.append((policy, p.sched_priority)))
    before = os.sched_getscheduler(0)
    with real_time_priority(20):
        assert asked == [(os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, 20)]
    assert asked[1][0] == before
    with real_time_priority(None):
        assert len(asked) == 2


def test_what_is_not_permitted_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(ConfigError, match="real_time_priority: not permitted; found 20; raise the limit rtprio"):
        real_time_priority(20).__enter__()


def test_loaded_objects_are_left_alone_for_as_long_as_the_loop_runs() -> None:
    before = gc.get_freeze_count()
    with loaded_objects_frozen():
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0
