"""What is compiled ahead is what the kernels of an update use, and no more than a head start."""

from __future__ import annotations

import importlib
import logging
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from robot_rlpd.learner import compilation

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def from_the_start() -> Iterator[None]:
    begun = compilation._compile_header
    begun.cache_clear()
    yield
    begun.cache_clear()


def twice(x: Tensor) -> Tensor:
    return x + x


def codecache() -> Any:
    return importlib.import_module("torch._inductor.codecache")


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_kernel_that_brings_the_header_compiles(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "robot_rlpd"):
        thread = compilation._compile_header()
        assert thread is not None
        thread.join()
    assert not [record for record in caplog.records if record.name == compilation.__name__]
    kernel = codecache().CppPythonBindingsCodeCache.load_pybinding(["float*"], compilation._KERNEL)
    out = torch.zeros(16)  # the widest vectors have 16 floats
    kernel(out)
    assert out.sum() in (4.0, 8.0, 16.0)


@pytest.mark.parametrize("broken", ["gone", "failing"])
def test_without_it_the_function_computes_the_same(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = codecache().CppPythonBindingsCodeCache
    if broken == "gone":
        monkeypatch.delattr(codecache(), "CppPythonBindingsCodeCache")
    else:
        monkeypatch.setattr(cache, "load_pybinding", lambda *_: 1 / 0)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    with caplog.at_level(logging.DEBUG, "robot_rlpd"):
        function = compilation.compiled(twice, CPU)
        thread = compilation._compile_header()
        if thread is not None:
            thread.join()
        assert torch.equal(function(torch.ones(3)), torch.full((3,), 2.0))
    assert [record.name for record in caplog.records if "no header" in record.message] == [compilation.__name__]


def test_the_warning_says_what_the_compiler_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Tensor) -> Tensor:
        raise RuntimeError(
            "C++ compile error\n\nCommand:\ng++ x.cpp\n\nOutput:\nx.cpp:3: fatal error: no space\nx error: 2\n"
        )

    monkeypatch.setattr(torch, "compile", lambda function, **_: fails)
    assert torch.equal(compilation.compiled(twice, CPU)(torch.ones(1)), torch.full((1,), 2.0))
    told = "twice runs uncompiled, which is slower: C++ compile error: x.cpp:3: fatal error: no space"
    assert told in [record.message for record in caplog.records]


def test_a_gpu_needs_no_such_header(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[None] = []
    monkeypatch.setattr(compilation, "_compile_header", lambda: begun.append(None))
    compilation.compiled(twice, torch.device("cuda"))
    assert not begun
    compilation.compiled(twice, CPU)
    assert begun
