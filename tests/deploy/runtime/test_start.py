from __future__ import annotations

import threading

import numpy as np
import pytest

from deploy.runtime.control import RunControl, StoppedError
from deploy.runtime.start import StartingPolicy
from robot_rlpd.robot import Action, Observation, Source
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

SPEC = RobotSpec(
    name="mixed",
    observation=(
        ArraySpec(name="angles", shape=(2,), unit="rad", components=("a", "b")),
        ArraySpec(name="opening", shape=(1,), unit="m"),
    ),
    action=ActionSpec(
        components=(
            ActionComponent(name="a", low=-2.0, high=2.0, unit="rad"),
            ActionComponent(name="dx", low=-0.1, high=0.1, unit="m", mode="delta"),
            ActionComponent(name="speed", low=-1.0, high=1.0, unit="rad/s"),
            ActionComponent(name="opening", low=0.0, high=1.0, unit="m"),
            ActionComponent(name="grip", kind="binary"),
            ActionComponent(name="push", low=-5.0, high=5.0, unit="N"),
            ActionComponent(name="unseen", low=-1.0, high=1.0, unit="rad"),
        )
    ),
    control_rate_hz=10.0,
)
WANTED = np.array([1.0, 0.1, -1.0, 0.8, 1.0, 3.0, 0.5], np.float32)
FREE = [4, 5, 6]


class Constant:
    source = Source.POLICY

    def reset(self) -> None:
        pass

    def __call__(self, observation: Observation) -> Action:
        return WANTED.copy()


def seen(a: float = 0.4, opening: float = 0.2) -> Observation:
    return {"angles": np.array([a, 9.0], np.float32), "opening": np.array([opening], np.float32)}


def test_the_robot_is_held_then_the_actions_grow_then_the_policy_runs() -> None:
    policy = StartingPolicy(Constant(), SPEC, RunControl(), hold_s=0.2, ramp_s=0.3)
    policy.reset()
    drifting = [policy(seen(0.4 + 0.01 * k, 0.2)) for k in range(6)]
    rest = np.array([0.4, 0.0, 0.0, 0.2], np.float32)
    shares = [0.0, 0.0, 0.25, 0.5, 0.75, 1.0]
    for action, share in zip(drifting, shares, strict=True):
        assert np.allclose(action[:4], rest + share * (WANTED[:4] - rest), atol=1e-6)
        assert action.dtype == np.float32
        assert np.array_equal(action[FREE], WANTED[FREE])
    assert policy.source is Source.POLICY


def test_every_episode_begins_with_the_sequence_and_its_steps_are_not_the_policys() -> None:
    policy = StartingPolicy(Constant(), SPEC, RunControl(), hold_s=0.1, ramp_s=0.1)
    for _ in range(2):
        policy.reset()
        sources = []
        for _ in range(3):
            policy(seen())
            sources.append(policy.source)
        assert sources == [Source.SCRIPTED, Source.SCRIPTED, Source.POLICY]


def test_without_a_sequence_the_policy_acts_at_once() -> None:
    policy = StartingPolicy(Constant(), SPEC, RunControl())
    policy.reset()
    assert np.array_equal(policy(seen()), WANTED)
    assert policy.source is Source.POLICY


def test_a_pause_holds_where_it_came_and_the_policy_is_ramped_in_again() -> None:
    control = RunControl()
    policy = StartingPolicy(Constant(), SPEC, control, ramp_s=0.1)
    policy.reset()
    policy(seen())
    assert np.array_equal(policy(seen()), WANTED)
    control.pause()
    assert policy(seen(0.9))[0] == pytest.approx(0.9)
    assert policy(seen(0.7))[0] == pytest.approx(0.9)
    assert policy.source is Source.SCRIPTED
    control.resume()
    assert policy(seen(0.7))[0] == pytest.approx(0.95)
    assert np.array_equal(policy(seen()), WANTED)


def test_a_held_target_stays_within_the_bounds() -> None:
    policy = StartingPolicy(Constant(), SPEC, RunControl(), hold_s=0.1)
    policy.reset()
    assert policy(seen(a=3.0, opening=-0.5))[[0, 3]].tolist() == [2.0, 0.0]


def test_no_episode_begins_during_a_pause() -> None:
    control, waiting = RunControl(), threading.Event()
    policy = StartingPolicy(Constant(), SPEC, control, on_wait=waiting.set)
    control.pause()
    begun = threading.Event()

    def begin() -> None:
        policy.reset()
        begun.set()

    thread = threading.Thread(target=begin)
    thread.start()
    assert waiting.wait(60.0)
    assert not begun.is_set()
    control.toggle()
    thread.join(60.0)
    assert begun.is_set()


def test_a_stop_ends_a_pause_for_good() -> None:
    control = RunControl()
    policy = StartingPolicy(Constant(), SPEC, control, on_wait=control.stop)
    control.pause()
    with pytest.raises(StoppedError):
        policy.reset()
    control.pause()
    assert not control.paused


def test_a_signal_ends_a_pause_too() -> None:
    asked: list[int] = []
    control = RunControl(lambda: bool(asked))
    control.pause()
    asked.append(15)
    with pytest.raises(StoppedError):
        control.wait_while_paused()
