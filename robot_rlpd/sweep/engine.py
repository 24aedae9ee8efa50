"""Ray: places jobs on this machine or a cluster, and starts again what failed. The only file that knows it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from robot_rlpd.errors import BridgeError, ConfigError
from robot_rlpd.sweep.attempt import attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from robot_rlpd.sweep.attempt import Job

CONNECT_S = 5.0
POLL_S = 0.5
STOP_S = 120.0
"""How long jobs may take to save and end when they are asked to [s]."""
OBJECT_STORE_BYTES = 80 << 20
"""About the least that Ray takes; nothing but names and messages goes through it."""
SILENT = {"RAY_USAGE_STATS_ENABLED": "0"}
LOCAL = {
    # Ray's processes talk over loopback only where it believes that it is on a machine that cannot join a cluster.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What each job takes.

    Attributes:
        cpus: Cores, > 0; how many jobs run side by side follows from it.
        gpus: GPUs, >= 0; a job sees those that it was given, and none otherwise.
        retries: How often a job that failed or was killed is started again; -1 without end.
    """

    cpus: float
    gpus: float
    retries: int

    def __post_init__(self) -> None:
        if not 0.0 < self.cpus < float("inf"):
            raise ConfigError(field="cpus", found=self.cpus, allowed="> 0")
        if not 0.0 <= self.gpus < float("inf"):
            raise ConfigError(field="gpus", found=self.gpus, allowed=">= 0")
        if self.retries < -1:
            raise ConfigError(field="retries", found=self.retries, allowed=">= 0, or -1 without end")


def check_address(address: str) -> None:
    """Say at once that no cluster is there; Ray itself tries for minutes.

    Raises:
        ConfigError: Not an address.
        BridgeError: Nobody listens there.
    """
    if not address:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(field="address", found=address, allowed="HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        hint = "ray start --head begins a cluster"
        raise BridgeError(f"no cluster there: {error}", field="address", found=address, hint=hint) from None


def check_installed() -> None:
    """Say early that Ray is missing.

    Raises:
        ConfigError: It is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        hint = "install the extra: pip install 'robot-rlpd[sweep]'"
        raise ConfigError("needs Ray, which is not installed", field="sweep", hint=hint)


class Engine:
    """Ray on this machine, or on the cluster at an address; a context manager that ends what it started.

    Args:
        address: Of a cluster, HOST:PORT; empty starts Ray here, for this process alone.
        log: File for what Ray prints, which would otherwise be in the middle of our own output.
    """

    def __init__(self, address: str, log: Path) -> None:
        self._address, self._log = address, log
        self._ray: Any = None
        self._printing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as printing:
            file = printing.enter_context(self._log.open("a", buffering=1))
            printing.enter_context(contextlib.redirect_stdout(file))
            printing.enter_context(contextlib.redirect_stderr(file))
            self._start()
            self._printing = printing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._printing:
            self._ray.shutdown()

    def _start(self) -> None:
        given = SILENT if self._address else SILENT | LOCAL
        for name, value in given.items():
            os.environ.setdefault(name, value)
        if not self._address and "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home directory
        import ray

        self._ray = ray
        local = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        options = {"address": self._address} if self._address else local | {"address": "local"}
        try:
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            told = str(error).strip().splitlines() or [type(error).__name__]
            raise BridgeError(told[0], field="address", found=self._address or "this machine") from None

    def run(
        self,
        jobs: Sequence[Job],
        needs: Needs,
        *,
        should_stop: Callable[[], bool],
        watch: Callable[[int, bool], None],
    ) -> dict[str, str]:
        """Bring all jobs to their end; one that fails does not end the others.

        Args:
            jobs: With names of their own.
            needs: Of each.
            should_stop: Asked all the time; then jobs that run are asked to save and end, and no other begins.
            watch: Called all the time with how many jobs are not done, and whether they are being stopped.

        Returns:
            Why jobs failed for good, by name.
        """
        ray = self._ray
        options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "max_retries": needs.retries}
        # A process for each attempt: what a command sets for its process is gone with it.
        remote = ray.remote(**options, retry_exceptions=True, max_calls=1)(attempt)
        left = {remote.options(name=job.name).remote(job): job for job in jobs}
        failed: dict[str, str] = {}
        until_s = float("inf")
        while left and time.monotonic() < until_s:
            watch(len(left), until_s < float("inf"))
            done, _ = ray.wait(list(left), num_returns=1, timeout=POLL_S)
            for reference in done:
                job = left.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    if not _is_cancelled(ray, error):
                        failed[job.name] = _told(error)
            if should_stop() and until_s == float("inf"):
                until_s = time.monotonic() + STOP_S
                for reference in left:
                    ray.cancel(reference, force=False)  # as Ctrl-C does
        return failed


def _is_cancelled(ray: Any, error: Exception) -> bool:
    cause = getattr(error, "cause", None)
    return any(isinstance(one, ray.exceptions.TaskCancelledError) for one in (error, cause))


def _told(error: Exception) -> str:
    """Why, in a line: of the job's own error what it says, of Ray's the first line."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__
