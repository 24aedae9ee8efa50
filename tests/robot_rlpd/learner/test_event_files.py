from __future__ import annotations

import logging
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest

from robot_rlpd.learner.event_files import DIRECTORY
from robot_rlpd.learner.metrics import MetricsLog, read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def events(path: Path) -> Iterator[Any]:
    """The events of a file: each record is its length (8 bytes), a checksum (4), the event, a checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    data = path.read_bytes()
    while len(data) >= 16:
        (length,) = struct.unpack("<Q", data[:8])
        if len(data) >= 16 + length:  # not torn
            yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def shown(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: a session that starts at a step takes the place of what came before from there on."""
    from tensorboardX.proto.event_pb2 import SessionLog

    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted((run_dir / DIRECTORY).iterdir()):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                for points in curves.values():
                    points[:] = [point for point in points if point[0] < event.step]
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def test_every_number_is_a_scalar_named_by_its_kind_over_environment_steps(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {"prior": "none"})
        log.write("train", 100, 2000, {"critic_loss": 0.25, "actor_loss": float("nan")})
        log.write("train", 200, 4000, {"critic_loss": 0.125})
        log.write("evaluation", 200, 4000, {"success_rate": 0.5, "ci95": [0.25, 0.75], "task": "reach", "seeds": None})
        log.write("episode", 210, 4200, {"success": True, "length": 10, "ended": "terminated"})
        log.write("end", 210, 4200, {"reason": "finished"})
    assert shown(tmp_path) == {
        "train/critic_loss": [(100, 0.25), (200, 0.125)],
        "evaluation/success_rate": [(200, 0.5)],
        "evaluation/ci95_low": [(200, 0.25)],
        "evaluation/ci95_high": [(200, 0.75)],
        "episode/success": [(210, 1.0)],
        "episode/length": [(210, 10.0)],
    }


def test_a_resumed_run_goes_on_in_a_new_file_and_shows_nothing_twice(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {})
        for step in (100, 200, 300):
            log.write("train", step, 0, {"q_mean": -1.0})
        log.write("evaluation", 300, 0, {"success_rate": 1.0})
    for goes_on_at in (200, 400):
        with MetricsLog(tmp_path) as log:
            log.write("start", goes_on_at, 0, {})
            for step in (goes_on_at + 100, goes_on_at + 200):
                log.write("train", step, 0, {"q_mean": -2.0})
    assert len(list((tmp_path / DIRECTORY).iterdir())) == 3
    steps = [(100, -1.0), (200, -1.0), (300, -2.0), (400, -2.0), (500, -2.0), (600, -2.0)]
    assert shown(tmp_path) == {"train/q_mean": steps, "evaluation/success_rate": []}


@pytest.mark.parametrize("cut", [1, 20, 10_000])
def test_what_a_killed_process_did_not_write_any_more_is_there_after_a_resume(cut: int, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {})
        for step in (100, 200, 300):
            log.write("train", step, 0, {"q_mean": -1.0})
    (first,) = (tmp_path / DIRECTORY).iterdir()
    first.write_bytes(first.read_bytes()[:-cut])
    with MetricsLog(tmp_path) as log:
        log.write("start", 300, 0, {})
    assert shown(tmp_path)["train/q_mean"] == [(100, -1.0), (200, -1.0), (300, -1.0)]


def test_events_lie_as_far_apart_in_time_as_the_training_that_made_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    for wall_offset_s in (0.0, 5000.0):
        with MetricsLog(tmp_path, wall_offset_s=wall_offset_s) as log:
            log.write("start", round(wall_offset_s), 0, {})
            log.write("train", round(wall_offset_s) + 1, 0, {"q_mean": -1.0})
    *_, newest = sorted((tmp_path / DIRECTORY).iterdir())
    first, second = (event for event in events(newest) if event.summary.value)
    wall_s = [record["wall_s"] for record in read_metrics(tmp_path, "train")]
    assert second.wall_time - first.wall_time == pytest.approx(wall_s[1] - wall_s[0], abs=1e-4)


def test_without_the_library_training_goes_on_and_the_log_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with caplog.at_level(logging.INFO, logger="robot_rlpd"), MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {})
        log.write("train", 100, 0, {"q_mean": -1.0})
    assert [record["q_mean"] for record in read_metrics(tmp_path, "train")] == [-1.0]
    assert not (tmp_path / DIRECTORY).exists()
    (line,) = caplog.messages
    assert "robot-rlpd[tensorboard]" in line
