from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.buttons import Buttons
from robot_rlpd.learner.corrector_device import corrector_of
from robot_rlpd.learner.finetune_config import FinetuneConfig, TakeoverKind
from robot_rlpd.learner.interventions import HandsOn, InterventionPolicy, LateCorrector, StuckCorrector
from robot_rlpd.robot import Action, Observation, Policy, Source
from robot_rlpd.specs import ActionComponent, ActionSpec
from robot_rlpd.testing import FakePolicy, fake_spec

ARM = ActionSpec(
    components=(
        ActionComponent(name="dx", low=-0.1, high=0.1, mode="delta"),
        ActionComponent(name="dy", low=-0.1, high=0.1, mode="delta"),
        ActionComponent(name="gripper", low=0.0, high=0.08),
    )
)
JOINTS = ActionSpec(components=(ActionComponent(name="joint", low=-1.0, high=1.0),))
RATE_HZ = 10.0
STILL, LEFT = [0.0, 0.0, 0.08], [0.1, 0.0, 0.08]
SWITCHED = [0.0, 0.0, 0.0]


class Device:
    """Shows what it was given, one row per step, then the last one for ever."""

    source = Source.HUMAN

    def __init__(self, *rows: list[float]) -> None:
        self._rows = [np.array(row, np.float32) for row in rows]
        self.pressed: list[str] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def poll(self) -> list[str]:
        pressed, self.pressed = self.pressed, []
        return pressed

    def __call__(self, observation: Observation) -> Action:
        return (self._rows.pop(0) if len(self._rows) > 1 else self._rows[0]).copy()


class Constant:
    """A policy that holds a cube: its gripper is closed."""

    source = Source.POLICY

    def __init__(self, *action: float) -> None:
        self._action = np.array(action, np.float32)

    def reset(self) -> None: ...

    def __call__(self, observation: Observation) -> Action:
        return self._action.copy()


HOLDING = Constant(0.02, 0.02, 0.01)


def switching(device: Device, policy: Constant = HOLDING, spec: ActionSpec = ARM) -> InterventionPolicy:
    switched = InterventionPolicy(policy, HandsOn(device, spec, RATE_HZ, Buttons(device.poll)))
    switched.reset()
    return switched


def acting(policy: InterventionPolicy) -> Source:
    policy({})
    return policy.source


def test_the_policy_acts_as_long_as_nobody_touches_the_device() -> None:
    policy = switching(Device(STILL))
    for _ in range(10):
        assert np.array_equal(policy({}), HOLDING({}))
        assert policy.source is Source.POLICY


def test_a_touch_takes_over_at_once_and_a_device_left_alone_gives_back() -> None:
    policy = switching(Device(STILL, LEFT, STILL))
    sources = []
    for _ in range(8):
        policy({})
        sources.append(policy.source)
    # Half a second at 10 Hz are five steps.
    assert sources == [Source.POLICY, *[Source.HUMAN] * 5, *[Source.POLICY] * 2]


def test_the_gripper_stays_where_the_policy_had_it_until_the_person_switches_it() -> None:
    policy = switching(Device(STILL, LEFT, LEFT, SWITCHED, SWITCHED, STILL))
    grippers = [float(policy({})[2]) for _ in range(6)]
    assert grippers == pytest.approx([0.01, 0.01, 0.01, 0.08, 0.08, 0.0])
    assert policy.source is Source.HUMAN


def test_the_pause_button_keeps_the_robot_in_the_persons_hand() -> None:
    device = Device(STILL)
    policy = switching(device)
    device.pressed = ["pause"]
    held = [policy({}) for _ in range(20)]
    assert policy.source is Source.HUMAN
    assert np.allclose(held, [0.0, 0.0, 0.01])
    device.pressed = ["pause"]
    assert acting(policy) is Source.POLICY


def test_a_leading_device_takes_over_by_its_button_only() -> None:
    device = Device([0.3], [0.5], [0.7])
    policy = switching(device, Constant(0.0), JOINTS)
    assert policy({}) == [0.0]
    device.pressed = ["pause"]
    assert policy({}) == pytest.approx([0.5])
    assert policy({}) == pytest.approx([0.7])
    assert policy.source is Source.HUMAN


def test_every_episode_begins_with_the_policy() -> None:
    device = Device(LEFT)
    policy = switching(device)
    assert acting(policy) is Source.HUMAN
    policy.reset()
    assert policy.source is Source.POLICY
    assert device.resets >= 2


