"""`robot-rlpd console`: teleoperate, watch and record from a browser page, or review a store there."""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demos.recording.cameras import TIMEOUT_S, check_timeout_s
from robot_rlpd.config import parse_json_object
from robot_rlpd.errors import ConfigError
from robot_rlpd.task import TaskOptions, load_task

if TYPE_CHECKING:
    from demos.web.review import ReviewPage
    from demos.web.server import ServingOptions
    from demos.web.watch import WatchPage


@dataclass(frozen=True, kw_only=True)
class ConsoleConfig:
    """Options of `console`."""

    robot: str = ""
    """Robot to drive: tcp://HOST:PORT of a served one, or a driver's NAME:ARGUMENT; default the task's own."""

    task: str = ""
    """Task that judges, such as pick_place; without one the robot's own signals do, and the operator."""

    out: Path | None = None
    """Directory of the store to record into; without one nothing is recorded."""

    review: Path | None = None
    """Store to review instead of driving a robot: scrub, trim, label, delete, undo. Needs no other option."""

    watch: str = ""
    """Served robot, or learner that listens, to look at instead of driving: tcp://HOST:PORT or ipc://PATH. Disturbs
    nobody; needs no other option."""

    append: bool = False
    """Add to the store if it exists."""

    resume: bool = False
    """Go on with a session: add to the store until it holds --episodes, and with the next seeds."""

    episodes: int | None = None
    """Episodes to keep, at least 1; by default until the operator ends the session."""

    reset_time_s: float | None = None
    """Seconds between two episodes to put the scene in order, at least 0; by default until the operator begins."""

    max_episode_steps: int | None = None
    """Time limit in control steps, at least 1; default the task's, and none without a task."""

    host: str = "127.0.0.1"
    """Address to listen at; another than this machine's own needs a token, which is made up if none is given."""

    port: int = 8000
    """Port to listen at; 0 takes a free one."""

    token: str = ""
    """Has to be in the address of the page."""

    certificate: Path | None = None
    """File with the certificate chain, for https; with --certificate-key."""

    certificate_key: Path | None = None
    """File with the key of the certificate."""

    seed: int = 0
    """Seed of the first reset; every attempt takes the next."""

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

    env_kwargs: str = ""
    """JSON object: arguments of a gymnasium environment, or cameras, image_size, randomization,
    calibration, previous_actions of a simulated task."""

    json: bool = False
    """Print one JSON object at the end."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("seed", 0), ("reset_time_s", 0), ("port", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(field=name, found=value, allowed=f"at least {least}")
        if self.port > 65535:
            raise ConfigError(field="port", found=self.port, allowed="0 to 65535")
        drives = bool(self.robot or self.task or self.out)
        if self.review is not None and (drives or self.watch):
            raise ConfigError(
                "not together with --robot, --task, --out or --watch", field="review", found=str(self.review)
            )
        if self.watch and drives:
            raise ConfigError("not together with --robot, --task or --out", field="watch", found=self.watch)
        if not (self.robot or self.task or self.review or self.watch):
            raise ConfigError("name a robot, a task or both", field="robot", hint="such as --task pick_place")
        check_timeout_s(self.camera_timeout_s)
        if (self.certificate is None) != (self.certificate_key is None):
            raise ConfigError("both or neither", field="certificate_key", allowed="--certificate and --certificate-key")


def console(config: ConsoleConfig) -> int:
    """Serve a browser page to drive a robot, watch it and record it, to look on, or to review a store."""
    from demos.web.server import ServingOptions, is_loopback

    certificate = None
    if config.certificate is not None and config.certificate_key is not None:
        certificate = (config.certificate, config.certificate_key)
    serving = ServingOptions(
        host=config.host,
        port=config.port,
        token=config.token or ("" if is_loopback(config.host) else secrets.token_urlsafe(16)),
        certificate=certificate,
    )
    if config.watch:
        from demos.web.watch import WatchPage

        return _serve(WatchPage(config.watch, serving))
    if config.review is not None:
        from demos.web.review import ReviewPage

        return _serve(ReviewPage(str(config.review), serving))
    return _drive(config, serving)


def _serve(page: ReviewPage | WatchPage) -> int:
    print(f"the page is at {page.url}; Ctrl-C ends it", file=sys.stderr)
    try:
        page.wait()
    except KeyboardInterrupt:
        page.close()
    return 0


def _drive(config: ConsoleConfig, serving: ServingOptions) -> int:
    from demos.recording.plan import Plan, summary
    from demos.recording.run import run
    from demos.web.console import BrowserConsole
    from robot_rlpd.images import ImageCodec

    options = TaskOptions(
        env_kwargs=parse_json_object(config.env_kwargs, field="env_kwargs"),
        max_episode_steps=config.max_episode_steps,
    )
    plan = Plan(
        setup=load_task(config.task, options) if config.task else None,
        task_options=options,
        robot=config.robot,
        device="browser",
        out=config.out,
        append=config.append,
        resume=config.resume,
        episodes=config.episodes,
        seed=config.seed,
        reset_time_s=config.reset_time_s,
        camera_timeout_s=config.camera_timeout_s,
        codec=ImageCodec.wished(lossless=config.lossless, jpeg_quality=config.jpeg_quality),
        real_time=config.real_time,
        operator=config.operator,
        notes=config.notes,
    )
    recorded = run(plan, make_device=lambda device: BrowserConsole(device.spec, serving, robot=device.robot))
    print(json.dumps(recorded.to_json()) if config.json else summary(recorded))
    return recorded.status
