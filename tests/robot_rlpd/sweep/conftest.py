"""Ray as far as a sweep uses it, in this process: one job after the other."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from robot_rlpd.sweep import engine

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable


class RayError(Exception):
    """Whatever Ray reports."""


class TaskCancelledError(RayError):
    """A task was cancelled."""


class RayTaskError(RayError):
    """A task raised an exception."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"ray::attempt() (pid=1, ip=127.0.0.1)\nTraceback\n{cause}")
        self.cause = cause


class WorkerCrashedError(RayError):
    """A process of Ray died."""


class FakeRay:
    """Begins a task when it is waited for, and begins it again as often as it may be.

    Attributes:
        started: What Ray was started with.
        asked: Of each task, what it needs and its name.
        killed: How often each job is killed before its command runs, by name.
        signals: Sent to this process, one at each wait.
        cancelled: Names of the tasks that were asked to end.
    """

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self.killed: dict[str, int] = {}
        self.signals: list[signal.Signals] = []
        self.cancelled: list[str] = []
        self.is_up = False
        self._tasks: dict[str, Callable[[], None]] = {}
        self._errors: dict[str, RayError] = {}

    def init(self, **options: Any) -> None:
        self.started, self.is_up = options, True

    def shutdown(self) -> None:
        self.is_up = False

    def remote(self, **needs: Any) -> Callable[[Callable[[Any], None]], Any]:
        ray = self

        def decorate(function: Callable[[Any], None]) -> Any:
            class Remote:
                def __init__(self, name: str = "") -> None:
                    self.name = name

                def options(self, *, name: str) -> Remote:
                    return Remote(name)

                def remote(self, job: Any) -> str:
                    ray.asked.append({**needs, "name": self.name})
                    ray._tasks[self.name] = lambda: ray._try(self.name, function, job, needs["max_retries"])
                    return self.name

            return Remote()

        return decorate

    def _try(self, name: str, function: Callable[[Any], None], job: Any, retries: int) -> None:
        for _ in range(1 + retries):
            self._errors.pop(name, None)
            if self.killed.get(name, 0):
                self.killed[name] -= 1
                self._say()
                self._errors[name] = WorkerCrashedError("The worker died unexpectedly\nwhile executing this task.")
                continue
            try:
                function(job)
                return
            except Exception as error:
                self._errors[name] = RayTaskError(error)

    def _say(self) -> None:
        """Ray prints, on both streams, that something died."""
        for stream in (sys.stdout, sys.stderr):
            stream.write("(raylet) Task attempt failed. It will be retried.\n")

    def wait(self, references: list[str], *, num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert (num_returns, timeout > 0) == (1, True)
        first, *others = references
        self._tasks.pop(first, lambda: None)()
        if self.signals:
            os.kill(os.getpid(), self.signals.pop())
        return [first], others

    def get(self, reference: str) -> None:
        if reference in self._errors:
            raise self._errors[reference]

    def cancel(self, reference: str, *, force: bool) -> None:
        assert not force
        self.cancelled.append(reference)
        self._tasks.pop(reference)
        self._errors[reference] = TaskCancelledError("Task was cancelled.")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Installed in the place of Ray."""
    fake = FakeRay()
    module = types.ModuleType("ray")
    module.__spec__ = importlib.machinery.ModuleSpec("ray", None)
    errors = types.SimpleNamespace(RayError=RayError, TaskCancelledError=TaskCancelledError)
    for name in ("init", "shutdown", "remote", "wait", "get", "cancel"):
        setattr(module, name, getattr(fake, name))
    module.exceptions = errors  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", module)
    for name in (*engine.SILENT, *engine.LOCAL, "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")  # so that it is as before in the end
        monkeypatch.delenv(name)
    return fake
