"""The command `finetune`."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from robot_rlpd.errors import ConfigError, RobotError
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.learner.finetune_config import FinetuneConfig, ResetKind, SuccessKind
from robot_rlpd.learner.task_robot import open_task_robot
from robot_rlpd.task import load_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.learner.buttons import Buttons
    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.learner.corrector_device import CorrectorDevice
    from robot_rlpd.learner.finetune import FinetuneSession
    from robot_rlpd.learner.preflight import Check
    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.robot import Robot
    from robot_rlpd.task import Task, TaskSetup

DEFAULT_MINUTES = 20.0
DEFAULT_WARM_UP = 300


@dataclass(frozen=True, kw_only=True)
class FinetuneCommand:
    """Options of `robot-rlpd finetune`."""

    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Run directory (its best checkpoint) or checkpoint of the starting policy."""
    robot: str = ""
    """Address of the served robot, such as tcp://127.0.0.1:5555; empty runs the task in this process."""
    prior: tuple[Path, ...] = ()
    """Stores of prior data: simulation, demonstrations on the robot; steps of who takes over join the last one."""
    prior_weights: tuple[float, ...] = ()
    """Share of each prior store among the prior transitions of a minibatch (default: the same for each)."""
    minutes: float | None = None
    """Time on the robot in training, control steps over control rate [min] (default: 20); with --resume in all."""
    env_steps: int | None = None
    """Environment steps in training, instead of --minutes."""
    wall_minutes: float | None = None
    """End after so many minutes by the clock, evaluations and waiting included (default: 3 times --minutes and 10)."""
    run_dir: Path | None = None
    """Directory of the session; must not exist."""
    resume: Path | None = None
    """Go on with this session, on another day too; all but --robot, --minutes, --wall-minutes is taken from it."""
    check: bool = False
    """Only the pre-flight checks and the plan."""
    yes: bool = False
    """Begin without asking; a terminal is asked otherwise."""
    success: SuccessKind = "task"
    """Who says that the task is solved. task: the task, from observations; robot: the robot's signal "success";
    operator: the success button of --intervene."""
    resets: ResetKind = "auto"
    """auto: the robot resets itself and its scene; prompt: a person does, and confirms each."""
    intervene: str = ""
    """Device of who may take over: keyboard, gamepad, spacemouse, browser; scripted stands in for a person."""
    takeover_after: float = 0.5
    """Part of the time limit of an episode after which a scripted device takes over, 0 to 1."""
    corrector_noise: float = 0.3
    """Mistakes of a scripted device, 0 to 1."""
    patience_min: float = 15.0
    """How long to wait for a robot that is gone [min]."""
    warm_up: int | None = None
    """Steps of the starting policy before the first update (default: 300, at most a quarter of all)."""
    utd_ratio: int | None = None
    """Critic updates per environment step (default: that of the starting policy's training)."""
    batch_size: int | None = None
    """Transitions per minibatch (default: likewise)."""
    offline_fraction: float | None = None
    """Share of prior data in each minibatch, 0 to 1 (default: likewise)."""
    max_episode_steps: int | None = None
    """Time limit of an episode in steps (default: likewise)."""
    eval_every: int | None = None
    """Environment steps between evaluations; 0 never (default: a fifth of all)."""
    eval_episodes: int = 10
    """Episodes per evaluation; the starting policy is evaluated first."""
    seed: int = 0
    """Decides everything random."""
    device: str = "cpu"
    """Torch device: cpu, cuda."""
    threads: int = 0
    """Torch threads; 0 uses all cores for large networks while they are free, else one."""
    overlap: Literal["auto", "yes", "no"] = "auto"
    """Update while the robot moves (auto: yes for a served robot)."""
    checkpoint_every_s: float = 60.0
    """Longest time between checkpoints [s]; they are written at episode ends."""
    no_compile: bool = False
    """Do not compile the update (slower; needs no compiler)."""
    json: bool = False
    """Print one JSON object on standard output."""

    def __post_init__(self) -> None:
        for name in ("env_steps", "warm_up", "max_episode_steps"):
            found = getattr(self, name)
            if found is not None and found < 1:
                raise ConfigError(field=name, found=found, allowed=">= 1")
        if self.wall_minutes is not None and not self.wall_minutes > 0:
            raise ConfigError(field="wall_minutes", found=self.wall_minutes, allowed="> 0 minutes")


