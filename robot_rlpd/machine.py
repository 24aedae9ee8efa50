"""How well this machine keeps time: scheduling, clocks, processor frequency, and the way to another machine."""

from __future__ import annotations

import os
import resource
import socket
import time
from pathlib import Path
from typing import Any

from robot_rlpd.errors import ConfigError, DeadlineError

SLEEPS = 100
SLEEP_S = 0.001
CONNECTIONS = 20
CONNECT_TIMEOUT_S = 2.0
SYS = Path("/sys")


def may_run_real_time() -> bool:
    """Whether this user may schedule a thread under SCHED_FIFO; tried, and given back."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    before, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, before, priority)
    return True


def timing() -> dict[str, Any]:
    """What decides how regular a control loop can be; empty or null where this system does not say."""
    governors = sorted({_read(path) for path in SYS.glob("devices/system/cpu/cpu*/cpufreq/scaling_governor")})
    return {
        "real_time_priority_limit": _limit("RLIMIT_RTPRIO"),
        "locked_memory_limit_bytes": _limit("RLIMIT_MEMLOCK"),
        "real_time_kernel": _read(SYS / "kernel/realtime") == "1",
        "clock_source": _read(SYS / "devices/system/clocksource/clocksource0/current_clocksource"),
        "clock_resolution_ns": round(time.get_clock_info("monotonic").resolution * 1e9),
        "clock_synchronised": Path("/run/systemd/timesync/synchronized").exists() or None,
        "governors": governors,
        "oversleep_us": _oversleep_us(),
    }


def advice(found: dict[str, Any], *, real_time: bool) -> list[str]:
    """What to do about what was found."""
    told = []
    if not real_time:
        told.append(
            "real-time scheduling is not permitted: add 'USER - rtprio 50' to /etc/security/limits.d/, log in anew"
        )
    if found["governors"] and found["governors"] != ["performance"]:
        told.append("the processor changes its frequency: cpupower frequency-set --governor performance")
    if found["clock_source"] not in ("", "tsc", "arch_sys_counter", "kvm-clock"):
        told.append(f"the clock source '{found['clock_source']}' is slow to read: see the kernel's log about the tsc")
    if not found["clock_synchronised"]:
        told.append("it is not known whether the wall clock is synchronised: timedatectl, chronyc tracking")
    return told


def round_trip_us(address: str) -> dict[str, float]:
    """How long a connection to another machine takes to be answered, in microseconds: p50 and the largest of a few.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH`; whoever listens there sees connections come and go.

    Raises:
        ConfigError: Not an address.
        DeadlineError: Nobody answers.
    """
    family, target = _target(address)
    times_us = []
    for _ in range(CONNECTIONS):
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECT_TIMEOUT_S)
            began_s = time.perf_counter()
            try:
                connection.connect(target)
            except OSError as error:
                raise DeadlineError(
                    f"nobody answers there: {error}", field="learner", found=address, hint="is it running?"
                ) from None
            times_us.append((time.perf_counter() - began_s) * 1e6)
    times_us.sort()
    return {"p50": round(times_us[len(times_us) // 2], 1), "max": round(times_us[-1], 1)}


def _target(address: str) -> tuple[socket.AddressFamily, Any]:
    kind, _, rest = address.partition("://")
    if kind == "ipc" and rest:
        return socket.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    if kind != "tcp" or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(field="learner", found=address, allowed="tcp://HOST:PORT or ipc://PATH")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host.strip("[]"), int(port))


def _oversleep_us() -> dict[str, float]:
    """How late a thread wakes up after a millisecond's sleep."""
    late_us = []
    for _ in range(SLEEPS):
        due_s = time.perf_counter() + SLEEP_S
        time.sleep(SLEEP_S)
        late_us.append((time.perf_counter() - due_s) * 1e6)
    late_us.sort()
    return {"p50": round(late_us[SLEEPS // 2], 1), "max": round(late_us[-1], 1)}


def _limit(name: str) -> int | None:
    number = getattr(resource, name, None)
    if number is None:
        return None
    soft, _ = resource.getrlimit(number)
    return None if soft == resource.RLIM_INFINITY else int(soft)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
