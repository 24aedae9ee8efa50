"""The known traps of RLPD and of its data, one or more tests each, numbered as in the list they come from.

Where it is cheap, a test also shows that the wrong way gives another result, so that it could tell.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from demos.converters import d4rl, robomimic
from demos.converters.conversion import Conversion, ConversionTarget
from demos.converters.fields import parse_fields
from demos.importing import import_episodes
from robot_rlpd.environment_task import GymnasiumTask
from robot_rlpd.episode import Ended, Episode, Transitions, transitions
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError
from robot_rlpd.evaluation import evaluate
from robot_rlpd.learner.presets import PRESETS
from robot_rlpd.learner.prior import fill_replay, load_prior
from robot_rlpd.learner.q_range import PATIENCE, QRangeAlarm
from robot_rlpd.learner.replay import ReplayBuffer, SymmetricSampler
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig
from robot_rlpd.rollout import SilentListener, rollout
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.task import Outcome, SignalTask, TaskOptions
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec, fake_success
from tests.robot_rlpd.learner.reference_update import (
    Inputs,
    Named,
    Reference,
    largest_differences,
    learner_after,
    scrambled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import PolicyContract
    from robot_rlpd.task import Signals, Task

CONFIG = RLPDConfig(hidden_dims=(13, 7), ensemble_size=4, subset_size=2, utd_ratio=2, batch_size=8)
SIZES = (4, 3)
TOLERANCE = 1e-10


def started(config: RLPDConfig = CONFIG) -> RLPD:
    """A learner in whose state no parameter has its starting value."""
    learner = RLPD(config, *SIZES, seed=0, dtype=torch.float64, compile=False)
    learner.load_state_dict(scrambled(learner.state_dict(), seed=0))
    return learner


def assert_not(wrong: type[Reference], shown_in: Sequence[str], config: RLPDConfig = CONFIG) -> None:
    """The update equals the reference, and differs from the wrong one in the named results."""
    learner, inputs = started(config), Inputs.draw(config, *SIZES, seed=0)
    state = learner.state_dict()
    found = learner_after(learner, inputs)
    right, mistaken = (kind(config, state).after(inputs) for kind in (Reference, wrong))
    assert max(largest_differences(found, right).values()) <= TOLERANCE
    differences = largest_differences(found, mistaken)
    assert {name for name in shown_in if differences[name] > 1e-6} == set(shown_in)


# 1: in the paper's algorithm 1, the sign of the entropy and the weights of the target average are swapped


class EntropyIsAPenalty(Reference):
    def entropy_term(self, log_density: Tensor) -> Tensor:
        return -super().entropy_term(log_density)


class TargetsTakeMostOfTheCritic(Reference):
    def average_targets(self) -> None:
        for name in self.names("critic"):
            old, new = self.state[f"target/{name}"], self.state[f"critic/{name}"]
            self.state[f"target/{name}"] = self.config.tau * old + (1.0 - self.config.tau) * new


def test_trap_1_entropy_backup_adds_entropy_and_does_not_subtract_it() -> None:
    without, inputs = replace(CONFIG, backup_entropy=False), Inputs.draw(CONFIG, *SIZES, seed=0)
    (first, _), size = inputs.minibatches(), CONFIG.batch_size
    reference = Reference(CONFIG, started().state_dict())
    _, log_density = reference.sample(reference.actor(), first["next_observations"], inputs.critic_noise[0])
    added = learner_after(started(), inputs)["target_q"][0] - learner_after(started(without), inputs)["target_q"][0]
    expected = -CONFIG.discount * CONFIG.initial_temperature * first["masks"] * log_density
    torch.testing.assert_close(added, expected, rtol=0, atol=TOLERANCE)
    unlikely = (log_density < 0) & (first["masks"] > 0)
    assert 0 < int(unlikely.sum()) < size
    assert (added[unlikely] > 0).all()
    assert_not(EntropyIsAPenalty, ["target_q", "critic_loss", "critic/out/kernel"])


def test_trap_1_the_target_average_keeps_most_of_the_target() -> None:
    config = replace(CONFIG, utd_ratio=1)
    learner = started(config)
    before = learner.state_dict()
    after = learner_after(learner, Inputs.draw(config, *SIZES, seed=0))
    for name in (name for name in before if name.startswith("target/")):
        new = after[name.replace("target/", "critic/")]
        torch.testing.assert_close(after[name], 0.995 * before[name] + 0.005 * new, rtol=0, atol=TOLERANCE)
        assert (after[name] - before[name]).norm() < 0.01 * (new - before[name]).norm()
    assert_not(TargetsTakeMostOfTheCritic, ["target/dense0/kernel", "target/out/bias"])


# 2: with entropy backup left on, Q of a sparse task leaves every return that exists


def targets(calls: int, *, reward: float, discount: float, backup_entropy: bool) -> list[tuple[float, float]]:
    """Smallest and largest regression target of each call, where every reward is the same and nothing terminates."""
    config = RLPDConfig(
        hidden_dims=(16, 16),
        ensemble_size=3,
        utd_ratio=10,
        batch_size=32,
        backup_entropy=backup_entropy,
        discount=discount,
        tau=0.3,
        critic_lr=1e-2,
        actor_lr=1e-3,
        temperature_lr=1e-4,
    )
    learner = RLPD(config, 2, 6, seed=0, compile=False)
    found = []
    for call in range(calls):
        inputs = Inputs.draw(config, 2, 6, seed=call).to(torch.float32)
        ones = torch.ones_like(inputs.batch["rewards"])
        inputs = replace(inputs, batch=inputs.batch | {"rewards": reward * ones, "masks": ones})
        target_q = learner_after(learner, inputs)["target_q"]
        found.append((float(target_q.min()), float(target_q.max())))
    return found


def test_trap_2_without_any_reward_q_drifts_to_hundreds_with_entropy_backup_and_not_without() -> None:
    drifting = targets(30, reward=0.0, discount=0.99, backup_entropy=True)
    assert drifting[-1][0] > 100.0
    assert drifting[-1][0] > drifting[-6][1]  # and is not done
    settled = targets(30, reward=0.0, discount=0.99, backup_entropy=False)
    assert max(-settled[-1][0], settled[-1][1]) < 4.0  # an untrained critic starts as far outside


def test_trap_2_the_self_check_warns_once_after_a_sustained_excess_and_never_stops_on_it() -> None:
    check = QRangeAlarm(RLPDConfig(backup_entropy=False, discount=0.9))
    check.see(-1.0, 0.0)
    drifting = targets(40, reward=-1.0, discount=0.9, backup_entropy=True)
    assert min(highest for _, highest in drifting[5:]) > 10.0  # impossible: no reward is above 0
    told = [check.check(*extremes) for extremes in drifting]
    first = next(call for call, (_, highest) in enumerate(drifting) if highest > 0.5)
    assert [call for call, warning in enumerate(told) if warning] == [first + PATIENCE - 1]
    assert "outside [-10.0, 0.0]" in told[first + PATIENCE - 1]
    assert not any(check.check(*drifting[-1]) for _ in range(10 * PATIENCE))


def test_trap_2_the_self_check_is_silent_where_q_settles() -> None:
    check = QRangeAlarm(RLPDConfig(backup_entropy=False, discount=0.9))
    check.see(-1.0, 0.0)
    settling = targets(40, reward=-1.0, discount=0.9, backup_entropy=False)
    assert not any(check.check(*extremes) for extremes in settling)
    assert -10.5 < settling[-1][0] < settling[-1][1] < -9.5


def test_trap_2_entropy_backup_is_off_in_every_preset_for_sparse_rewards() -> None:
    assert [name for name, config in PRESETS.items() if config.backup_entropy] == ["locomotion"]


# 3: one batched LayerNorm shares its scale and bias between members


class MembersShareTheirNormalisation(Reference):
    def members(self, group: str) -> list[Named]:
        first = super().members(group)[0]
        shared = {name: first[name] for name in first if name.startswith("ln")}
        return [member | shared for member in super().members(group)]


@pytest.mark.parametrize("parameter", ["ln0/scale", "ln1/bias"])
def test_trap_3_each_member_has_a_scale_and_a_bias_of_its_own(parameter: str) -> None:
    config = replace(CONFIG, discount=0.0, utd_ratio=1)  # the targets are the rewards, so that members never meet
    one, changed = started(config), started(config)
    state = changed.state_dict()
    state[f"critic/{parameter}"][2] += 0.5
    changed.load_state_dict(state)
    inputs = Inputs.draw(config, *SIZES, seed=0)
    left, right = learner_after(one, inputs), learner_after(changed, inputs)
    for name in (name for name in left if name.startswith("adam/critic/mu/")):
        same = [bool(torch.equal(left[name][member], right[name][member])) for member in range(4)]
        assert same == [True, True, False, True], name


def test_trap_3_an_update_with_a_shared_normalisation_is_another_one() -> None:
    assert_not(MembersShareTheirNormalisation, ["q_mean", "target_q", "critic/ln0/scale", "critic/ln1/bias"])


# 4: the actor that takes the minimum over critics, and the target entropy that is twice as low


class ActorOfTheSmallestCritic(Reference):
    def actors_value(self, values: list[Tensor]) -> Tensor:
        return torch.stack(values).min(dim=0).values


class ActorOfTwoCritics(Reference):
    def actors_critics(self) -> list[Named]:
        return super().actors_critics()[:2]


class ActorOfTheTargets(Reference):
    def actors_critics(self) -> list[Named]:
        return self.members("target")


class TargetEntropyOfMinusTheActionSize(Reference):
    def target_entropy(self) -> float:
        return 2.0 * super().target_entropy()


@pytest.mark.parametrize("wrong", [ActorOfTheSmallestCritic, ActorOfTwoCritics, ActorOfTheTargets])
def test_trap_4_the_actor_follows_the_mean_over_all_online_critics(wrong: type[Reference]) -> None:
    assert_not(wrong, ["actor_loss", "adam/actor/mu/mean/kernel", "adam/actor/mu/log_std/bias"])


def test_trap_4_the_target_entropy_is_minus_half_the_action_size() -> None:
    found = learner_after(started(), Inputs.draw(CONFIG, *SIZES, seed=0))
    aimed_at = found["entropy"] - found["temperature_loss"] / found["temperature"]
    assert float(aimed_at) == pytest.approx(-SIZES[1] / 2, abs=1e-12)
    assert_not(TargetEntropyOfMinusTheActionSize, ["temperature_loss", "adam/temperature/mu"])


# 5: the share of offline data, at any ratio


def marked(reward: float, num: int = 3) -> ReplayBuffer:
    """A replay buffer whose every reward is the same."""
    buffer = ReplayBuffer(1, 1, capacity=10)
    for _ in range(num):
        buffer.append(np.zeros(1), np.zeros(1), reward, 1.0, np.zeros(1))
    return buffer


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 33), st.integers(1, 4))
@example(1, 2, 5, 2)  # 2.5: rounding to even or toward zero gives 2
@example(1, 2, 1, 1)
@example(0, 1, 8, 1)
@example(1, 1, 8, 1)
@example(9, 10, 7, 3)  # 6.3
def test_trap_5_each_minibatch_holds_the_share_rounded_half_up(top: int, bottom: int, size: int, updates: int) -> None:
    share = Fraction(min(top, bottom), bottom)
    expected = math.floor(share * size + Fraction(1, 2))
    sampler = SymmetricSampler([marked(1.0)], marked(0.0), float(share))
    rewards = sampler.sample(updates, size, torch.Generator().manual_seed(0))["rewards"].view(updates, size)
    assert rewards.sum(dim=1).tolist() == [expected] * updates


def test_trap_5_all_offline_needs_no_online_data_and_all_online_no_offline_data() -> None:
    generator = torch.Generator().manual_seed(0)
    empty = ReplayBuffer(1, 1, capacity=10)
    assert SymmetricSampler([marked(1.0)], empty, 1.0).sample(2, 3, generator)["rewards"].tolist() == [1.0] * 6
    nothings: tuple[tuple[ReplayBuffer, ...], ...] = ((), (empty,))
    for nothing in nothings:
        assert SymmetricSampler(nothing, marked(0.0), 0.0).sample(2, 3, generator)["rewards"].tolist() == [0.0] * 6


# 6: a time limit is truncation, not termination


class StandingStill(FakePolicy):
    def __call__(self, observation: Observation) -> Action:
        return np.zeros(2, np.float32)


def as_learned(found: Sequence[Transitions], contract: PolicyContract) -> Named:
    """All transitions in their order, as the learner is given them."""
    replay = ReplayBuffer(contract.observation_size, contract.action.size, capacity=1000)
    fill_replay(replay, found, contract, None)
    order = torch.Generator().manual_seed(0)
    drawn = replay.sample(40 * len(replay), order)  # enough draws for each to come
    columns = torch.cat([column.reshape(len(drawn["masks"]), -1) for column in drawn.values()], dim=1)
    widths = [column.reshape(len(drawn["masks"]), -1).shape[1] for column in drawn.values()]
    rows = torch.unique(columns, dim=0)
    parts = dict(zip(drawn, torch.split(rows, widths, dim=1), strict=True))
    return parts | {name: parts[name][:, 0] for name in ("rewards", "masks")}


def learned_target(last: Transitions) -> tuple[float, float]:
    """Reward and regression target of the last of these transitions of the fake robot."""
    config = replace(CONFIG, backup_entropy=False, utd_ratio=1, batch_size=1)
    learner = RLPD(config, 4, 2, seed=0, dtype=torch.float64, compile=False)
    contract = FakeRobot().spec.contract()
    row = {
        "observations": contract.flatten(last.observations)[-1:],
        "actions": contract.action.to_unit(last.executed_actions)[-1:],
        "rewards": last.rewards[-1:],
        "masks": last.masks[-1:],
        "next_observations": contract.flatten(last.next_observations)[-1:],
    }
    inputs = Inputs.draw(config, 4, 2, seed=0)
    inputs = replace(inputs, batch={name: torch.from_numpy(array).double() for name, array in row.items()})
    return float(last.rewards[-1]), float(learner_after(learner, inputs)["target_q"][0, 0])


def test_trap_6_after_a_time_limit_the_learner_bootstraps() -> None:
    task = FakeTask(max_episode_steps=5)
    episode = rollout(FakeRobot(), StandingStill(), task, seed=3)
    found = transitions(episode, task, ["position", "target"])
    assert (episode.info.ended, len(found)) == (Ended.TRUNCATED, 5)
    assert found.masks.tolist() == [1.0] * 5
    reward, target_q = learned_target(found)
    assert abs(target_q - reward) > 1e-3


def test_trap_6_after_a_termination_it_does_not_even_at_the_time_limit() -> None:
    free = rollout(FakeRobot(), FakePolicy(), FakeTask(), seed=3)
    task = FakeTask(max_episode_steps=len(free))
    episode = rollout(FakeRobot(), FakePolicy(), task, seed=3)
    found = transitions(episode, task, ["position", "target"])
    assert (episode.info.ended, len(episode)) == (Ended.TERMINATED, len(free))
    assert found.masks.tolist() == [1.0] * (len(free) - 1) + [0.0]
    reward, target_q = learned_target(found)
    assert target_q == reward


class CutOff(FakeTask):
    """The robot's side cuts off at the second step."""

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        moved = float(np.abs(next_observation["position"]).sum()) > 0.15
        return Outcome(reward=-1.0, truncated=moved)


