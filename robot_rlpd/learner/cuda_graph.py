"""A whole update call as one CUDA graph: minibatches, noise, critics, actor and temperature without the host."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from robot_rlpd.learner.replay import SymmetricSampler
    from robot_rlpd.learner.rlpd import RLPD

WARM_UP_CALLS = 3
"""Calls before the capture, in which libraries choose their kernels and compiling happens."""
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""How near the graph's result has to be to that of the plain call, from the same state and random numbers."""
_logger = logging.getLogger(__name__)


class GraphedCall:
    """Replays the captured call; everything it reads and writes stays where it is on the device.

    Indices are drawn on the device from the number of rows that the replay holds then, so that the graph serves a
    growing replay.

    Args:
        learner: On a CUDA device.
        sampler: Its buffers on the same device.
        generator: Of the minibatches, on the same device.
    """

    def __init__(self, learner: RLPD, sampler: SymmetricSampler, generator: torch.Generator) -> None:
        self._learner, self._sampler, self._generator = learner, sampler, generator
        self._graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(learner.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(learner.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_CALLS):
                plain_call(learner, sampler, generator)
        torch.cuda.current_stream(learner.device).wait_stream(side)
        for each in (learner.generator, generator):
            self._graph.register_generator_state(each)
        with torch.cuda.graph(self._graph):
            self._metrics = plain_call(learner, sampler, generator)

    def __call__(self) -> Tensor:
        """Do the call; returns its metrics in the order of `METRICS`, on the device."""
        self._graph.replay()
        self._learner.gradient_steps += self._learner.config.utd_ratio
        return self._metrics.clone()


def plain_call(learner: RLPD, sampler: SymmetricSampler, generator: torch.Generator) -> Tensor:
    """The same call, launched kernel by kernel."""
    config = learner.config
    return learner.advance(sampler.sample_on_device(config.utd_ratio, config.batch_size, generator))


def captured(learner: RLPD, sampler: SymmetricSampler, generator: torch.Generator) -> GraphedCall | None:
    """The call as a graph, checked against the plain call; None, with a line in the log, where that is not to be had.

    Learner and generator are as before afterwards.
    """
    state, drawn = learner.state_dict(), generator.get_state()

    def restore() -> None:
        learner.load_state_dict(state)
        generator.set_state(drawn)

    def result() -> Tensor:
        return torch.cat([t.flatten().double() for name, t in learner.state_dict().items() if name != "generator"])

    try:
        call = GraphedCall(learner, sampler, generator)
        restore()
        plain_call(learner, sampler, generator)
        expected = result()
        restore()
        call()
        if not torch.allclose(result(), expected, rtol=RELATIVE, atol=ABSOLUTE):
            _logger.warning("updates run without a CUDA graph, which is slower: its result differs from the plain call")
            return None
    except RuntimeError as error:  # what torch raises where a call cannot be captured
        _logger.warning("updates run without a CUDA graph, which is slower: %s", str(error).splitlines()[0])
        return None
    else:
        return call
    finally:
        restore()