def finetune(command: Annotated[FinetuneCommand, tyro.conf.arg(name="")]) -> int:
    """Fine-tune a policy on a real robot, with prior data from simulation and demonstrations.

    Looks whether everything is ready, prints the plan, evaluates the starting policy, then trains with RLPD. Ctrl-C
    saves and ends; --resume goes on.
    """
    from robot_rlpd.learner.checkpoint import BEST, load_checkpoint
    from robot_rlpd.learner.corrector_device import CorrectorDevice
    from robot_rlpd.learner.finetune_config import START, read_finetune_config
    from robot_rlpd.learner.finetune_plan import plan
    from robot_rlpd.learner.run_directory import CHECKPOINTS, read_run_config
    from robot_rlpd.learner.session_config import check_device

    logging.getLogger("robot_rlpd").setLevel(logging.INFO)
    if command.resume is not None:
        run_dir, resumed = command.resume, True
        config, asked = read_run_config(run_dir), read_finetune_config(run_dir)
        start = load_checkpoint(run_dir / CHECKPOINTS / START)
        config, asked = _extended(command, config, asked, start)
    else:
        resumed = False
        if command.start is None or command.run_dir is None:
            missing = "from" if command.start is None else "run_dir"
            raise ConfigError("is needed", field=missing, hint="or use --resume DIR")
        run_dir, start = command.run_dir, load_checkpoint(command.start, prefer=BEST)
        config, asked = resolve(command, start)
    check_device(config.device)
    setup = load_task(config.task, config.task_options())
    task = judge(setup, asked)
    with contextlib.ExitStack() as stack:
        should_stop = stack.enter_context(stop_on_signals())
        driver = stack.enter_context(open_task_robot(setup, config.robot, config.task_options()))
        device = stack.enter_context(CorrectorDevice(asked, driver.spec, setup, seed=config.seed))
        robot = attended(driver, asked, device, should_stop)
        checks = look(start, robot, config, task)
        sys.stderr.write(plan(config, asked, start))
        if command.check or not _agreed(command, asked, should_stop):
            _print(command, {"preflight": [asdict(check) for check in checks]}, "")
            return 0
        session = open_session(config, asked, run_dir, start, robot, task, device, resumed=resumed)
        reason = session.run(should_stop)
        session.close()
    result = session.summary(reason) | {"preflight": [asdict(check) for check in checks]}
    if reason == "stopped":
        sys.stderr.write(f"stopped; go on with: robot-rlpd finetune --resume {run_dir}\n")
    _print(command, result, told(result))
    return 0