class Creeping(FakePolicy):
    def __call__(self, observation: Observation) -> Action:
        return np.full(2, 0.05, np.float32)


def test_trap_6_a_robot_that_is_cut_off_bootstraps_too() -> None:
    episode = rollout(FakeRobot(), Creeping(), CutOff(), seed=3)
    found = transitions(episode, CutOff(), ["position", "target"])
    assert (episode.info.ended, len(found)) == (Ended.TRUNCATED, 2)
    assert found.masks.tolist() == [1.0, 1.0]


def test_trap_6_a_file_that_stores_time_outs_as_done_is_not_taken_at_its_word(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for index, reward in enumerate((1.0, 0.0)):
            demo = file.create_group(f"data/demo_{index}")
            demo["actions"] = np.zeros((3, 2))
            demo["rewards"] = np.array([0.0, 0.0, reward])
            demo["dones"] = np.array([0, 0, 1])
            demo["obs/x"], demo["next_obs/x"] = np.zeros((3, 1)), np.ones((3, 1))
    solved, timed_out = robomimic.read(tmp_path / "data.hdf5", ConversionTarget(control_rate_hz=20.0))
    assert transitions(solved, SignalTask(), ["x"]).masks.tolist() == [1.0, 1.0, 0.0]
    assert transitions(timed_out, SignalTask(), ["x"]).masks.tolist() == [1.0, 1.0, 1.0]
    assert (solved.info.ended, timed_out.info.ended) == (Ended.TERMINATED, Ended.TRUNCATED)


# 7: D4RL's layout has no next observation after an episode's last step


def write(path: Path, **data: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file[name.replace("__", "/")] = np.asarray(values)
    return path


def flags(num: int, *rows: int) -> list[bool]:
    return [row in rows for row in range(num)]


def box(**fields: int) -> RobotSpec:
    """A robot of flat observation fields with two actions within [-1, 1]."""
    return RobotSpec(
        name="box",
        observation=tuple(ArraySpec(name=name, shape=(size,)) for name, size in fields.items()),
        action=ActionSpec(components=(ActionComponent(name="a"), ActionComponent(name="b"))),
        control_rate_hz=20.0,
        signals=fake_spec().signals,
    )


def stored(conversion: Conversion, out: Path) -> Path:
    import_episodes(conversion, out, append=False)
    return out


def test_trap_7_a_terminated_last_step_is_kept_and_a_timed_out_one_dropped(tmp_path: Path) -> None:
    path = write(  # three episodes: rows 0-3 terminated, 4-6 timed out, 7 terminated at its first step
        tmp_path / "data.hdf5",
        observations=np.arange(8.0)[:, None],
        actions=np.zeros((8, 2)),
        rewards=-np.arange(8.0),
        terminals=flags(8, 3, 7),
        timeouts=flags(8, 6),
    )
    conversion = d4rl.read(path, ConversionTarget(spec=box(observation=1)))
    store = stored(conversion, tmp_path / "data.zarr")
    (found,), report = load_prior([store], SignalTask(), conversion.spec.contract())
    learned = as_learned(found, conversion.spec.contract())
    assert sorted(learned["observations"][:, 0].tolist()) == [0, 1, 2, 3, 4, 5, 7]
    assert (report.transitions, report.unusable_steps) == (7, 1)
    for n, row in enumerate(learned["observations"][:, 0].tolist()):
        terminated = row in (3, 7)
        assert (float(learned["rewards"][n]), float(learned["masks"][n])) == (-row, 0.0 if terminated else 1.0)
        if not terminated:  # the row after: never that of the next episode
            assert float(learned["next_observations"][n, 0]) == row + 1
            assert {row, row + 1} <= {0, 1, 2, 3} or {row, row + 1} <= {4, 5, 6}


# 8: human data: actions outside the bounds, episodes longer than the limit, no success flag

HUMAN_ACTIONS = np.array([[0.2, -0.3], [3.0, 0.5], [-1.5, -9.0], [1.0, -1.0], [0.0, 1.001], [0.5, 0.5], [0.1, 0.1]])
DOOR_OPEN = "observation[0] >= 4"


def human(tmp_path: Path, task: Task | None) -> Conversion:
    """An episode of seven steps and one of two, whose observation counts up; the task's limit is five."""
    path = write(
        tmp_path / "human.hdf5",
        observations=np.array([0, 1, 2, 3, 4, 5, 6, 0, 1], np.float64)[:, None],
        actions=np.concatenate([HUMAN_ACTIONS, np.zeros((2, 2))]),
        rewards=np.full(9, 77.0),  # an older dense reward
        terminals=flags(9),
        timeouts=flags(9, 6, 8),
    )
    return d4rl.read(path, ConversionTarget(spec=box(observation=1), task=task))


def door(success_when: str = DOOR_OPEN) -> GymnasiumTask:
    return GymnasiumTask("door", 5, TaskOptions(reward="sparse", success_when=success_when))


def test_trap_8_actions_outside_the_bounds_are_learned_clipped_and_kept_raw(tmp_path: Path) -> None:
    conversion = human(tmp_path, door())
    with EpisodeStore.open(stored(conversion, tmp_path / "human.zarr")) as store:
        first = next(iter(store))
    np.testing.assert_array_equal(first.actions, HUMAN_ACTIONS.astype(np.float32))
    clipped = np.clip(HUMAN_ACTIONS, -1.0, 1.0).astype(np.float32)
    np.testing.assert_array_equal(first.executed_actions, clipped)
    assert (conversion.report.clipped_steps, conversion.report.clipped_share) == (3, 3 / 9)
    (found,), _ = load_prior([tmp_path / "human.zarr"], door(), conversion.spec.contract())
    learned = as_learned(found, conversion.spec.contract())
    expected = {(0.0, 0.0), *map(tuple, clipped[:6].tolist())}
    assert set(map(tuple, learned["actions"].tolist())) == expected
    assert learned["actions"].abs().max() <= 1.0 < np.abs(first.actions).max()


def test_trap_8_an_episode_longer_than_the_limit_is_reported_and_kept_whole(tmp_path: Path) -> None:
    conversion = human(tmp_path, door())
    assert [len(episode) for episode in conversion] == [7, 2]
    report = conversion.report
    assert (report.longer_than_limit, report.longest, report.max_episode_steps) == (1, 7, 5)


def test_trap_8_success_is_asked_for_where_the_file_does_not_say_it(tmp_path: Path) -> None:
    conversion = human(tmp_path, door(success_when=""))
    store = stored(conversion, tmp_path / "human.zarr")
    assert conversion.report.successes is None
    assert "--success-when" in conversion.report.success_unknown_because
    with EpisodeStore.open(store) as opened:
        assert {episode.info.success for episode in opened.infos()} == {None}
    with pytest.raises(DataError, match=r"signals\.success: .*--success-when"):
        load_prior([store], door(success_when=""), conversion.spec.contract())
    with pytest.raises(DataError, match=r"cannot be relabelled.*--reward sparse"):  # nor is the old reward used unasked
        load_prior([store], GymnasiumTask("door", 5, TaskOptions()), conversion.spec.contract())


def test_trap_8_success_is_labelled_by_the_condition_and_the_old_reward_is_not_used(tmp_path: Path) -> None:
    conversion = human(tmp_path, door())
    assert [episode.info.success for episode in conversion] == [True, False]
    assert conversion.report.successes == 1
    (found,), report = load_prior([stored(conversion, tmp_path / "human.zarr")], door(), conversion.spec.contract())
    assert [part.rewards.tolist() for part in found] == [[-1, -1, -1, 0, 0, 0], [-1]]
    assert (report.successes, report.success_transitions) == (1, 3)


# 9: where goals vary, the goal is part of the observation or rewards are recomputed for one goal

GOALS = [(2.0, 0.0), (0.0, 2.0), (2.0, 0.0)]
FIELDS = ["achieved_goal=observations[0:2]", "joints=observations[2:4]", "desired_goal=infos/goal"]
AT_ITS_GOAL = "norm(achieved_goal - desired_goal) < 0.5"
AT_ONE_GOAL = "abs(achieved_goal[0] - 2) < 0.5 and abs(achieved_goal[1]) < 0.5"


def maze(tmp_path: Path, *, terminal: bool = False) -> Conversion:
    """Three episodes of four steps along x; the goal of the second lies elsewhere, so that it passes another's.

    Args:
        tmp_path: Where the file goes.
        terminal: Whether the file says that the second episode ended at its second step, at the goal it had then.
    """
    steps = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)]
    path = write(
        tmp_path / "maze.hdf5",
        observations=[(*xy, 0.1, 0.2) for _ in GOALS for xy in steps],
        infos__goal=[goal for goal in GOALS for _ in steps],
        actions=np.zeros((12, 2)),
        rewards=np.zeros(12),  # of some other goal
        terminals=flags(12, *([5] if terminal else [])),
        timeouts=flags(12, 3, 7, 11),
    )
    spec = box(achieved_goal=2, desired_goal=2, joints=2)
    return d4rl.read(path, ConversionTarget(spec=spec, fields=parse_fields(FIELDS)))


