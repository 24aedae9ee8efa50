"""`robot-rlpd actor`: a robot computer that acts and records by itself while a learner elsewhere trains on it."""

from __future__ import annotations

import contextlib
import json as json_format
import logging
import math
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deploy.runtime.onnx_policy import OnnxPolicy
from robot_rlpd.bridge.courier import Courier
from robot_rlpd.bridge.outbox import Outbox
from robot_rlpd.bridge.robots import REMOTE, open_robot
from robot_rlpd.bridge.security import check_address
from robot_rlpd.config import parse_json_object
from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.errors import BridgeError, ConfigError, DataError, RobotError, RobotRlpdError
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.limits import Watch
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import RandomPolicy
from robot_rlpd.rollout import rollout
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import check_contract
from robot_rlpd.spool import StoreListener
from robot_rlpd.task import SignalTask, Task, TaskOptions, load_task
from robot_rlpd.watchdog import AUTONOMOUS, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.bridge.policies import PublishedPolicy
    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Observation, Policy, Robot

logger = logging.getLogger(__name__)
PATIENCE = 3
"""Interrupted episodes in a row after which the actor gives up."""
TRIAL_CALLS = 50
"""How often a new policy is asked before it may act."""
WATCHED = ("command_timeout_s", "max_missed_ticks", "hold_after_ticks")
"""Limits of the watchdog, of which 0 is none."""
LARGEST_SHARE = 0.5
"""Of the control period that a policy may take for an action (99 % of the trial calls)."""


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Options of `actor`."""

    robot: str
    """Robot: sim:TASK, gymnasium:ID, a driver's NAME:ARGUMENT, or the address of a served one."""
    learner: str
    """Where `robot-rlpd train --listen` listens: tcp://HOST:PORT or ipc://PATH."""
    outbox: Path
    """Directory for episodes until the learner has them on its disk; made if it does not exist; one per actor."""
    name: str = ""
    """Name of this actor, shown at the learner and recorded; default that of the computer."""
    task: str = ""
    """Task that ends episodes; default: the robot's own signals."""
    episodes: int | None = None
    """Number of episodes, at least 1; default: until Ctrl-C."""
    pace: Literal["real", "fast"] = "real"
    """real: a step takes its control period; fast: a simulator in this process steps as fast as it can."""
    command_timeout_s: float = AUTONOMOUS.command_timeout_s or 0.0
    """Seconds that the policy may take over one action before the robot is stopped; 0 waits for ever. Real pace in this
    process only: a served robot's side has its own watchdog."""
    max_missed_ticks: int = AUTONOMOUS.max_missed_ticks or 0
    """Actions in a row that may come more than a period late before the robot is stopped; 0 for any number.
    Likewise."""
    hold_after_ticks: float = AUTONOMOUS.hold_after_ticks or 0.0
    """Control periods by which the next action may be late before a robot that moves on without one is held until it
    comes: speeds go to zero, a robot commanded by forces is stopped; 0 for never. Likewise."""
    max_episode_steps: int | None = None
    """Time limit of an episode in control steps, at least 1; default that of the task, else 1000."""
    env_kwargs: str = ""
    """JSON object: arguments of a gymnasium environment, or cameras, image_size, randomization,
    calibration, previous_actions of a simulated task."""
    deliver_s: float = 10.0
    """At the end, longest wait in seconds for the last episodes to be delivered; those left are delivered next time."""
    json: bool = False
    """Print one JSON object on standard output when done."""

    def __post_init__(self) -> None:
        check_address(self.learner)
        least = {"episodes": 1, "max_episode_steps": 1, "deliver_s": 0}
        for name, lowest in (least | dict.fromkeys(WATCHED, 0)).items():
            value = getattr(self, name)
            if value is not None and not (lowest <= value < math.inf):
                raise ConfigError(field=name, found=value, allowed=f"at least {lowest}, finite")


@dataclass
class Report:
    """What an actor did."""

    episodes: int = 0
    env_steps: int = 0
    interrupted: int = 0
    policies: int = 0
    rejected: int = 0


def actor(config: ActorConfig) -> int:
    """Act on a robot while a learner elsewhere trains: episodes go there, policies come back.

    Acts at random until the first policy comes. New policies are checked and swapped in between episodes. Every
    episode is kept in the outbox until the learner has it on its disk; while the learner is away the robot goes on. The
    first Ctrl-C (or SIGTERM) ends after the step that is running.
    """
    name = config.name or platform.node() or "actor"
    options = TaskOptions(
        env_kwargs=parse_json_object(config.env_kwargs, field="env_kwargs"), max_episode_steps=config.max_episode_steps
    )
    report = Report()
    with contextlib.ExitStack() as stack:
        should_stop = stack.enter_context(stop_on_signals())
        task, contract = _task(config, options)
        robot = stack.enter_context(_open(config, options))
        if contract is not None:
            check_contract(contract, robot.spec, who=f"robot '{robot.spec.name}'")
        outbox = stack.enter_context(Outbox(config.outbox))
        courier = Courier(config.learner, outbox, actor=name, spec=robot.spec)
        stack.callback(courier.close)
        seeds = np.random.default_rng()  # an actor that is started again must not do the same again
        act(robot, task, outbox, courier, seeds, config.episodes, should_stop, report=report, name=name)
        courier.wait_until_delivered(config.deliver_s)
        pending = len(outbox.pending())
    told = {**vars(report), "name": name, "delivered": courier.delivered, "pending": pending}
    told["torch_imported"] = "torch" in sys.modules
    sys.stdout.write((json_format.dumps(told) if config.json else _text(told, config)) + "\n")
    return 0