def resolve(command: FinetuneCommand, start: Checkpoint) -> tuple[SessionConfig, FinetuneConfig]:
    """The exact configuration of a new session: the starting policy's training, then what was given."""
    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.learner.tuning import choose_matmul_precision

    assert command.start is not None
    names = ("utd_ratio", "batch_size", "offline_fraction")
    given = {name: getattr(command, name) for name in names if getattr(command, name) is not None}
    rlpd = replace(start.config, **given)
    rate_hz = start.contract.control_rate_hz
    if command.env_steps is not None and command.minutes is not None:
        raise ConfigError("one of the two", field="env_steps", found=command.env_steps, allowed="or --minutes")
    if command.env_steps is None:
        minutes = DEFAULT_MINUTES if command.minutes is None else command.minutes
    else:
        minutes = command.env_steps / rate_hz / 60.0
    asked = FinetuneConfig(
        start=command.start,
        minutes=minutes,
        success=command.success,
        resets=command.resets,
        intervene=command.intervene,
        corrector_noise=command.corrector_noise,
        takeover_after=command.takeover_after,
        patience_min=command.patience_min,
    )
    env_steps = steps_in(minutes, rate_hz)
    options = start.task_options
    precision = choose_matmul_precision(rlpd.ensemble_size, rlpd.batch_size, max(rlpd.hidden_dims))
    return SessionConfig(
        task=start.task,
        run_id=str(uuid.uuid4()),
        robot=command.robot,
        prior=command.prior,
        prior_weights=command.prior_weights or (1.0,) * len(command.prior),
        rlpd=rlpd,
        env_steps=env_steps,
        start_training=max(1, min(DEFAULT_WARM_UP, env_steps // 4)) if command.warm_up is None else command.warm_up,
        seed=command.seed,
        reward=options.reward,
        success_when=options.success_when,
        env_kwargs=options.env_kwargs,
        max_episode_steps=command.max_episode_steps or start.max_episode_steps,
        normalize=start.normalizer is not None,
        eval_every=max(1, env_steps // 5) if command.eval_every is None else command.eval_every,
        eval_episodes=command.eval_episodes,
        time_limit_min=wall_limit_min(minutes) if command.wall_minutes is None else command.wall_minutes,
        checkpoint_every_s=command.checkpoint_every_s,
        device=command.device,
        threads=command.threads,
        matmul_precision=precision if command.device == "cpu" else "highest",
        overlap=bool(command.robot) if command.overlap == "auto" else command.overlap == "yes",
        compile_update=not command.no_compile,
    ), asked


def steps_in(minutes: float, rate_hz: float) -> int:
    """Control steps in a time on the robot [min]."""
    return max(1, round(60.0 * minutes * rate_hz))


def wall_limit_min(minutes: float) -> float:
    """How long a session with so much time on the robot may take by the clock, if nothing else is said [min]."""
    return 3.0 * minutes + 10.0


def _extended(
    command: FinetuneCommand, config: SessionConfig, asked: FinetuneConfig, start: Checkpoint
) -> tuple[SessionConfig, FinetuneConfig]:
    """A resumed session, with more time if that was given."""
    config = replace(config, robot=command.robot or config.robot)
    if command.minutes is not None:
        asked = replace(asked, minutes=command.minutes)
        env_steps = steps_in(command.minutes, start.contract.control_rate_hz)
        config = replace(config, env_steps=env_steps, time_limit_min=wall_limit_min(command.minutes))
    if command.wall_minutes is not None:
        config = replace(config, time_limit_min=command.wall_minutes)
    return config, asked


def judge(setup: TaskSetup, asked: FinetuneConfig) -> Task:
    """Who says what is solved."""
    from robot_rlpd.learner.success import SignalledTask

    if asked.success == "task":
        return setup.task
    return SignalledTask(setup.task.name, setup.task.max_episode_steps)


def attended(robot: Robot, asked: FinetuneConfig, device: CorrectorDevice, should_stop: Callable[[], bool]) -> Robot:
    """The robot with the person beside it, who may judge and reset.

    Raises:
        ConfigError: A device without buttons is to say what is solved.
    """
    from robot_rlpd.learner.success import OperatorJudgedRobot, PromptedRobot

    if asked.success == "operator":
        if device.buttons is None:
            raise ConfigError("has no buttons", field="intervene", found=asked.intervene, allowed="keyboard, gamepad")
        robot = OperatorJudgedRobot(robot, device.buttons)
    if asked.resets == "prompt":
        robot = PromptedRobot(robot, lambda: confirmed(device.buttons, should_stop))
    return robot


def confirmed(buttons: Buttons | None, should_stop: Callable[[], bool]) -> bool:
    """Ask for the scene to be put in order, and wait for the success button, or for Enter where there is none."""
    import select
    import time

    sys.stderr.write("\nput the scene in order, then press Enter (or the success button) ")
    sys.stderr.flush()
    while not should_stop():
        if buttons is None:
            if select.select([sys.stdin], [], [], 0.1)[0]:
                return sys.stdin.readline() != ""
        elif buttons.take("success", "start"):
            return True
        else:
            time.sleep(0.05)
    return False


def look(start: Checkpoint, robot: Robot, config: SessionConfig, task: Task) -> list[Check]:
    """Make the pre-flight checks, and show each as it is made.

    Raises:
        RobotError: One failed.
    """
    from robot_rlpd.learner.preflight import Preflight

    checks = []
    preflight = Preflight(start=start, robot=robot, address=config.robot, task=task, prior=config.prior)
    for check in preflight.checks():
        sys.stderr.write(f"{check}\n")
        checks.append(check)
        if check.status == "FAILED":
            raise RobotError(f"pre-flight: {check.told}", field=check.name)
    return checks


def _agreed(command: FinetuneCommand, asked: FinetuneConfig, should_stop: Callable[[], bool]) -> bool:
    """A terminal is asked before the robot moves by itself; a device that reads the terminal has its own keys."""
    if command.yes or not sys.stdin.isatty() or asked.intervene.startswith("keyboard"):
        return True
    sys.stderr.write("Enter begins, Ctrl-C ends ")
    sys.stderr.flush()
    import select

    while not should_stop():
        if select.select([sys.stdin], [], [], 0.1)[0]:
            return sys.stdin.readline() != ""
    return False


def open_session(
    config: SessionConfig,
    asked: FinetuneConfig,
    run_dir: Path,
    start: Checkpoint,
    robot: Robot,
    task: Task,
    device: CorrectorDevice,
    *,
    resumed: bool,
) -> FinetuneSession:
    """A session, new or resumed; one that cannot start leaves no directory in the way of the next try."""
    from robot_rlpd.errors import RunDirectoryError
    from robot_rlpd.learner.finetune import FinetuneSession
    from robot_rlpd.learner.starting import prepare_finetuning

    def make() -> FinetuneSession:
        return FinetuneSession(
            config, asked, run_dir, robot, task, corrector=device.corrector, stop_asked=device.stop_asked
        )

    if resumed:
        return make()
    try:
        prepare_finetuning(config, asked, run_dir, start, robot.spec)
        return make()
    except RunDirectoryError:  # it holds something of somebody else
        raise
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise


def told(result: dict[str, Any]) -> str:
    """What became of it, and what to do with it."""
    start, last = result["start_evaluation"], result["evaluation"]
    lines = [
        f"{result['ended']} after {result['env_steps']} steps, {result['robot_min']:.1f} min on the robot, "
        f"{result['trained_s'] / 60.0:.1f} min by the clock, utd_ratio {result['utd_ratio']:.1f}"
    ]
    if result["interventions"]["steps"]:
        shares = [f"{100 * result['interventions'][name]:.0f} %" for name in ("first_rate", "recent_rate")]
        lines.append(f"taken over: {shares[0]} of the first episodes' steps, {shares[1]} of the last")
    if start is None or last is None:
        lines.append("not evaluated: what is best is not known")
    elif result["evaluations"] < 2:
        lines.append(f"starting policy {_solved(start)} solved; not evaluated since")
    else:
        lines.append(f"starting policy {start['successes']}/{start['episodes']} solved, now {_solved(last)}")
        if result["best_success_rate"] <= start["success_rate"]:
            lines.append("learning did not get beyond the starting policy in these evaluations: it is kept")
        elif last["success_rate"] < result["best_success_rate"]:
            lines.append(f"it was better before: {100 * result['best_success_rate']:.0f} %, which is kept")
    lines.append(f"next: robot-rlpd export {result['best_checkpoint']} --out policy.onnx")
    return "\n".join(lines) + "\n"


def _solved(evaluation: dict[str, Any]) -> str:
    low, high = evaluation["ci95"]
    return f"{evaluation['successes']}/{evaluation['episodes']} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"


def _print(command: FinetuneCommand, result: dict[str, Any], text: str) -> None:
    if command.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stderr.write(text)