def test_a_script_takes_over_when_it_is_late_and_not_before() -> None:
    policy = InterventionPolicy(Constant(0.0, 0.0), LateCorrector(FakePolicy(), after_steps=3))
    observation = {"position": np.zeros(2, np.float32), "target": np.ones(2, np.float32)}
    for _ in range(2):
        policy.reset()
        chosen = [(policy(observation)[0] > 0, policy.source) for _ in range(5)]
        assert chosen == [(False, Source.POLICY)] * 3 + [(True, Source.SCRIPTED)] * 2


class Seeing(FakePolicy):
    """An expert that sees how far it is."""

    def remaining_m(self, observation: Observation) -> float:
        return float(observation["left"])


def sources_over(ways_m: list[float], patience_steps: int = 3) -> str:
    """Who acts while the way that is left is as given: P the policy, S the script."""
    policy = InterventionPolicy(Constant(0.0, 0.0), StuckCorrector(Seeing(), patience_steps))
    policy.reset()
    sources = []
    for left in ways_m:
        nowhere = np.zeros(2, np.float32)
        policy({"left": np.array(left), "position": nowhere, "target": nowhere})
        sources.append("S" if policy.source is Source.SCRIPTED else "P")
    return "".join(sources)


def test_a_policy_that_gets_on_is_left_alone_however_long_it_takes() -> None:
    assert sources_over([1.0 - 0.01 * step for step in range(90)]) == 90 * "P"


def test_a_policy_that_stands_still_is_taken_over_when_patience_is_at_its_end() -> None:
    assert sources_over([1.0, 0.9, 0.9, 0.899, 0.898, 0.897]) == "PPPPSS"


def test_going_back_is_no_progress_and_neither_is_making_up_for_it() -> None:
    assert sources_over([0.5, 0.6, 0.55, 0.51, 0.5]) == "PPPSS"


def test_the_script_gives_back_when_half_of_the_way_is_done_and_the_policy_has_its_patience_anew() -> None:
    assert sources_over([0.4, 0.4, 0.4, 0.4, 0.3, 0.21, 0.2, 0.2, 0.2, 0.2, 0.2]) == "PPPSSSPPPSS"


def test_an_episode_after_one_that_was_taken_over_begins_with_the_policy() -> None:
    policy = InterventionPolicy(Constant(0.0, 0.0), StuckCorrector(Seeing(), 1))
    there = {"left": np.array(0.3), "position": np.zeros(2, np.float32), "target": np.zeros(2, np.float32)}
    sources = []
    for _ in range(2):
        policy.reset()
        for _ in range(2):
            policy(there)
            sources.append(policy.source)
    assert sources == 2 * [Source.POLICY, Source.SCRIPTED]


@pytest.mark.parametrize(
    ("device", "takeover", "expected"),
    [
        (Device(STILL), "stuck", HandsOn),
        (Device(STILL), "late", HandsOn),
        (FakePolicy(), "late", LateCorrector),
        (Seeing(), "stuck", StuckCorrector),
    ],
)
def test_who_takes_over_with_a_device_depends_on_who_operates_it(
    device: Policy, takeover: TakeoverKind, expected: type
) -> None:
    finetune = FinetuneConfig(start=Path("start"), minutes=1.0, intervene="some", takeover=takeover)
    assert isinstance(corrector_of(device, finetune, fake_spec(), Buttons(list), max_episode_steps=9), expected)


def test_a_script_that_does_not_see_who_is_stuck_is_refused() -> None:
    finetune = FinetuneConfig(start=Path("start"), minutes=1.0, intervene="some", takeover="stuck")
    with pytest.raises(ConfigError, match=r"intervene: .*found some; --takeover late"):
        corrector_of(FakePolicy(), finetune, fake_spec(), Buttons(list), max_episode_steps=9)


def test_a_button_is_for_who_listens_to_it_and_pressed_once() -> None:
    device = Device(STILL)
    buttons = Buttons(device.poll)
    device.pressed = ["pause", "success", "quit"]
    assert buttons.take("success", "failure") == ["success"]
    assert buttons.take("pause") == ["pause"]
    assert buttons.take("pause", "success") == []
    buttons.forget("quit")
    assert buttons.take("quit") == []


def test_who_pressed_quit_once_has_quit() -> None:
    device = Device(STILL)
    buttons = Buttons(device.poll)
    assert not buttons.pressed("quit")
    device.pressed = ["quit", "success"]
    assert buttons.pressed("quit")
    assert buttons.take("success") == ["success"]
    assert buttons.pressed("quit")
