"""`robot-rlpd demos replay | video`.

Modules that only one command needs are imported inside it.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from demos.review.printing import counted, print_result, success_text
from demos.review.selection import select, select_one
from robot_rlpd.config import parse_json_object
from robot_rlpd.errors import ConfigError
from robot_rlpd.progress import ProgressLine
from robot_rlpd.task import TaskOptions, load_task
from robot_rlpd.watchdog import DRIVEN, watched


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Options of `demos replay`."""

    path: tyro.conf.Positional[str]
    """Store: a directory, or any fsspec URL."""

    episode: tyro.conf.Positional[str]
    """Episode: its number in `demos list`, its UUID, or the beginning of that."""

    task: str = ""
    """Task, such as pick_place; default the one that the episode names."""

    robot: str = ""
    """Robot to move: tcp://HOST:PORT of a served one, or a driver's NAME:ARGUMENT; default the task's own."""

    actions: Literal["executed", "commanded"] = "executed"
    """Send actions as they were executed after limits, or as they were commanded."""

    max_start_difference: float | None = None
    """Send nothing if the robot starts farther from the recording than this, in the units of any field; default no
    limit for the task's own robot, 0.1 with --robot."""

    pace: Literal["real", "fast"] = "fast"
    """Pace of the task's own robot; any other keeps its own."""

    success_when: str = ""
    """Condition that says when a gymnasium task is solved, such as 'observation[28] >= 1.35'."""

    env_kwargs: str = ""
    """JSON object: arguments of a gymnasium environment, or cameras, image_size, randomization,
    calibration, previous_actions of a simulated task."""

    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if self.max_start_difference is not None and not self.max_start_difference >= 0.0:
            raise ConfigError(field="max_start_difference", found=self.max_start_difference, allowed="at least 0")


START_LIMIT = 0.1
"""Farthest start from the recording on a robot that is not the task's own, in the units of any field."""


def replay(config: ReplayConfig) -> int:
    """Send the actions of a recorded episode to a robot again, simulated or real, and compare."""
    from demos.review.replay import replay as replay_episode
    from robot_rlpd.bridge.robots import open_robot
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.pacing import PacedRobot
    from robot_rlpd.safety import SafeRobot
    from robot_rlpd.store_layout import check_spec

    with EpisodeStore.open(config.path) as store:
        episode = store.read(select_one(store.infos(), config.episode))
    name = config.task or episode.info.task
    if not name:
        raise ConfigError("the episode names no task", field="task", hint="name one with --task")
    options = TaskOptions(
        success_when=config.success_when, env_kwargs=parse_json_object(config.env_kwargs, field="env_kwargs")
    )
    setup = load_task(name, options)
    limit = config.max_start_difference
    limit = START_LIMIT if limit is None and config.robot else limit
    line = ProgressLine(len(episode), unit="steps")
    with contextlib.ExitStack() as stack:
        driver = open_robot(config.robot, task_setup=setup, options=options)
        stack.callback(driver.close)
        check_spec(episode.spec, driver.spec, who=f"robot '{driver.spec.name}'")
        in_real_time = not config.robot and config.pace == "real"
        robot = stack.enter_context(watched(PacedRobot(driver), DRIVEN) if in_real_time else SafeRobot(driver))
        stack.callback(line.close)
        report = replay_episode(
            robot,
            setup.task,
            episode,
            executed=config.actions == "executed",
            max_start_difference=limit,
            on_step=line.update,
        )
    lines = [
        f"{episode.info.uuid}: {report.steps} of {counted(report.recorded_steps, 'step')} replayed; "
        f"{success_text(report.success)}, recorded as {success_text(report.recorded_success)}",
        *([f"  started up to {report.start_difference:.4g} away"] if report.start_difference else []),
        *(f"  {field}: at most {difference:.4g} away" for field, difference in report.differences.items()),
    ]
    print_result(config.json, {"uuid": episode.info.uuid, **asdict(report)}, lines)
    return 0


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Options of `demos video`."""

    path: tyro.conf.Positional[str]
    """Store: a directory, or any fsspec URL."""

    episodes: tyro.conf.Positional[tuple[str, ...]]
    """Episodes: numbers of `demos list`, FIRST-LAST, UUIDs or beginnings of them, solved, unsolved, unknown, all."""

    out: Path
    """File to write; ends in .mp4 (H.264; needs the extra datasets), .webp or .gif."""

    camera: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Camera to show; may be repeated; default all, side by side."""

    every: int = 1
    """Show each n-th image, at least 1."""

    speed: float = 1.0
    """Times the speed of the robot, above 0."""

    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(field="every", found=self.every, allowed="at least 1")
        if not self.speed > 0.0:
            raise ConfigError(field="speed", found=self.speed, allowed="above 0")


def video(config: VideoConfig) -> int:
    """Show what the cameras saw in recorded episodes, as a moving picture."""
    from demos.review.video import check_video, write_video
    from robot_rlpd.episode_store import EpisodeStore

    with EpisodeStore.open(config.path) as store:
        cameras = check_video(config.out, store.spec, config.camera)
        episodes = [store.read(place) for place in select(store.infos(), config.episodes)]
    if not episodes:
        raise ConfigError("no episode", field="episodes", found=" ".join(config.episodes), allowed="at least one")
    line = ProgressLine(sum(-(-len(episode) // config.every) + 1 for episode in episodes), unit="images")
    try:
        images = write_video(
            episodes, cameras, config.out, every=config.every, speed=config.speed, on_frame=line.update
        )
    finally:
        line.close()
    result = {"out": str(config.out), "episodes": len(episodes), "images": images, "cameras": cameras}
    text = f"{config.out}: {counted(len(episodes), 'episode')}, {counted(images, 'image')} of {', '.join(cameras)}"
    print_result(config.json, result, [text])
    return 0
