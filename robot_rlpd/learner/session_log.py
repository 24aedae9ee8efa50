"""What a session tells while it runs: metrics, the progress line, warnings."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.evaluation import in_words
from robot_rlpd.learner.metrics import RATE, MetricsLog
from robot_rlpd.learner.q_range import QRangeAlarm
from robot_rlpd.learner.updater import check_finite
from robot_rlpd.progress import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from robot_rlpd.episode import Episode, Step
    from robot_rlpd.learner.bridge_figures import Figures
    from robot_rlpd.learner.prior import PriorReport
    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.learner.updater import Updater

_logger = logging.getLogger(__name__)


class SessionLog:
    """Writes the metrics of a run, shows one line of them, and watches Q.

    Args:
        config: Of the run.
        run_dir: Of the run.

    Attributes:
        warm_up: Who acts before training starts, for the line.
        taken_over: Share of the last episodes' steps that somebody took over, for the line; None where nobody can.
    """

    def __init__(self, config: SessionConfig, run_dir: Path) -> None:
        self.config, self.run_dir = config, run_dir
        self.alarm = QRangeAlarm(config.rlpd)
        self.evaluation: dict[str, Any] | None = None
        self._recent = deque[bool](maxlen=20)
        self._return = 0.0
        self.warm_up = "random"
        self.taken_over: float | None = None
        self.bridge: Figures = lambda: ({}, "")

    @contextlib.contextmanager
    def opened(self, env_steps: int, trained_s: float) -> Iterator[None]:
        """Keep the files open and the progress line alive."""
        self._since_s, self._since_steps = time.monotonic(), env_steps
        with (
            MetricsLog(self.run_dir, wall_offset_s=trained_s) as self._metrics,
            contextlib.closing(ProgressLine(self.config.env_steps)) as self._progress,
        ):
            yield

    def start(self, env_steps: int, gradient_steps: int, prior: PriorReport, *, rate_hz: float) -> None:
        """The session begins or goes on."""
        self.write("start", env_steps, gradient_steps, {"prior": str(prior), RATE: rate_hz})

    def write(self, kind: str, env_steps: int, gradient_steps: int, values: Mapping[str, Any]) -> None:
        """Append one record to the metrics."""
        self._metrics.write(kind, env_steps, gradient_steps, values)

    def step(self, step: Step, env_steps: int, updater: Updater) -> None:
        """One environment step was made, and its update at least begun.

        Raises:
            TrainingError: A loss is not finite, or Q explodes.
        """
        self.alarm.see(step.outcome.reward)
        self._return += step.outcome.reward
        if env_steps % self.config.log_every == 0:
            self._show(env_steps, updater)

    def episode(self, episode: Episode, env_steps: int, gradient_steps: int) -> None:
        """One episode is over."""
        success = bool(episode.info.success)
        self._recent.append(success)
        values = {
            "success": success,
            "length": len(episode),
            "return": self._return,
            "ended": str(episode.info.ended),
        }
        self._return = 0.0
        self.write("episode", env_steps, gradient_steps, values)

    def _show(self, env_steps: int, updater: Updater) -> None:
        now_s = time.monotonic()
        values: dict[str, float] = {
            "env_steps_per_s": (env_steps - self._since_steps) / (now_s - self._since_s),
            "recent_success_rate": float(np.mean(self._recent)) if self._recent else 0.0,
        }
        self._since_s, self._since_steps = now_s, env_steps
        gradient_steps = updater.gradient_steps
        metrics = updater.metrics()
        if metrics:
            values |= metrics | {"utd_ratio": gradient_steps / max(1, env_steps - self.config.start_training)}
        bridge_values, bridge_text = self.bridge()
        self.write("train", env_steps, gradient_steps, values | bridge_values)
        self._progress.update(env_steps, " | ".join([self._line(values), *filter(None, [bridge_text])]))
        if metrics:
            check_finite(metrics)
            warning = self.alarm.check(values["target_q_min"], values["target_q_max"])
            if warning:
                _logger.warning(warning)

    def _line(self, values: dict[str, float]) -> str:
        parts = [
            f"{values['env_steps_per_s']:.0f} steps/s",
            f"solved {sum(self._recent)}/{len(self._recent)} recent",
        ]
        if self.taken_over is not None:
            parts.append(f"taken over {self.taken_over:.0%}")
        if "q_mean" in values:
            parts.append(f"Q {values['q_mean']:.1f}")
            parts.append(f"temperature {values['temperature']:.3f}")
        else:
            parts.append(f"{self.warm_up} until {self.config.start_training}")
        if self.evaluation is not None:
            parts.append(f"evaluated {in_words(self.evaluation)}")
        return " | ".join(parts)
