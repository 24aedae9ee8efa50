"""How long a robot goes on moving after the page that drives it has gone.

    python -m benchmarks.console_dead_man [--trials 20] [--real-time] [--json]

A client drives a robot at its control rate through the console's server as the page does, thirty commands a second, and
falls silent with its connection open (as when the network is gone), or closes it (as when the page is closed). Measured
is the time until the last moving control step is over; the promise is 200 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.sync.client import connect

from benchmarks.machine import machine
from demos.recording.keeper import NothingKept
from demos.recording.options import RecordOptions
from demos.recording.priority import real_time_priority
from demos.recording.recorder import Recorder
from demos.teleop.browser import HOLD_WITHIN_S
from demos.web.console import BrowserConsole
from demos.web.server import ServingOptions
from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, StepResult

RATES_HZ = (10.0, 30.0, 100.0)
SEND_PERIOD_S = 0.033
AFTERWARDS_S = 0.5
WAYS = ("silent", "closed")


class Watched(PacedRobot):
    """Remembers when each moving step was over."""

    moved_s = 0.0

    def step(self, action: Action) -> StepResult:
        """Step, and look at the clock."""
        result = super().step(action)
        if np.any(action):
            self.moved_s = time.monotonic()
        return result


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="per rate and way (default 20)")
    parser.add_argument("--real-time", action="store_true", help="ask for real-time priority, as `console --real-time`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        f"{rate:g} Hz": measure(rate, arguments.trials, real_time=arguments.real_time) for rate in RATES_HZ
    }
    within = all(way["max_ms"] <= 1000 * HOLD_WITHIN_S for ways in result.values() for way in ways.values())
    result |= {
        "all_within_ms": 1000 * HOLD_WITHIN_S if within else None,
        "machine": machine() | {"load": os.getloadavg()},
    }
    sys.stdout.write(json.dumps(result, indent=None if arguments.json else 1) + "\n")
    return 0 if within else 1


def measure(rate_hz: float, trials: int, *, real_time: bool) -> dict[str, dict[str, float]]:
    """Milliseconds of motion after the page has gone, by the way it went."""
    robot = Watched(_Endless(fake_spec(rate_hz)))
    device = BrowserConsole(robot.spec, ServingOptions(port=0))
    ending = threading.Event()
    options = RecordOptions(episodes=1, max_attempts=1, info=EpisodeInfo())
    task = FakeTask(10**9)
    recorder = Recorder(robot, device, task, NothingKept(), options, should_quit=ending.is_set)

    def run() -> None:
        with real_time_priority() if real_time else contextlib.nullcontext():
            recorder.run()

    loop = threading.Thread(target=run)
    loop.start()
    took_ms: dict[str, list[float]] = {way: [] for way in WAYS}
    rng = np.random.default_rng(0)
    for trial in range(trials * len(WAYS)):
        way = WAYS[trial % len(WAYS)]
        gone_s = _drive(device.url, way, rng.uniform(0.2, 0.6))
        took_ms[way].append(max(0.0, robot.moved_s - gone_s) * 1000)
    ending.set()
    loop.join()
    device.close()
    return {way: {"p50_ms": round(float(np.median(t)), 1), "max_ms": round(max(t), 1)} for way, t in took_ms.items()}


class _Endless(FakeRobot):
    """Never at its target."""

    def step(self, action: Action) -> StepResult:
        """Move, far from the target."""
        self.target = self.position + 100.0
        return super().step(action)


def _drive(url: str, way: str, seconds: float) -> float:
    """Drive for so long; returns the time of the last command."""
    with connect(url.replace("http", "ws") + "ws", compression=None) as page:
        seen, began_s = 0.0, time.monotonic()
        while time.monotonic() - began_s < seconds:
            page.send(json.dumps({"type": "drive", "axes": [1.0, 1.0], "seen": seen, "sent": 0.0}))
            gone_s = time.monotonic()
            while (message := _text(page.recv()))["type"] != "echo":
                pass
            seen = message["now"]
            time.sleep(SEND_PERIOD_S)
        if way == "silent":
            time.sleep(AFTERWARDS_S)
    time.sleep(AFTERWARDS_S)
    return gone_s


def _text(data: str | bytes) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(data)
    return message


if __name__ == "__main__":
    sys.exit(main())
