from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner import memory
from robot_rlpd.learner.memory import available_bytes, check_memory, learner_bytes
from robot_rlpd.learner.replay import ReplayBuffer
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig
from robot_rlpd.learner.session_config import SessionConfig

if TYPE_CHECKING:
    from pathlib import Path

SMALL = SessionConfig(task="fake", rlpd=RLPDConfig(hidden_dims=(8,), batch_size=2, utd_ratio=1))


def test_what_a_run_takes_is_told_before_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "robot_rlpd"):
        check_memory(SMALL, 4, 2, [1000, 500])
    (told,) = caplog.messages
    row = ReplayBuffer(4, 2, capacity=1).nbytes
    assert row == 4 * (4 + 2 + 1 + 1 + 4)
    assert f"prior data {500 * row / 1000:.3g} kB, online replay {1000 * row / 1000:.3g} kB" in told


def test_a_run_that_cannot_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: 40_000)
    check_memory(SMALL, 4, 2, [100])
    with pytest.raises(ConfigError, match=r"^env_steps: the run does not fit.*48 kB.*allowed: 40 kB free"):
        check_memory(SMALL, 4, 2, [1000])


def test_the_learners_share_covers_its_tensors() -> None:
    for config in (SMALL, SessionConfig(task="fake")):
        learner = RLPD(config.rlpd, 4, 2, seed=0, compile=False)
        held = sum(tensor.nbytes for name, tensor in learner.state_dict().items() if name != "generator")
        assert held < learner_bytes(config, 4, 2) < 20 * held + 10**9


def test_a_container_limits_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert available_bytes("cpu") == 5_120_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_bytes("cpu") == 5_120_000
    (tmp_path / "memory.max").write_text("3000000\n")
    assert available_bytes("cpu") == 2_999_000
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nothing")
    (tmp_path / "memory.max").unlink()
    assert available_bytes("cpu") is None
