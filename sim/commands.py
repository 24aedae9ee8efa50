"""The commands `sim video`, `sim drawn` and `sim identify`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from robot_rlpd.config import write_text
from robot_rlpd.errors import ConfigError
from robot_rlpd.progress import ProgressLine
from robot_rlpd.task import TaskOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sim.calibrate import Calibrated
    from sim.identification import Identified


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
    from sim.options import SimOptions
    from sim.served import find_task
    from sim.video import episodes_video

    if command.renderer not in ("auto", "gl", "sketch"):
        raise ConfigError(field="renderer", found=command.renderer, allowed="auto, gl, sketch")
    robot = find_task(command.task, field="task").make_robot(SimOptions(), TaskOptions())
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


@dataclass(frozen=True, kw_only=True)
class DrawnCommand:
    """Options of `robot-rlpd sim drawn`."""

    store: tyro.conf.Positional[Path | None] = None
    """Store whose episodes tell what was drawn for them; without one, draws are made anew."""
    randomization: str = "wide"
    """What to draw from: none, mild, wide, or a JSON object such as '{"servo_gain_scale": [0.5, 1.5]}'."""
    samples: int = 1000
    """Episodes to draw for, at least 1."""
    seed: int = 0
    """Seed of the draws."""
    out: Path | None = None
    """Picture to write; ends in .svg, .png or .pdf."""
    json: bool = False
    """Print one JSON object on standard output."""


def drawn(command: DrawnCommand) -> int:
    """Show what was drawn for the episodes of a store, or what a randomization draws."""
    from sim.drawn import check_suffix, gather, plot_drawn
    from sim.quantities import QUANTITIES

    if command.out is not None:
        check_suffix(command.out)
    draws = _draws(command)
    values = gather(draws)
    told = {
        name: {
            "nominal": QUANTITIES[name].nominal if name in QUANTITIES else None,
            "min": float(numbers.min()),
            "median": _median(numbers),
            "max": float(numbers.max()),
            "meaning": QUANTITIES[name].meaning if name in QUANTITIES else "",
        }
        for name, numbers in values.items()
    }
    source = str(command.store) if command.store is not None else command.randomization
    if command.out is not None:
        plot_drawn(values, command.out, f"{source}: {len(draws)} episodes")
    if command.json:
        out = str(command.out) if command.out is not None else None
        sys.stdout.write(json.dumps({"source": source, "episodes": len(draws), "quantities": told, "out": out}) + "\n")
        return 0
    lines = [f"{source}: {len(draws)} episodes, {len(told)} quantities drawn"]
    lines += [
        f"  {name:<26} {q['min']:9.4g} to {q['max']:<9.4g} median {q['median']:<9.4g} {q['meaning']}"
        for name, q in told.items()
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _draws(command: DrawnCommand) -> list[dict[str, float]]:
    import numpy as np

    from robot_rlpd.config import parse_json_object
    from robot_rlpd.episode_store import EpisodeStore
    from sim.randomization import parse_randomization

    if command.store is not None:
        with EpisodeStore.open(command.store) as store:
            return [entry.info.randomization for entry in store.infos()]
    if command.samples < 1:
        raise ConfigError(field="samples", found=command.samples, allowed="at least 1")
    if command.seed < 0:
        raise ConfigError(field="seed", found=command.seed, allowed="at least 0")
    text: Any = command.randomization
    if text.lstrip().startswith("{"):
        text = parse_json_object(text, field="randomization")
    source, rng = parse_randomization(text), np.random.default_rng(command.seed)
    return [source.draw(rng) for _ in range(command.samples)]


def _median(numbers: NDArray[np.float64]) -> float:
    return float(sorted(numbers)[len(numbers) // 2])


@dataclass(frozen=True, kw_only=True)
class IdentifyCommand:
    """Options of `robot-rlpd sim identify`."""

    store: tyro.conf.Positional[Path]
    """Store with episodes of the real robot, or of a stand-in, on a simulated task."""
    task: str
    """Task that the episodes were recorded on."""
    parameters: tuple[str, ...] = ()
    """Quantities to fit (default: servo_gain_scale joint_damping_scale joint_friction_nm action_delay_s)."""
    calibration: Path | None = None
    """File of sim calibrate: what the robot's calibration was off by when the episodes were recorded."""
    episodes: int = 10
    """How many episodes to use, from the first on, at least 1."""
    evaluations: int = 400
    """Largest number of simulations of all these episodes; a step takes about 0.4 ms."""
    horizon: int = 1
    """Steps that are predicted before the simulation is set right again, at least 1."""
    seed: int = 0
    """Seed of the search, at least 0."""
    out: Path | None = None
    """JSON file to write the values to, in the form that --env-kwargs takes."""
    json: bool = False
    """Print one JSON object on standard output."""


