"""`sweep actors`: many actors for one learner, begun again when they die, with a Ray that is in this process."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from robot_rlpd.cli import main
from robot_rlpd.sweep import attempt as attempt_module
from tests.test_json_docs import differences, documented

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.robot_rlpd.sweep.conftest import FakeRay

ACTORS = "sweep actors --learner ipc://learner --out swarm"
TOLD = {"episodes": 3, "env_steps": 20, "interrupted": 0, "policies": 1, "rejected": 0, "delivered": 2, "pending": 1}


class Actor:
    """In the place of the command: keeps what was typed, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.typed: list[list[str]] = []
        self.fails = 0

    def __call__(self, words: list[str]) -> int:
        self.typed.append(words)
        if self.fails:
            self.fails -= 1
            print(json.dumps({"error": {"message": "robot: it is gone"}}))  # noqa: T201
            return 1
        print(json.dumps(TOLD))  # noqa: T201
        return 0


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Actor:
    found = Actor()
    monkeypatch.setattr(attempt_module, "main", found)
    return found


@pytest.fixture
def sweep(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)

    def run(words: str = ACTORS, common: str = "--robot sim:reach --pace fast", *, status: int = 0) -> Any:
        assert main([*words.split(), "--json", "--", *common.split()]) == status
        (line,) = capfd.readouterr().out.splitlines()
        return json.loads(line)

    return run


def typed(words: list[str]) -> dict[str, str]:
    assert words[0] == "actor"
    return dict(zip(words[1:-1:2], words[2:-1:2], strict=True))


def test_every_actor_has_a_name_and_an_outbox_of_its_own(
    sweep: Callable[..., Any], ray: FakeRay, actor: Actor, tmp_path: Path
) -> None:
    found = sweep(f"{ACTORS} --count 11 --name arm")
    names = [f"arm-{number:02d}" for number in range(11)]
    assert [one["name"] for one in found["actors"]] == names
    assert [typed(words)["--name"] for words in actor.typed] == names
    assert [typed(words)["--outbox"] for words in actor.typed] == [str(tmp_path / "swarm" / name) for name in names]
    assert {(typed(words)["--learner"], typed(words)["--robot"]) for words in actor.typed} == {
        ("ipc://learner", "sim:reach")
    }
    assert differences(found, documented("`sweep actors`")) == []
    told = {name: TOLD[name] for name in ("episodes", "env_steps", "policies", "delivered", "pending")}
    assert found["actors"][0] == {"name": "arm-00", **told, "attempts": 1, "error": None}


def test_one_that_dies_is_begun_again_and_one_that_dies_for_good_does_not_end_the_others(
    sweep: Callable[..., Any], ray: FakeRay, actor: Actor
) -> None:
    ray.killed = {"actor-1": 2}
    actor.fails = 4
    found = sweep(f"{ACTORS} --count 3 --retries 3", status=1)
    assert [(one["attempts"], one["episodes"]) for one in found["actors"]] == [(4, None), (1, 3), (1, 3)]
    assert [one["error"] for one in found["actors"]] == ["robot: it is gone", None, None]


def test_all_act_at_the_same_time_on_one_machine(sweep: Callable[..., Any], ray: FakeRay, actor: Actor) -> None:
    sweep(f"{ACTORS} --count 64")
    assert sum(task["num_cpus"] for task in ray.asked) <= max(64.0, os.cpu_count() or 1)
    assert {task["num_cpus"] for task in ray.asked} == {min(1.0, (os.cpu_count() or 1) / 64)}
    ray.asked.clear()
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        sweep(f"{ACTORS} --count 2 --address 127.0.0.1:{cluster.getsockname()[1]}")
    assert [task["num_cpus"] for task in ray.asked] == [1.0, 1.0]


def test_ctrl_c_ends_all_and_is_no_failure(sweep: Callable[..., Any], ray: FakeRay, actor: Actor) -> None:
    ray.signals = [signal.SIGTERM]
    found = sweep(f"{ACTORS} --count 3")
    assert ray.cancelled == ["actor-1", "actor-2"]
    assert [one["error"] for one in found["actors"]] == [None, None, None]


@pytest.mark.parametrize(
    ("words", "common", "status", "told"),
    [
        (f"{ACTORS} --count 0", "--robot sim:reach", 1, "count: found 0; allowed: at least 1"),
        (ACTORS, "--robot sim:reach --episodes 0", 1, "episodes: found 0"),
        (ACTORS, "--pace fast", 2, "--robot"),
        ("sweep actors --learner here --out swarm", "--robot sim:reach", 1, "tcp://HOST:PORT"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_starts(
    words: str, common: str, status: int, told: str, sweep: Callable[..., Any], ray: FakeRay, actor: Actor
) -> None:
    assert told in sweep(words, common, status=status)["error"]["message"]
    assert (ray.started, actor.typed) == ({}, [])
