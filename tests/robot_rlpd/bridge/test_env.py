"""A served robot as a Gymnasium environment."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the environment is Gymnasium's")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from robot_rlpd.bridge.client import RemoteRobot  # noqa: E402
from robot_rlpd.bridge.server import RobotServer  # noqa: E402
from robot_rlpd.env import make_robot  # noqa: E402
from robot_rlpd.errors import DeadlineError, MismatchError, RefusedError, RobotError  # noqa: E402
from robot_rlpd.task import TaskOptions  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

REMOTE = "robot_rlpd.bridge.env:robot_rlpd/Remote-v0"


@pytest.fixture
def address() -> Iterator[str]:
    """A pendulum that somebody serves."""
    robot = make_robot("Pendulum-v1", TaskOptions(reward="stored", max_episode_steps=5))
    server = RobotServer(robot, "tcp://127.0.0.1:0", pace="fast")
    over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
    thread.start()
    yield server.address
    over.set()
    thread.join()


def make(address: str, **options: Any) -> Any:
    return gymnasium.make(REMOTE, address=address, disable_env_checker=True, **options)


@pytest.mark.filterwarnings("ignore:.*Box action space.*symmetric and normalized.*")
def test_gymnasiums_own_checks_pass(address: str) -> None:
    env = make(address)
    check_env(env.unwrapped)
    env.close()


def test_it_is_the_served_environment_step_by_step(address: str) -> None:
    local = gymnasium.make("Pendulum-v1")
    with make(address) as env:
        assert env.action_space == local.action_space
        remote, _ = env.reset(seed=3)
        np.testing.assert_array_equal(remote, local.reset(seed=3)[0])
        for step in range(5):
            observation, reward, terminated, truncated, info = env.step(np.array([0.5], np.float32))
            there, there_reward, *_ = local.step(np.array([0.5], np.float32))
            np.testing.assert_array_equal(observation, there)
            assert reward == pytest.approx(float(there_reward), rel=1e-6)
            assert (terminated, truncated) == (False, step == 4)
            assert set(info) == {"success", "executed_action"}
    local.close()


def test_an_environment_that_was_only_made_takes_the_robot_from_nobody(address: str) -> None:
    with RemoteRobot(address, client_name="alice") as robot:
        robot.reset(seed=0)
        env = make(address)
        robot.step(np.zeros(1, np.float32))
        with pytest.raises(RobotError, match="not reset yet"):
            env.unwrapped.step(np.zeros(1, np.float32))
        with pytest.raises(RefusedError, match="alice"):
            env.reset()
    env.reset()
    env.close()


def test_a_task_judges_here_and_has_to_fit_the_robot(address: str) -> None:
    with make(address, task="gymnasium:Pendulum-v1", task_options=TaskOptions(max_episode_steps=2)) as env:
        env.reset(seed=0)
        assert [env.step(np.zeros(1, np.float32))[3] for _ in range(2)] == [False, True]
    with pytest.raises(MismatchError, match="observation"):
        make(address, task="gymnasium:MountainCarContinuous-v0")


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(DeadlineError, match="nobody listens there"):
        make("tcp://127.0.0.1:1", connect_timeout_s=0.1)


def test_a_program_that_ends_without_closing_gives_the_robot_back(address: str) -> None:
    forgetful = f"import gymnasium; gymnasium.make('{REMOTE}', address='{address}').reset()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", forgetful], check=True, timeout=60)
    with make(address) as env:
        env.reset()
