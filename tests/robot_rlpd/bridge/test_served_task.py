"""The task that is whatever a served robot signals."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.errors import ConfigError, UnknownNameError
from robot_rlpd.rollout import rollout
from robot_rlpd.task import TaskOptions, load_task, served_address
from robot_rlpd.testing import FakePolicy, FakeRobot, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def address() -> Iterator[str]:
    server, over = RobotServer(FakeRobot(), "tcp://127.0.0.1:0", pace="fast"), threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
    thread.start()
    yield server.address
    over.set()
    thread.join()


def test_a_served_robot_brings_its_own_task(address: str) -> None:
    setup = load_task(f"served:{address}", TaskOptions(reward="stored", max_episode_steps=30))
    assert setup.spec == fake_spec()
    with setup.make_robot() as robot:
        episode = rollout(robot, FakePolicy(), setup.task, seed=3)
    assert (episode.info.task, episode.info.success) == (f"served:{address}", True)
    assert str(episode.info.ended) == "terminated"


def test_success_and_reward_may_be_said_here(address: str) -> None:
    options = TaskOptions(reward="sparse", success_when="position[0] > 0.4")
    task = load_task(f"served:{address}", options).task
    here = {"position": np.array([0.5, 0.0], np.float32), "target": np.zeros(2, np.float32)}
    outcome = task.evaluate(here, np.zeros(2, np.float32), {}, here)
    assert (outcome.reward, outcome.success) == (0.0, True)


def test_a_condition_on_what_the_served_robot_does_not_have_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="speed"):
        load_task(f"served:{address}", TaskOptions(success_when="speed > 1"))


@pytest.mark.parametrize("argument", ["", "pick_place", "tcp://host"])
def test_what_is_no_address_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match="tcp://HOST:PORT"):
        load_task(f"served:{argument}")


def test_arguments_of_an_environment_that_is_elsewhere_are_refused() -> None:
    with pytest.raises(ConfigError, match="give them to robot-rlpd serve"):
        load_task("served:tcp://127.0.0.1:1", TaskOptions(env_kwargs={"a": 1}))


def test_the_list_of_tasks_says_what_follows_the_colon() -> None:
    with pytest.raises(UnknownNameError, match=r"gymnasium:<id>.*served:<address>"):
        load_task("nonsense")


def test_a_task_of_this_machine_has_no_address() -> None:
    assert served_address("served:tcp://robot:5555") == "tcp://robot:5555"
    assert served_address("gymnasium:Pendulum-v1") == ""
