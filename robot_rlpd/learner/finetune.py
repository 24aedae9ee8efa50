"""A session of fine-tuning: a training session that begins with a policy, and does not lose it."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.clock import Clock, MonotonicClock
from robot_rlpd.errors import BridgeError, RobotError
from robot_rlpd.learner.checkpoint import BEST, LATEST, load_checkpoint, save_checkpoint
from robot_rlpd.learner.finetune_config import START
from robot_rlpd.learner.interventions import INTERVENED, InterventionPolicy, is_intervention, sources_of_interventions
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.policy import normalized
from robot_rlpd.learner.prior import PriorReport, fill_replay, judged
from robot_rlpd.learner.run_directory import CHECKPOINTS
from robot_rlpd.learner.session import Session
from robot_rlpd.specs import check_contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.episode import Episode, Step, Transitions
    from robot_rlpd.evaluation import Evaluation
    from robot_rlpd.learner.finetune_config import FinetuneConfig
    from robot_rlpd.learner.interventions import Corrector
    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.robot import Policy, Robot
    from robot_rlpd.specs import PolicyContract, RobotSpec
    from robot_rlpd.task import Task

RETRY_S = 2.0
"""Time between two tries to reach a robot that is gone [s]."""
RECENT = 20
"""Episodes over which the recent rate of interventions is told."""
_logger = logging.getLogger(__name__)


@dataclass
class InterventionCounts:
    """Steps that somebody else than the policy chose.

    Attributes:
        steps: Of all training steps.
        per_episode: Their share in each of the last episodes.
        first: Their share in each of the first episodes.
    """

    steps: int
    per_episode: deque[float]
    first: list[float]

    def add(self, steps: int, length: int) -> None:
        """Count an episode."""
        self.steps += steps
        self.per_episode.append(steps / max(1, length))
        if len(self.first) < RECENT:
            self.first.append(self.per_episode[-1])


class FinetuneSession(Session):
    """RLPD from a starting policy, which also acts while nothing is learned yet, in place of random motion.

    The starting policy is evaluated before the first step; its success rate is what every later one is measured
    against, and its checkpoint stays. A robot that goes away is waited for. Steps of who takes over are learned from as
    online data and as prior data of the last prior store.

    Args:
        config: What was asked for.
        finetune: Likewise.
        run_dir: Holds what `prepare_finetuning` wrote, or what a session before left.
        robot: Opened; left open.
        task: Judges every step, and the prior data anew.
        corrector: Who may take over; None for nobody.
        stop_asked: Whether the operator ended the session at his device.
        clock: Tells how long a robot has been gone.
    """

    def __init__(
        self,
        config: SessionConfig,
        finetune: FinetuneConfig,
        run_dir: Path,
        robot: Robot,
        task: Task,
        *,
        corrector: Corrector | None = None,
        stop_asked: Callable[[], bool] = lambda: False,
        clock: Clock | None = None,
    ) -> None:
        self.finetune, self._corrector, self._stop_asked = finetune, corrector, stop_asked
        self._clock = clock or MonotonicClock()
        self._gone_since_s: float | None = None
        self._should_stop: Callable[[], bool] = lambda: False
        self.interventions = InterventionCounts(0, deque(maxlen=RECENT), [])
        self._steps_taken_over = 0
        self._taken_over = False
        self._start_file = run_dir / CHECKPOINTS / START
        super().__init__(config, run_dir, robot, task, resume=True)
        self.log.warm_up = "starting policy"
        self.start_evaluation = load_checkpoint(self._start_file).evaluation
        self._recover_interventions()

    def run(self, should_stop: Callable[[], bool]) -> str:
        """As `Session.run`; an operator may end it too.

        Raises:
            TrainingError: As there.
            RobotError: The robot was gone for longer than `patience_min`; the session is saved.
        """
        self._should_stop = lambda: should_stop() or self._stop_asked()
        return super().run(self._should_stop)

    def summary(self, reason: str) -> dict[str, Any]:
        """What `finetune --json` prints, see docs/json.md."""
        counts = self.interventions
        return super().summary(reason) | {
            "robot_min": round(self.env_steps / self.contract.control_rate_hz / 60.0, 3),
            "evaluations": len(read_metrics(self.run_dir, "evaluation")),
            "start_evaluation": self.start_evaluation,
            "best_checkpoint": str(self.best_checkpoint),
            "interventions": {
                "steps": counts.steps,
                "rate": counts.steps / self.env_steps if self.env_steps else None,
                "first_rate": float(np.mean(counts.first)) if counts.first else None,
                "recent_rate": float(np.mean(counts.per_episode)) if counts.per_episode else None,
            },
        }

    @property
    def best_checkpoint(self) -> Path:
        """What to deploy: the best by evaluation, which is the starting policy as long as nothing was better."""
        best = self.run_dir / CHECKPOINTS / BEST
        found, start = (e["success_rate"] if e else -1.0 for e in (self.best_evaluation, self.start_evaluation))
        return best if best.is_file() and found > start else self._start_file

    def _policy_contract(self, spec: RobotSpec) -> PolicyContract:
        start = load_checkpoint(self._start_file).contract
        check_contract(start, spec, who=f"robot '{spec.name}'")
        return spec.contract([field.name for field in start.observation])

    def _spare_rows(self) -> int:
        at_the_robot = INTERVENED in {signal.name for signal in self.robot.spec.signals}
        expected = self.config.prior and (self._corrector is not None or at_the_robot)
        return self.config.env_steps + self.config.extra_capacity if expected else 0

    def _begin(self, should_stop: Callable[[], bool]) -> None:
        super()._begin(should_stop)
        while self.config.eval_every and self.start_evaluation is None and not should_stop():
            self._patiently(lambda: self._evaluate(should_stop))

    def _evaluate(self, should_stop: Callable[[], bool]) -> None:
        before = self.evaluation
        super()._evaluate(should_stop)
        if self.evaluation is None or self.evaluation is before:
            return
        found = self.evaluation
        if self.start_evaluation is None:
            self.start_evaluation = found
            save_checkpoint(self._start_file, replace(load_checkpoint(self._start_file), evaluation=found))
            _logger.info("starting policy: %d/%d solved", found["successes"], found["episodes"])
        elif found["success_rate"] < self.start_evaluation["success_rate"]:
            _logger.warning(
                "worse than the starting policy now: %d/%d solved, %d/%d at the start; checkpoints/%s keeps it",
                *(found["successes"], found["episodes"]),
                *(self.start_evaluation["successes"], self.start_evaluation["episodes"], START),
            )

    def _check_evaluation(self, evaluation: Evaluation) -> None:
        """A robot that went away says nothing about the policy, least of all about the one that is the bar."""
        if evaluation.interrupted:
            raise RobotError("it went away during an evaluation, which is made again", field="robot")

    def _training_policy(self, seed: int) -> Policy:
        """The actor with its noise, which is the starting policy's until training starts; and who may take over."""
        del seed
        policy = self._acting_policy()
        return policy if self._corrector is None else InterventionPolicy(policy, self._corrector)

    def on_step(self, step: Step) -> None:
        """As `Session.on_step`; a step of who took over is prior data too."""
        was_taken_over, self._taken_over = self._taken_over, is_intervention(step)
        if self._taken_over:
            self._steps_taken_over += 1
            self.updater.finish()  # it draws from the buffer
            self._add_to_prior(step, begins=not was_taken_over)
        super().on_step(step)

    def on_end(self, episode: Episode) -> None:
        """As `Session.on_end`; tells how much was taken over."""
        super().on_end(episode)
        taken, self._steps_taken_over = self._steps_taken_over, 0
        self._taken_over = False
        if self._corrector is not None or taken:
            self.interventions.add(taken, len(episode))
            counts = self.interventions
            self.log.taken_over = float(np.mean(counts.per_episode))
            values = {"steps": taken, "rate": counts.per_episode[-1], "recent_rate": self.log.taken_over}
            self.log.write("intervention", self.env_steps, self.learner.gradient_steps, values)

    def _add_to_prior(self, step: Step, *, begins: bool) -> None:
        offline = self.updater.sampler.offline
        if not offline or not self._spare_rows():
            return
        if begins:
            offline[-1].start_episode()  # frames before it were not kept here
        offline[-1].append(
            normalized(self.contract.flatten(step.observation), self.normalizer),
            self.contract.action.to_unit(step.executed_action),
            step.outcome.reward,
            1.0 - float(step.outcome.terminated),
            normalized(self.contract.flatten(step.result.observation), self.normalizer),
        )

    def _recover_interventions(self) -> None:
        """Of the episodes that a resumed session finds recorded."""
        for episode in self.store.load_all()[: self.episodes]:
            chosen = sources_of_interventions(episode)
            if self._corrector is not None or chosen.any():
                self.interventions.add(int(chosen.sum()), len(episode))
            offline = self.updater.sampler.offline
            if chosen.any() and offline and self._spare_rows():
                (found,) = judged([episode], self.task, self.contract, PriorReport())
                fill_replay(offline[-1], _runs(found, chosen[: len(found)]), self.contract, self.normalizer)

    def _patiently(self, drive: Callable[[], None]) -> None:
        """A robot that is gone is waited for; everything is saved meanwhile."""
        try:
            drive()
            self._gone_since_s = None
        except (BridgeError, RobotError) as error:
            if self._should_stop():
                return
            now_s = self._clock.now_s()
            if self._gone_since_s is None:
                self._gone_since_s = now_s
                self.updater.finish()
                self.save(LATEST)
                _logger.warning(
                    "the robot is gone (%s); saved, and waiting for it up to %g min; Ctrl-C ends, go on at any time "
                    "with: robot-rlpd finetune --resume %s",
                    *(error, self.finetune.patience_min, self.run_dir),
                )
            elif now_s - self._gone_since_s >= 60.0 * self.finetune.patience_min:
                raise RobotError(
                    f"gone for {(now_s - self._gone_since_s) / 60.0:.1f} min ({error})",
                    field="robot",
                    hint=f"the session is saved; go on with: robot-rlpd finetune --resume {self.run_dir}",
                ) from None
            self._clock.sleep_until_s(self._clock.now_s() + RETRY_S)


def _runs(found: Transitions, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> list[Transitions]:
    """The chosen transitions, each run of consecutive ones by itself: frames are stacked within one only."""
    begins = np.flatnonzero(chosen & ~np.insert(chosen[:-1], 0, False))
    numbers = np.searchsorted(begins, np.arange(len(chosen)), side="right")
    return [_rows(found, chosen & (numbers == number + 1)) for number in range(len(begins))]


def _rows(found: Transitions, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> Transitions:
    return replace(
        found,
        observations={name: array[chosen] for name, array in found.observations.items()},
        next_observations={name: array[chosen] for name, array in found.next_observations.items()},
        executed_actions=found.executed_actions[chosen],
        rewards=found.rewards[chosen],
        masks=found.masks[chosen],
        successes=found.successes[chosen],
    )
