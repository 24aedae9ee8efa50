"""`robot-rlpd quickstart`: the whole loop on the simulated arm, every part in its own process."""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rlpd.errors import ConfigError, RobotRlpdError, RunDirectoryError

TASK = "pick_place"
_PR_SET_PDEATHSIG = 1  # sys/prctl.h


@dataclass(frozen=True, kw_only=True)
class QuickstartCommand:
    """Options of `robot-rlpd quickstart`."""

    run_dir: Path | None = None
    """Directory for everything it makes (default: runs/quickstart-<date>-<time>)."""
    demonstrations: int = 20
    """Scripted demonstrations to record."""
    env_steps: int = 30_000
    """Environment steps of training."""
    time_limit_min: float = 7.0
    """Minutes after which training ends all the same, with its best policy so far."""
    episodes: int = 50
    """Episodes in which the deployed policy is evaluated."""
    seed: int = 0
    """Decides everything random."""
    json: bool = False
    """Print one JSON object on standard output."""

    def __post_init__(self) -> None:
        for name, least in (("demonstrations", 1), ("env_steps", 1), ("episodes", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(field=name, found=getattr(self, name), allowed=f"at least {least}")


class StepFailedError(RobotRlpdError):
    """A step of the quickstart ended with an error, which was printed above."""


def quickstart(command: QuickstartCommand) -> int:
    """Run the whole loop on the simulated arm: record, train, export, deploy, report.

    Demonstrations of pick_place are recorded, RLPD learns from them against a simulator served over the bridge, the
    policy is exported to ONNX and drives the served robot without torch. Leaves a run directory with report.html.
    """
    from deploy.report import write_report

    run_dir = command.run_dir or Path("runs") / time.strftime("quickstart-%Y%m%d-%H%M%S")
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise RunDirectoryError("exists already", field=str(run_dir), hint="choose another --run-dir")
    run_dir.mkdir(parents=True, exist_ok=True)
    loop = _Loop(run_dir, command)
    try:
        report = write_report(run_dir, loop.run())
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted; what there is lies in {run_dir}\n{loop.how_to_go_on()}\n")
        return 130
    deployed = loop.results["deploy"]
    if command.json:
        sys.stdout.write(json.dumps({"run_dir": str(run_dir), "report": str(report), **loop.results}) + "\n")
    sys.stderr.write(
        f"\ndeployed policy: {deployed['successes']}/{deployed['episodes']} solved "
        f"(95 % interval {deployed['ci95'][0]:.0%}-{deployed['ci95'][1]:.0%})\nreport: {report}\n"
    )
    return 0


class _Loop:
    """The steps in order; each is a command that could be typed."""

    def __init__(self, run_dir: Path, command: QuickstartCommand) -> None:
        self._run_dir = run_dir
        self._command = command
        self._started_s = time.monotonic()
        self._address = ""
        self._step = 0
        self.results: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Run all steps; returns their results by name."""
        demos, train, policy = (self._run_dir / name for name in ("demos.zarr", "train", "policy.onnx"))
        command = self._command
        self._do(
            f"record {command.demonstrations} demonstrations with the scripted expert",
            *("record", "--task", TASK, "--device", "scripted", "--episodes", str(command.demonstrations)),
            *("--seed", str(command.seed), "--out", str(demos)),
        )
        with served_robot(TASK, log=self._run_dir / "serve.log") as address:
            self._address = address
            self._do(
                f"train with RLPD against the robot served at {address}",
                *("train", "--task", TASK, "--prior", str(demos), "--preset", "quickstart", "--robot", address),
                *("--env-steps", str(command.env_steps), "--time-limit-min", str(command.time_limit_min)),
                *("--seed", str(command.seed), "--run-dir", str(train)),
            )
            self._do("export the best policy to ONNX", "export", str(train), "--out", str(policy))
            self._do("verify the file against torch", "verify", str(policy), "--checkpoint", str(train))
            self._do(
                f"deploy the file on the served robot, {command.episodes} episodes, without torch",
                *("run", str(policy), "--robot", address, "--episodes", str(command.episodes)),
                # Other resets than those on which the best checkpoint was chosen.
                *("--seed", str(command.seed + 1), "--record", str(self._run_dir / "deployed.zarr")),
                name="deploy",
            )
        self._do(
            "draw a video of the deployed policy",
            *("sim", "video", str(self._run_dir / "deployed.zarr"), "--task", TASK),
            *("--out", str(self._run_dir / "deployed.webp"), "--episodes", "3"),
            name="video",
        )
        self.results["total_s"] = round(time.monotonic() - self._started_s, 1)
        (self._run_dir / "results.json").write_text(json.dumps(self.results, indent=2) + "\n")
        return self.results

    def how_to_go_on(self) -> str:
        """What to type after an interruption."""
        train = self._run_dir / "train"
        if not (train / "checkpoints" / "latest.pt").exists():
            return "start again: robot-rlpd quickstart"
        return (
            f"go on:  robot-rlpd serve --robot sim:{TASK} --address {self._address} --pace fast &\n"
            f"        robot-rlpd train --resume {train}\n"
            f"        robot-rlpd export {train} --out {self._run_dir / 'policy.onnx'}"
        )

    def _do(self, what: str, *arguments: str, name: str = "") -> None:
        self._step += 1
        typed = " ".join(arguments)
        sys.stderr.write(f"\n[{self._step}/6] {what}\n$ robot-rlpd {typed}\n")
        sys.stderr.flush()
        started_s = time.monotonic()
        result = run_command([*arguments, "--json"])
        result["step_s"] = round(time.monotonic() - started_s, 1)
        result["command"] = f"robot-rlpd {typed}"
        self.results[name or arguments[0]] = result


def run_command(arguments: Sequence[str]) -> dict[str, Any]:
    """Run one of our commands in its own process; its progress goes to our standard error.

    Raises:
        StepFailedError: It failed; says how.
    """
    process = subprocess.Popen(
        [*_program(), *arguments], stdout=subprocess.PIPE, text=True, preexec_fn=_end_with_parent
    )
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:  # the terminal sent Ctrl-C to the child as well: let it save
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.communicate(timeout=30.0)
        process.kill()
        raise
    try:
        result: dict[str, Any] = json.loads(output)
    except json.JSONDecodeError:
        result = {"error": {"message": f"exit status {process.returncode}"}}
    if process.returncode == 130:
        raise KeyboardInterrupt
    if result.get("ended") == "stopped":
        raise KeyboardInterrupt
    if process.returncode != 0:
        message = result.get("error", {}).get("message", f"exit status {process.returncode}")
        raise StepFailedError(f"failed: {message}", field=f"robot-rlpd {arguments[0]}")
    return result


@contextlib.contextmanager
def served_robot(task: str, *, log: Path, pace: str = "fast") -> Iterator[str]:
    """Serve a simulated robot on a free loopback port, in its own process.

    Yields:
        Its address.
    """
    arguments = ["serve", "--robot", f"sim:{task}", "--address", "tcp://127.0.0.1:0", "--pace", pace, "--json"]
    with log.open("w") as errors:
        # Its own session: Ctrl-C goes to the learner first, and the robot is stopped when the learner has saved.
        process = subprocess.Popen(
            [*_program(), *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline() or "{}")
        if "address" not in told:
            raise StepFailedError(f"the robot could not be served, see {log}", field="robot-rlpd serve")
        yield str(told["address"])
    finally:
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    """Runs in the child: SIGTERM when the parent is gone, even by kill -9, so that no robot is left being served."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _program() -> list[str]:
    return [sys.executable, "-c", "import sys; from robot_rlpd.cli import main; sys.exit(main())"]
