"""The command `finetune`."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from robot_rlpd.errors import ConfigError
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.learner.finetune_config import ResetKind, SuccessKind, TakeoverKind
from robot_rlpd.learner.task_robot import open_task_robot
from robot_rlpd.task import load_task


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
    operator: the success button of --intervene; classifier: --classifier."""
    classifier: Path | None = None
    """File of a success classifier, as written by robot-rlpd reward train; for --success classifier."""
    resets: ResetKind = "auto"
    """auto: the robot resets itself and its scene; prompt: a person does, and confirms each."""
    intervene: str = ""
    """Device of who may take over: keyboard, gamepad, spacemouse, browser; scripted stands in for a person."""
    takeover: TakeoverKind = "stuck"
    """When a scripted device takes over. stuck: after --stuck-s without progress, and it gives back when half of the
    way that was left is done; late: after --takeover-after of the time limit, for the rest of the episode."""
    stuck_s: float = 1.0
    """Time without progress after which the policy counts as stuck [s]."""
    takeover_after: float = 0.5
    """Part of the time limit of an episode after which the policy counts as late, 0 to 1."""
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
    from robot_rlpd.learner.attendance import agreed, attended, classifier_of, judge
    from robot_rlpd.learner.checkpoint import BEST, load_checkpoint
    from robot_rlpd.learner.corrector_device import CorrectorDevice
    from robot_rlpd.learner.finetune_config import START, read_finetune_config
    from robot_rlpd.learner.finetune_opening import look, open_session
    from robot_rlpd.learner.finetune_plan import plan
    from robot_rlpd.learner.finetune_report import told
    from robot_rlpd.learner.finetune_resolve import extended, resolve
    from robot_rlpd.learner.run_directory import CHECKPOINTS, read_run_config
    from robot_rlpd.learner.session_config import check_device

    logging.getLogger("robot_rlpd").setLevel(logging.INFO)
    if command.resume is not None:
        run_dir, resumed = command.resume, True
        config, asked = read_run_config(run_dir), read_finetune_config(run_dir)
        start = load_checkpoint(run_dir / CHECKPOINTS / START)
        config, asked = extended(command, config, asked, start)
    else:
        resumed = False
        if command.start is None or command.run_dir is None:
            missing = "from" if command.start is None else "run_dir"
            raise ConfigError("is needed", field=missing, hint="or use --resume DIR")
        run_dir, start = command.run_dir, load_checkpoint(command.start, prefer=BEST)
        config, asked = resolve(command, start)
    check_device(config.device)
    setup = load_task(config.task, config.task_options())
    with contextlib.ExitStack() as stack:
        should_stop = stack.enter_context(stop_on_signals())
        driver = stack.enter_context(open_task_robot(setup, config.robot, config.task_options()))
        device = stack.enter_context(CorrectorDevice(asked, driver.spec, setup, seed=config.seed))
        classifier = classifier_of(asked.classifier, run_dir, driver.spec, resumed=resumed)
        task = judge(setup, asked.success, classifier)
        robot = attended(driver, asked, device, should_stop, classifier)
        checks = look(start, robot, config, task)
        sys.stderr.write(plan(config, asked, start))
        if command.check or not agreed(asked, should_stop, ask=not command.yes):
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


def _print(command: FinetuneCommand, result: dict[str, Any], text: str) -> None:
    if command.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stderr.write(text)