def maze_task(success_when: str) -> GymnasiumTask:
    return GymnasiumTask("maze", 700, TaskOptions(reward="sparse", success_when=success_when))


def test_trap_9_the_goal_is_part_of_what_the_learner_observes(tmp_path: Path) -> None:
    conversion = maze(tmp_path)
    task, spec = maze_task(AT_ITS_GOAL), conversion.spec
    found = [transitions(episode, task, [s.name for s in spec.observation]) for episode in conversion]
    assert contradictions(as_learned(found, spec.contract())) == 0
    assert contradictions(as_learned(found, spec.contract(["achieved_goal", "joints"]))) > 0  # without the goal


def contradictions(learned: Named) -> int:
    """Pairs of the same observation, action and next observation with another reward."""
    seen: dict[tuple[float, ...], set[float]] = {}
    state = torch.cat([learned["observations"], learned["actions"], learned["next_observations"]], dim=1)
    for row, reward in zip(state.tolist(), learned["rewards"].tolist(), strict=True):
        seen.setdefault(tuple(row), set()).add(reward)
    return sum(len(rewards) > 1 for rewards in seen.values())


def test_trap_9_rewards_are_recomputed_for_each_episodes_own_goal(tmp_path: Path) -> None:
    conversion = maze(tmp_path)
    store = stored(conversion, tmp_path / "maze.zarr")
    (found,), report = load_prior([store], maze_task(AT_ITS_GOAL), conversion.spec.contract())
    assert [part.rewards.tolist() for part in found] == [[-1, 0, -1], [-1, -1, -1], [-1, 0, -1]]
    assert (report.successes, report.success_transitions) == (2, 2)


