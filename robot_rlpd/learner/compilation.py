"""`torch.compile` where it works, the plain function where it does not."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"cpp.dynamic_threads": True}
"""Kernels that follow `torch.set_num_threads`, so that another number of threads costs no second compilation."""
_logger = logging.getLogger(__name__)


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """`torch.compile` that falls back to the plain function, with a line in the log, where compiling fails.

    Compiling happens at the first call, and fails before anything is computed: the plain function then sees unchanged
    arguments.
    """
    chosen: list[Callable[_P, _R]] = []

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if chosen:
            return chosen[0](*args, **kwargs)
        fast = torch.compile(function, dynamic=False, options=OPTIONS)
        try:
            result = fast(*args, **kwargs)
        except Exception as error:  # the compiler behind torch.compile raises whatever it likes
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _logger.warning("%s runs uncompiled, which is slower: %s", function.__name__, reason)
            chosen.append(function)
            return function(*args, **kwargs)
        chosen.append(fast)
        return result

    return call