def act(
    robot: Robot,
    task: Task,
    outbox: Outbox,
    courier: Courier,
    seeds: np.random.Generator,
    episodes: int | None,
    should_stop: Callable[[], bool],
    *,
    report: Report,
    name: str,
) -> None:
    """Run episodes, the newest fit policy in each.

    Raises:
        RobotError: The robot failed several times in a row.
        MismatchError: The learner trains for another robot.
        StoreError: The outbox cannot be written; the robot is stopped.
    """
    policy: Policy = RandomPolicy(robot.spec, seeds)
    acting, failures = "random", 0
    while not should_stop() and (episodes is None or report.episodes < episodes):
        if (published := courier.take()) is not None:
            fit = _try_policy(published, robot, courier, report)
            if fit is not None:
                policy, acting = fit, f"onnx:{published.digest}"
        info = EpisodeInfo(policy=acting, notes=f"actor {name}")
        keeper = StoreListener(outbox)
        try:
            episode = rollout(
                robot,
                policy,
                task,
                seed=int(seeds.integers(EVALUATION_SEED_OFFSET)),
                info=info,
                listeners=(keeper,),
                should_stop=should_stop,
            )
            failures = 0
            _count(report, episode)
        except (BridgeError, RobotError) as error:
            failures += 1
            report.interrupted += 1
            if failures >= PATIENCE:
                raise
            logger.warning("episode interrupted (%s); trying another reset", error)
        courier.hurry()


def _count(report: Report, episode: Episode) -> None:
    report.episodes += 1
    report.env_steps += len(episode)
    logger.info(
        "episode %d: %s, %d steps, success %s", report.episodes, episode.info.ended, len(episode), episode.info.success
    )


def _try_policy(published: PublishedPolicy, robot: Robot, courier: Courier, report: Report) -> OnnxPolicy | None:
    try:
        policy = checked_policy(published.content, robot)
    except RobotRlpdError as error:
        report.rejected += 1
        logger.warning("policy %d is not taken: %s", published.number, error)
        courier.reject(published, str(error))
        return None
    report.policies += 1
    courier.acts(published)
    logger.info("policy %d acts from now on", published.number)
    return policy


def checked_policy(content: bytes, robot: Robot, now_s: Callable[[], float] = time.perf_counter) -> OnnxPolicy:
    """A policy that fits the robot, gives finite actions, and is quick enough for it.

    Raises:
        DataError: Damaged, not finite on observations within the bounds, or too slow.
        MismatchError: For another robot; names the field.
    """
    policy = OnnxPolicy(content, where="published policy")
    policy.check_robot(robot.spec)
    rng = np.random.default_rng(0)
    times_s = []
    for _ in range(TRIAL_CALLS):
        observation = _plausible_observation(robot, rng)
        began_s = now_s()
        robot.spec.action.validate(policy(observation))
        times_s.append(now_s() - began_s)
    slow_s, period_s = float(np.percentile(times_s, 99)), robot.spec.control_period_s
    if slow_s > LARGEST_SHARE * period_s:
        raise DataError(
            "the policy is too slow for this robot",
            field="latency",
            found=f"{slow_s * 1e3:.2f} ms",
            allowed=f"up to {LARGEST_SHARE * period_s * 1e3:.2f} ms, half a control period",
        )
    return policy


def _plausible_observation(robot: Robot, rng: np.random.Generator) -> Observation:
    """Uniform within the bounds, those wider than one unit cut off there; an image is any image."""
    observation = {}
    for spec in robot.spec.observation:
        reach = 255.0 if spec.dtype == "uint8" else 1.0
        low, high = (np.clip(np.resize(bound, spec.shape), -reach, reach) for bound in (spec.low, spec.high))
        observation[spec.name] = rng.uniform(low, high, spec.shape).astype(spec.dtype)
    return observation


def _task(config: ActorConfig, options: TaskOptions) -> tuple[Task, Any]:
    if not config.task:
        return SignalTask("signals", config.max_episode_steps or 1000), None
    setup = load_task(config.task, options)
    return setup.task, setup.spec.contract()


def _open(config: ActorConfig, options: TaskOptions) -> Robot:
    robot = open_robot(config.robot, options=replace(options, max_episode_steps=config.max_episode_steps))
    if config.robot.startswith(REMOTE):
        return robot  # limits and pace are on its own side
    if config.pace == "fast":
        return SafeRobot(robot)
    return watched(PacedRobot(robot), Watch(**{name: getattr(config, name) or None for name in WATCHED}))


def _text(told: dict[str, Any], config: ActorConfig) -> str:
    waiting = f"; {told['pending']} wait in {config.outbox} for the next time" if told["pending"] else ""
    return (
        f"{told['episodes']} episodes, {told['env_steps']} env_steps, {told['interrupted']} interrupted; "
        f"{told['policies']} policies taken, {told['rejected']} rejected; "
        f"{told['delivered']} episodes delivered{waiting}"
    )