def test_trap_9_or_for_one_goal_whatever_the_goal_was_when_they_were_recorded(tmp_path: Path) -> None:
    conversion = maze(tmp_path)
    store = stored(conversion, tmp_path / "maze.zarr")
    contract = conversion.spec.contract(["achieved_goal", "joints"])  # then the goal need not be observed
    (found,), report = load_prior([store], maze_task(AT_ONE_GOAL), contract)
    assert [part.rewards.tolist() for part in found] == [[-1, 0, -1]] * 3
    assert contradictions(as_learned(found, contract)) == 0
    assert report.successes == 3


def test_trap_9_an_end_at_the_goal_of_that_time_is_no_end_for_another_goal(tmp_path: Path) -> None:
    conversion = maze(tmp_path, terminal=True)
    store = stored(conversion, tmp_path / "maze.zarr")
    (found,), _ = load_prior([store], maze_task(AT_ONE_GOAL), conversion.spec.contract())
    ends = [(reward, mask) for part in found for reward, mask in zip(part.rewards, part.masks, strict=True)]
    assert (-1.0, 0.0) not in ends  # worth -1 for ever, better than anywhere but the goal


# 10: Adroit's score is the share of solved steps, not the success rate


class Touch(FakeTask):
    """Solved while the point is at its target; goes on afterwards."""

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        success = fake_success(next_observation)
        return Outcome(reward=float(success) - 1.0, success=success)