def identify(command: IdentifyCommand) -> int:
    """Fit the simulation to recorded episodes; tell how well it predicts them before and after."""
    from robot_rlpd.episode_store import EpisodeStore
    from sim.identification import DEFAULT
    from sim.identification import identify as search
    from sim.options import read_calibration
    from sim.prediction import Predictor
    from sim.served import find_task

    for name in ("episodes", "evaluations", "horizon"):
        if getattr(command, name) < 1:
            raise ConfigError(field=name, found=getattr(command, name), allowed="at least 1")
    if command.seed < 0:
        raise ConfigError(field="seed", found=command.seed, allowed="at least 0")
    task = find_task(command.task, field="task")
    with EpisodeStore.open(command.store) as store:
        used = [store.read(index) for index in range(min(command.episodes, len(store)))]
    predictor = Predictor(task, used, horizon=command.horizon)
    known = read_calibration(command.calibration) if command.calibration is not None else {}
    line = ProgressLine(command.evaluations)
    try:
        found = search(
            predictor,
            command.parameters or DEFAULT,
            evaluations=command.evaluations,
            seed=command.seed,
            known=known,
            on_progress=lambda count, least: line.update(count, f"simulations, loss {least:.4f}"),
        )
    finally:
        line.close()
    if command.out is not None:
        write_text(command.out, json.dumps({"randomization": found.values}, indent=2) + "\n")
    _tell_identified(command, found, len(used), predictor.num_steps)
    return 0


def _tell_identified(command: IdentifyCommand, found: Identified, episodes: int, steps: int) -> None:
    if command.json:
        told = {
            "task": command.task,
            "episodes": episodes,
            "steps": steps,
            "residual_before_m": found.before_m,
            "residual_after_m": found.after_m,
            "parameters": _parameters(found),
            "evaluations": found.evaluations,
            "out": str(command.out) if command.out is not None else None,
        }
        sys.stdout.write(json.dumps(told) + "\n")
        return
    lines = [
        f"{episodes} episodes, {steps} steps; residual of the prediction {1000 * found.before_m:.3f} mm before, "
        f"{1000 * found.after_m:.3f} mm after ({found.evaluations} simulations)",
        *_told_parameters(found),
        f"use it: --env-kwargs '{json.dumps({'randomization': found.values})}'",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


@dataclass(frozen=True, kw_only=True)
class CalibrateCommand:
    """Options of `robot-rlpd sim calibrate`."""

    store: tyro.conf.Positional[Path]
    """Store with solved episodes of the real robot, or of a stand-in, on a simulated task."""
    task: str
    """Task that the episodes were recorded on."""
    seed: int = 0
    """Seed of the search and of the expert in simulation, at least 0."""
    out: Path | None = None
    """JSON file to write the values to, in the form that --env-kwargs takes."""
    corrected: Path | None = None
    """Store to write: the same episodes as the robot will show things when it is calibrated."""
    json: bool = False
    """Print one JSON object on standard output."""


def calibrate(command: CalibrateCommand) -> int:
    """Find what camera and arm are off by, from where solved episodes end."""
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.specs import check_contract
    from sim.calibrate import calibrate as search
    from sim.corrected import write_corrected
    from sim.served import find_task

    if command.seed < 0:
        raise ConfigError(field="seed", found=command.seed, allowed="at least 0")
    if command.corrected is not None and command.corrected.exists():
        raise ConfigError("exists already", field="corrected", found=str(command.corrected), hint="choose another name")
    task = find_task(command.task, field="task")
    with EpisodeStore.open(command.store) as store:
        check_contract(task.spec.contract(), store.spec, who="the recorded robot")
        found = search(task, (store.read(index) for index in range(len(store))), seed=command.seed)
        if command.out is not None:
            write_text(command.out, json.dumps({"calibration": found.values}, indent=2) + "\n")
        if command.corrected is not None:
            write_corrected(store, command.corrected, task.scene, found.values)
    if command.json:
        told = {
            "task": command.task,
            "solved_episodes": found.episodes,
            "ends_apart_before_m": found.before_m,
            "ends_apart_after_m": found.after_m,
            "parameters": _parameters(found),
            "out": str(command.out) if command.out is not None else None,
            "corrected": str(command.corrected) if command.corrected is not None else None,
        }
        sys.stdout.write(json.dumps(told) + "\n")
        return 0
    lines = [
        f"{found.episodes} solved episodes end {1000 * found.before_m:.1f} mm from those in simulation before, "
        f"{1000 * found.after_m:.1f} mm after",
        *_told_parameters(found),
        f"take it out of what the robot shows: serve --env-kwargs '{json.dumps({'calibration': found.values})}'",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parameters(found: Identified | Calibrated) -> dict[str, Any]:
    return {name: {"value": value, "determined": found.determined[name]} for name, value in found.values.items()}


def _told_parameters(found: Identified | Calibrated) -> list[str]:
    return [
        f"  {name:<26} {value:9.4g}{'' if found.determined[name] else '   the data do not determine it'}"
        for name, value in found.values.items()
    ]
