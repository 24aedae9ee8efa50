"""Updates at their pace: `utd_ratio` critic updates per environment step, in line with the robot or beside it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rlpd.errors import TrainingError
from robot_rlpd.learner.cuda_graph import GraphedCall, captured
from robot_rlpd.learner.rlpd import METRICS, RLPD, named_metrics
from robot_rlpd.learner.tuning import ThreadTuner, threads_agree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from robot_rlpd.learner.replay import SymmetricSampler

METRICS_KEPT = 200
"""Calls over which logged metrics are averaged."""


class Updater:
    """Draws minibatches and updates the learner, one call of `utd_ratio` critic updates per environment step.

    In line, `start` does the whole call. Beside the robot (`overlap`), it begins the call, which goes on while the
    robot moves, and `finish` waits for it: in a thread on a CPU; on a GPU on a stream of its own, where the host waits
    for nothing but the next action. The minibatches are the same either way. What differs is who acts: the actor in use
    is the one of the last `finish`, so beside the robot it is older by the `utd_ratio` critic updates and the one actor
    update of one environment step, never more.

    Args:
        learner: Updated; from now on by nobody else.
        sampler: Replay to draw from; may grow between `finish` and `start` only.
        seed: Of the generator that draws minibatches.
        overlap: Whether calls run beside the robot.
        threads: Numbers of torch threads to choose from, the preferred one first.
    """

    def __init__(
        self, learner: RLPD, sampler: SymmetricSampler, *, seed: int, overlap: bool, threads: tuple[int, ...]
    ) -> None:
        self.learner = learner
        self.sampler = sampler
        self.generator = torch.Generator(sampler.online.device).manual_seed(seed)
        self._threads = threads
        self._tuner = ThreadTuner(threads)
        on_gpu = learner.device.type == "cuda"
        self._pool = ThreadPoolExecutor(1, "updates") if overlap and not on_gpu else None
        self._stream = _stream(learner.device) if overlap and on_gpu else None
        self._graph: GraphedCall | None = None
        self._running: Future[Tensor] | None = None
        self._launched: Tensor | None = None
        self._metrics = deque[Tensor](maxlen=METRICS_KEPT)

    @property
    def gradient_steps(self) -> int:
        """Number of critic updates of finished calls."""
        settled = self._running is None and self._launched is None
        return self.learner.gradient_steps if settled else self._settled

    @property
    def calls(self) -> int:
        """Number of finished calls."""
        return self.gradient_steps // self.learner.config.utd_ratio

    def start(self) -> None:
        """Begin the call that one environment step is worth; the one before has to be finished."""
        self._settled = self.learner.gradient_steps
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.learner.device))
            with torch.cuda.stream(self._stream):
                self._launched = self._call()
        elif self._pool is None:
            self._take(self._call())
        else:
            self._running = self._pool.submit(self._call)

    def finish(self) -> None:
        """Wait for the call that was begun, if any; the actor that it made acts from now on.

        Raises:
            TrainingError: A loss was not finite.
        """
        if self._stream is not None and self._launched is not None:
            launched, self._launched = self._launched, None
            torch.cuda.current_stream(self.learner.device).wait_stream(self._stream)
            launched.record_stream(torch.cuda.current_stream(self.learner.device))
            self._take(launched)
        elif self._running is not None:
            running, self._running = self._running, None
            self._take(running.result())

    def metrics(self) -> dict[str, float]:
        """Means over the last calls, by name; empty before the first."""
        if not self._metrics:
            return {}
        return named_metrics(torch.stack(list(self._metrics)).mean(dim=0))

    def warm_up(self) -> None:
        """Compile, before a robot waits for it, and see which numbers of threads may be used; changes nothing else."""
        learner, config = self.learner, self.learner.config
        if learner.device.type == "cuda":
            self._graph = captured(learner, self.sampler, self.generator)
            return
        state = learner.state_dict()
        # Laid out in memory like a sampled batch, or the compiler would start anew with the first one.
        batch = self.sampler.online.zeros(config.utd_ratio * config.batch_size)
        in_thread = self._pool.submit if self._pool is not None else _at_once

        def update() -> Tensor:
            learner.advance(batch)
            return torch.cat([tensor.flatten() for name, tensor in learner.state_dict().items() if name != "generator"])

        def choose() -> bool:
            return threads_agree(update, lambda: learner.load_state_dict(state), self._threads)

        if not in_thread(choose).result():
            self._tuner = ThreadTuner(self._threads[:1])

    def close(self) -> None:
        """Wait for a call that runs and end the thread."""
        if self._pool is not None:
            self._pool.shutdown()

    def _call(self) -> Tensor:
        if self._graph is not None:
            return self._graph()
        config = self.learner.config
        return self._tuner(
            lambda: self.learner.advance(
                self.sampler.sample(config.utd_ratio, config.batch_size, self.generator),
            )
        )

    def _take(self, metrics: Tensor) -> None:
        self._metrics.append(metrics)
        self.learner.publish()
        if metrics.device.type == "cpu":
            check_finite(named_metrics(metrics))


def check_finite(metrics: Mapping[str, float]) -> None:
    """Refuse to go on with a loss that is no number.

    Raises:
        TrainingError: Names the loss.
    """
    for name in METRICS[:3]:
        if not -float("inf") < metrics[name] < float("inf"):
            raise TrainingError(
                "a loss is not finite; the last good checkpoint is kept",
                field=name,
                hint="look at the rewards and observations of the newest episodes",
            )


def _at_once(function: Callable[[], bool]) -> Future[bool]:
    future: Future[bool] = Future()
    future.set_result(function())
    return future


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
