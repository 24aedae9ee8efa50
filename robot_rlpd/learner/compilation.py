"""`torch.compile` where it works, the plain function where it does not."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"cpp.dynamic_threads": True}
"""Kernels that follow `torch.set_num_threads`, so that another number of threads costs no second compilation."""
_KERNEL = """
#include <torch/csrc/inductor/cpp_prefix.h>
extern "C" void kernel(float* out)
{
    at::vec::Vectorized<float>(1.0f).store(out);
}
"""
"""The least that is compiled like the kernels of an update, with the header that all of them share."""
_logger = logging.getLogger(__name__)

# Compiling for the vector instructions that the processor says it has shows whether that works: no program to try it.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")


def compiled(function: Callable[_P, _R], device: torch.device) -> Callable[_P, _R]:
    """`torch.compile` that falls back to the plain function, with a line in the log, where compiling fails.

    Compiling happens at the first call, and fails before anything is computed: the plain function then sees unchanged
    arguments.
    """
    chosen: list[Callable[_P, _R]] = []
    if device.type == "cpu":
        _compile_header()

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if chosen:
            return chosen[0](*args, **kwargs)
        fast = torch.compile(function, dynamic=False, options=OPTIONS)
        try:
            result = fast(*args, **kwargs)
        except Exception as error:  # the compiler behind torch.compile raises whatever it likes
            _logger.warning("%s runs uncompiled, which is slower: %s", function.__name__, _reason(error))
            chosen.append(function)
            return function(*args, **kwargs)
        chosen.append(fast)
        return result

    return call


def _reason(error: Exception) -> str:
    """One line: what kind of error it is, and the first thing that the C++ compiler called one."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    told = [line.strip() for line in lines[1:] if " error: " in line]
    return ": ".join([lines[0], *told[:1]])


@functools.cache
def _compile_header() -> threading.Thread | None:
    """Begin what takes the C++ compiler longest, once on a machine, while Python still traces the update."""
    try:  # here, as two threads that import the same modules can meet half of one
        codecache: Any = importlib.import_module("torch._inductor.codecache")
        compile_kernel = codecache.CppPythonBindingsCodeCache.load_pybinding
    except (ImportError, AttributeError) as error:  # internals, which another version of torch may not have
        _logger.debug("no header ahead: %r", error)
        return None

    def work() -> None:
        try:
            compile_kernel(["float*"], _KERNEL)
        except Exception as error:  # no compiler, say: the first call finds out for itself
            _logger.debug("no header ahead: %r", error)

    thread = threading.Thread(target=work, name="header", daemon=True)
    thread.start()
    return thread