class TouchAndGo(FakePolicy):
    """Walks to the target, and leaves for good once there. Gives up at once where the target lies to the left."""

    def reset(self) -> None:
        self.leaving = False

    def __call__(self, observation: Observation) -> Action:
        self.leaving |= fake_success(observation) or bool(observation["target"][0] < 0)
        return np.full(2, -0.5, np.float32) if self.leaving else super().__call__(observation)


class Kept(SilentListener):
    def __init__(self) -> None:
        self.episodes: list[Episode] = []

    def on_end(self, episode: Episode) -> None:
        self.episodes.append(episode)


def test_trap_10_an_evaluation_tells_the_success_rate_and_the_share_of_solved_steps() -> None:
    kept = Kept()
    told = evaluate(FakeRobot(), TouchAndGo(), Touch(max_episode_steps=8), episodes=30, listeners=(kept,)).to_json()
    solved = [
        [fake_success({name: rows[t + 1] for name, rows in episode.observations.items()}) for t in range(len(episode))]
        for episode in kept.episodes
    ]
    assert told["success_rate"] == sum(any(steps) for steps in solved) / 30
    assert told["solved_step_share"] == sum(sum(steps) for steps in solved) / sum(len(steps) for steps in solved)
    assert 0.2 < told["success_rate"] < 0.8
    assert 0.0 < told["solved_step_share"] < told["success_rate"] / 5


def test_trap_10_every_episode_of_an_evaluation_has_a_goal_of_its_own() -> None:
    kept = Kept()
    told = evaluate(FakeRobot(), FakePolicy(), FakeTask(), episodes=100, listeners=(kept,)).to_json()
    assert told["episodes"] == 100
    assert len({tuple(episode.observations["target"][0]) for episode in kept.episodes}) == 100
    assert told["ci95"][1] - told["ci95"][0] < 0.2


# The report of prior data tells what was decided


def test_traps_7_to_9_what_was_dropped_and_found_solved_is_in_the_report(tmp_path: Path) -> None:
    conversion = human(tmp_path, door())
    _, report = load_prior([stored(conversion, tmp_path / "human.zarr")], door(), conversion.spec.contract())
    assert (report.episodes, report.transitions, report.unusable_steps) == (2, 7, 2)
    assert "solved in 1 episodes (3 transitions); 2 steps unusable" in str(report)
