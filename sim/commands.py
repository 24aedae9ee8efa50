"""The command `sim video`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from robot_rlpd.errors import ConfigError
from robot_rlpd.task import load_task


@dataclass(frozen=True, kw_only=True)
class VideoCommand:
    """Options of `robot-rlpd sim video`."""

    store: tyro.conf.Positional[Path]
    """Store with recorded episodes of a simulated task."""
    out: Path
    """File to write; ends in .webp or .gif."""
    task: str = "pick_place"
    """Task that the episodes were recorded on."""
    episodes: int = 1
    """How many episodes to show, from the first on."""
    renderer: Annotated[str, tyro.conf.arg(metavar="{auto,gl,sketch}")] = "auto"
    """gl: OpenGL without a display; sketch: no OpenGL at all; auto: gl where it works."""
    json: bool = False
    """Print one JSON object on standard output."""


def video(command: VideoCommand) -> int:
    """Draw recorded episodes of a simulated task as a moving picture."""
    from robot_rlpd.episode_store import EpisodeStore
    from sim.robot import SimRobot
    from sim.video import episodes_video

    if command.renderer not in ("auto", "gl", "sketch"):
        raise ConfigError(field="renderer", found=command.renderer, allowed="auto, gl, sketch")
    robot = load_task(command.task).make_robot()
    if not isinstance(robot, SimRobot):
        raise ConfigError("not simulated here", field="task", found=command.task, allowed="reach, pick_place")
    with EpisodeStore.open(command.store) as store:
        if not len(store) or command.episodes < 1:
            raise ConfigError(field="episodes", found=command.episodes, allowed=f"1 to {len(store)}")
        shown = [store.read(index) for index in range(min(command.episodes, len(store)))]
    episodes_video(shown, command.out, robot=robot, renderer=command.renderer)
    if command.json:
        sys.stdout.write(json.dumps({"out": str(command.out), "episodes": len(shown)}) + "\n")
    else:
        sys.stdout.write(f"{command.out}: {len(shown)} episodes\n")
    return 0
