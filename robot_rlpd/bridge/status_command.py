"""`robot-rlpd bridge status`."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import dataclass
from typing import Any

import tyro

from robot_rlpd.bridge.observer import Observer
from robot_rlpd.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Options of `bridge status`."""

    address: tyro.conf.Positional[str]
    """Address of a served robot or of a learner that listens: tcp://HOST:PORT or ipc://PATH."""
    timeout_s: float = 5.0
    """Longest wait for the answer in seconds, above 0; a robot that resets does not answer."""
    json: bool = False
    """Print one JSON object on standard output."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < float("inf"):
            raise ConfigError(field="timeout_s", found=self.timeout_s, allowed="above 0 s, finite")


def status(config: StatusConfig) -> int:
    """Show who commands a served robot and how it goes, without disturbing it."""
    with Observer(config.address, timeout_s=config.timeout_s) as observer:
        found = observer.status()
    sys.stdout.write((json_format.dumps(found) if config.json else told(found)) + "\n")
    return 0


def told(found: dict[str, Any]) -> str:
    """The status for people, one line per thing."""
    return "\n".join(f"{name.replace('_', ' '):<18} {_value(value)}" for name, value in found.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items()) or "none"
    if value is None or value == "":
        return "-"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
