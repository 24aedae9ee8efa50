"""`robot-rlpd record` and `robot-rlpd demos info | list | import`.

Modules that only one command needs are imported inside it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from demos.recording.cameras import TIMEOUT_S, check_timeout_s
from robot_rlpd.config import parse_json_object
from robot_rlpd.errors import ConfigError
from robot_rlpd.progress import ProgressLine
from robot_rlpd.registry import load_entry_point
from robot_rlpd.robot import Source
from robot_rlpd.task import RewardKind, TaskOptions, load_task


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """Options of `record`."""

    task: str
    """Task, such as pick_place or gymnasium:Pendulum-v1."""

    out: Path
    """Directory of the store to write."""

    device: str = "scripted"
    """Who demonstrates: scripted (the task's expert), keyboard, gamepad, spacemouse, browser, leader:tcp://HOST:PORT,
    policy:FILE.onnx, or another registered device."""

    robot: str = ""
    """Robot to record on: tcp://HOST:PORT of a served one, or a driver's NAME:ARGUMENT; default the task's own."""

    episodes: int = 20
    """Episodes to keep, at least 1; with --resume those that the store holds already count."""

    max_attempts: int | None = None
    """Give up after so many episodes, kept or not; default 10 times --episodes."""

    noise: float = 0.7
    """Mistakes of the scripted device, 0 (perfect) to 1 (clumsy)."""

    seed: int = 0
    """Seed of the device and of the first reset; every attempt takes the next."""

    keep_failures: bool = False
    """Keep unsolved episodes too."""

    append: bool = False
    """Add to the store if it exists."""

    resume: bool = False
    """Go on with a session: add to the store until it holds --episodes, and with the next seeds."""

    reset_time_s: float | None = None
    """Seconds between two episodes to put the scene in order, at least 0; by default a device that a person operates
    waits until the operator begins, and others do not wait."""

    camera_timeout_s: float = TIMEOUT_S
    """A camera that gives no image for so many seconds ends the episode, above 0; inf for never."""

    jpeg_quality: int | None = None
    """Of camera images in a new store, 1 to 100; default 90."""

    lossless: bool = False
    """Keep camera images of a new store exactly, in several times the space of JPEG."""

    real_time: bool = False
    """Ask for real-time priority (SCHED_FIFO) for the control loop; doctor says whether it is permitted."""

    operator: str = ""
    """Who demonstrates, kept with every episode."""

    notes: str = ""
    """Free text, kept with every episode."""

    success_when: str = ""
    """Condition that says when a gymnasium task is solved, such as 'observation[28] >= 1.35'."""

    env_kwargs: str = ""
    """JSON object: arguments of a gymnasium environment, or cameras, image_size, randomization,
    calibration, previous_actions of a simulated task."""

    max_episode_steps: int | None = None
    """Time limit in control steps; default the task's."""

    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        _at_least("episodes", self.episodes, 1)
        _at_least("max_attempts", self.max_attempts, 1)
        _at_least("seed", self.seed, 0)
        _at_least("reset_time_s", self.reset_time_s, 0)
        if not 0.0 <= self.noise <= 1.0:
            raise ConfigError(field="noise", found=self.noise, allowed="0 to 1")
        check_timeout_s(self.camera_timeout_s)


def record(config: RecordConfig) -> int:
    """Record demonstrations from a device into a store."""
    from demos.recording.plan import Plan, summary
    from demos.recording.run import run
    from robot_rlpd.images import ImageCodec

    options = TaskOptions(
        success_when=config.success_when,
        env_kwargs=parse_json_object(config.env_kwargs, field="env_kwargs"),
        max_episode_steps=config.max_episode_steps,
    )
    plan = Plan(
        setup=load_task(config.task, options),
        task_options=options,
        robot=config.robot,
        device=config.device,
        out=config.out,
        append=config.append,
        resume=config.resume,
        episodes=config.episodes,
        max_attempts=config.max_attempts,
        noise=config.noise,
        seed=config.seed,
        keep_failures=config.keep_failures,
        reset_time_s=config.reset_time_s,
        camera_timeout_s=config.camera_timeout_s,
        codec=ImageCodec.wished(lossless=config.lossless, jpeg_quality=config.jpeg_quality),
        real_time=config.real_time,
        operator=config.operator,
        notes=config.notes,
    )
    recorded = run(plan)
    _print(config.json, recorded.to_json(), [summary(recorded)])
    return recorded.status


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Options of `demos info`."""

    path: tyro.conf.Positional[str]
    """Store: a directory, or any fsspec URL."""

    json: bool = False
    """Print one JSON object."""


def info(config: InfoConfig) -> int:
    """Summarize a store."""
    from demos.summary import summarize
    from robot_rlpd.episode_store import EpisodeStore

    with EpisodeStore.open(config.path) as store:
        summary = summarize(store)
    _print(config.json, summary, _lines(summary))
    return 0


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Options of `demos list`."""

    path: tyro.conf.Positional[str]
    """Store: a directory, or any fsspec URL."""

    json: bool = False
    """Print one JSON object."""


def list_episodes(config: ListConfig) -> int:
    """List the episodes of a store, one per line."""
    from demos.summary import describe_episode
    from robot_rlpd.episode_store import EpisodeStore

    with EpisodeStore.open(config.path) as store:
        episodes = [describe_episode(index, episode) for index, episode in enumerate(store.infos())]
    success = {True: "solved", False: "unsolved", None: "unknown"}
    lines = [
        f"{e['index']:>5}  {e['uuid']}  {e['steps']:>6} steps  {e['ended']:<11}  {success[e['success']]:<8}  "
        f"{e['task']}".rstrip()
        for e in episodes
    ]
    _print(config.json, {"episodes": episodes}, lines)
    return 0


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Options of `demos import`."""

    file: tyro.conf.Positional[Path]
    """File or directory to read."""

    format: str
    """Layout of the file: d4rl, robomimic, minari, replay_buffer (zarr, as diffusion_policy reads it), lerobot, or
    another registered converter."""

    out: Path
    """Directory of the store to write."""

    task: str = ""
    """Task that the data are for; without it the robot is described from the file, where that can be done."""

    field: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=DATASET, NAME=DATASET[a:b] or NAME=DATASET[i]: where a field comes from; may be repeated."""

    source: str = "human"
    """Who chose the actions: policy, human, scripted or random."""

    success_when: str = ""
    """Condition that says when a gymnasium task is solved, such as 'observation[28] >= 1.35'."""

    reward: RewardKind = "sparse"
    """The task's reward as it will be used; here it only decides whether success can be labelled."""

    env_kwargs: str = ""
    """JSON object of keyword arguments for a gymnasium environment."""

    max_episode_steps: int | None = None
    """Time limit in control steps; default the task's. Longer episodes are kept whole and reported."""

    control_rate_hz: float | None = None
    """Control steps per second, for files that do not say and without --task; above 0."""

    jpeg_quality: int = 90
    """Of camera images in a new store, 1 to 100."""

    append: bool = False
    """Add to the store if it exists."""

    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(field="jpeg_quality", found=self.jpeg_quality, allowed="1 to 100")
        if self.control_rate_hz is not None and not self.control_rate_hz > 0:
            raise ConfigError(field="control_rate_hz", found=self.control_rate_hz, allowed="above 0 Hz")
        if self.source.upper() not in Source.__members__:
            allowed = ", ".join(name.lower() for name in Source.__members__)
            raise ConfigError(field="source", found=self.source, allowed=allowed)


def import_file(config: ImportConfig) -> int:
    """Import demonstrations from another format, all of a file or nothing; an interrupted one goes on."""
    from demos.converters.conversion import ConversionTarget, Converter
    from demos.converters.fields import parse_fields
    from demos.converters.import_text import describe
    from demos.importing import import_episodes
    from robot_rlpd.interrupt import stop_on_signals

    options = TaskOptions(
        success_when=config.success_when,
        reward=config.reward,
        env_kwargs=parse_json_object(config.env_kwargs, field="env_kwargs"),
        max_episode_steps=config.max_episode_steps,
    )
    read: Converter = load_entry_point("robot_rlpd.converters", config.format, field="format")
    setup = load_task(config.task, options) if config.task else None
    target = ConversionTarget(
        spec=setup.spec if setup is not None else None,
        task=setup.task if setup is not None else None,
        fields=parse_fields(config.field),
        source=Source[config.source.upper()],
        control_rate_hz=config.control_rate_hz,
    )
    conversion = read(config.file, target)
    report = conversion.report
    line = ProgressLine(conversion.num_steps)
    try:
        with stop_on_signals() as should_stop:
            added = import_episodes(
                conversion,
                config.out,
                append=config.append,
                jpeg_quality=config.jpeg_quality,
                settings=str(options),
                on_episode=lambda doing: line.update(report.steps, f"steps {doing} | {report.episodes} episodes"),
                should_stop=should_stop,
            )
    except KeyboardInterrupt:
        line.close()
        print("whole episodes are kept, and the same command goes on from there", file=sys.stderr)
        raise
    finally:
        line.close()
    result = asdict(report) | {
        "clipped_share": report.clipped_share,
        "added": added,
        "store": str(config.out),
        "fingerprint": conversion.spec.fingerprint,
    }
    _print(config.json, result, describe(report, added=added, out=str(config.out)))
    return 0


def _at_least(name: str, value: float | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(field=name, found=value, allowed=f"at least {least}")


def _print(as_json: bool, result: dict[str, Any], lines: list[str]) -> None:
    print(json.dumps(result) if as_json else "\n".join(lines))


def _lines(result: dict[str, Any]) -> list[str]:
    width = max(len(name) for name in result)
    return [f"{name.replace('_', ' '):<{width}}  {_text(value)}" for name, value in result.items()]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)
