"""What only a measurement on the machine can decide: how matrices are multiplied, and on how many threads."""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

MatmulPrecision = Literal["highest", "medium"]
FLOAT32_ERROR = 1e-5
"""Largest error relative to the largest entry that counts as float32; one product rounded to bf16 is off by 1e-3."""
WORTH_IT = 0.9
"""Another choice has to take less than this share of the time, so that noise decides nothing."""

RECENT = 5
"""Calls whose median is what a call takes at the moment."""


def choose_matmul_precision(members: int, rows: int, width: int) -> MatmulPrecision:
    """How float32 matrices are best multiplied on this CPU; leaves torch set to the answer.

    torch's "medium" hands them to oneDNN, which is faster than the default library on some processors and rounds to
    bf16 on others. It is chosen only where it is measured to be both: float32, and faster.

    Args:
        members: Number of matrices in a batch.
        rows: Rows of each.
        width: Columns of each.
    """
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(members, n, width, generator=generator) for n in (rows, width))
    exact = x.double() @ w.double()
    seconds: dict[MatmulPrecision, float] = {}
    choices: tuple[MatmulPrecision, ...] = ("highest", "medium")
    for precision in choices * 3:
        torch.set_float32_matmul_precision(precision)
        seconds[precision] = min(seconds.get(precision, float("inf")), _seconds(lambda: torch.bmm(x, w)))
    chosen: MatmulPrecision = "highest"
    if _relative_error(torch.bmm(x, w), exact) < FLOAT32_ERROR and seconds["medium"] < WORTH_IT * seconds["highest"]:
        chosen = "medium"
    torch.set_float32_matmul_precision(chosen)
    return chosen


def _seconds(run: Callable[[], object], repetitions: int = 5) -> float:
    run()
    times = []
    for _ in range(repetitions):
        started_s = time.perf_counter()
        run()
        times.append(time.perf_counter() - started_s)
    return min(times)


def _relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())


class ThreadTuner:
    """Uses all cores as long as they are free, and one when a neighbour takes some.

    Threads that wait for one another at every operation are slower than one alone as soon as another program holds a
    core. So the other choice is tried now and then, and at once when calls become slow.

    Args:
        choices: Numbers of threads, the one to begin with first; a single one is always used.
        probe_every: Calls between trials.
        clock: Seconds.
    """

    PROBES = 2

    def __init__(
        self, choices: tuple[int, ...], *, probe_every: int = 100, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.chosen = choices[0]
        self._choices = choices
        self._probe_every = probe_every
        self._clock = clock
        self._recent = deque[float](maxlen=RECENT)
        self._usual_s = float("inf")
        self._since_probe = probe_every - RECENT  # the first trial comes early
        self._probing: tuple[int, list[float]] | None = None

    def __call__(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work on the number of threads that is best at the moment."""
        torch.set_num_threads(self.chosen if self._probing is None else self._probing[0])
        started_s = self._clock()
        result = work()
        self._learn(self._clock() - started_s)
        return result

    def _learn(self, seconds: float) -> None:
        if len(self._choices) == 1:
            return
        if self._probing is None:
            self._recent.append(seconds)
            self._since_probe += 1
            slow = len(self._recent) == RECENT and statistics.median(self._recent) > 1.3 * self._usual_s
            if self._since_probe >= self._probe_every or slow:
                other = next(n for n in self._choices if n != self.chosen)
                self._probing = (other, [])
            return
        number, times = self._probing
        times.append(seconds)
        if len(times) < self.PROBES:
            return
        usual_s = statistics.median(self._recent)
        if min(times) < WORTH_IT * usual_s:
            self.chosen, usual_s = number, min(times)
            self._recent.clear()
        self._usual_s, self._since_probe, self._probing = usual_s, 0, None


def threads_agree(update: Callable[[], Tensor], restore: Callable[[], None], choices: tuple[int, ...]) -> bool:
    """Whether an update gives the same bits on every number of threads, so that changing it changes no result.

    Args:
        update: Does one and returns the resulting numbers.
        restore: Puts everything back to before it.
        choices: Numbers of threads.
    """
    results = []
    for number in choices:
        torch.set_num_threads(number)
        results.append(update().clone())
        restore()
    return all(torch.equal(result, results[0]) for result in results)
