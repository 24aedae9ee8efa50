"""`robot-rlpd keys make`, `list`, `allow`, `pin` and `remove`."""

from __future__ import annotations

import json as json_format
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from robot_rlpd.bridge.keys import OWN, Keyring
from robot_rlpd.bridge.security import check_address
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from robot_rlpd.bridge.keys import KeyPair


@dataclass(frozen=True, kw_only=True)
class KeysConfig:
    """Options of every `keys` command."""

    directory: Path | None = None
    """Where the keys are; default $ROBOT_RLPD_KEYS, else ~/.config/robot-rlpd/keys."""
    json: bool = False
    """Print one JSON object on standard output."""


@dataclass(frozen=True, kw_only=True)
class MakeKeyConfig(KeysConfig):
    """Options of `keys make`."""

    force: bool = False
    """Replace the pair that is there: everybody who knows the old public key has to be told the new one."""


@dataclass(frozen=True, kw_only=True)
class AllowConfig(KeysConfig):
    """Options of `keys allow`."""

    name: tyro.conf.Positional[str]
    """Name of the client, one word."""
    key: tyro.conf.Positional[str]
    """Its public key, as `robot-rlpd keys make` printed it there."""


@dataclass(frozen=True, kw_only=True)
class PinConfig(KeysConfig):
    """Options of `keys pin`."""

    address: tyro.conf.Positional[str]
    """Address of the server, as it will be given to other commands: tcp://HOST:PORT."""
    key: tyro.conf.Positional[str]
    """Its public key, as `robot-rlpd keys make` printed it there; none: it is served with --insecure."""


@dataclass(frozen=True, kw_only=True)
class RemoveConfig(KeysConfig):
    """Options of `keys remove`."""

    name: tyro.conf.Positional[str]
    """Name of a client, or address of a server."""


def make(config: MakeKeyConfig) -> int:
    """Make this machine's own key pair, with which it serves robots and connects to them."""
    ring = Keyring(config.directory)
    pair = ring.make(force=config.force)
    _print(config, {"public_key": pair.public.decode(), "file": str(ring.directory / OWN)}, _next_steps(pair))
    return 0


def list_keys(config: KeysConfig) -> int:
    """List this machine's public key, the clients that it lets in and the servers that it trusts."""
    ring = Keyring(config.directory)
    clients = {name: key.decode() for key, name in ring.clients().items()}
    servers = {address: key.decode() for address, key in ring.servers().items()}
    try:
        own = ring.own().public.decode()
    except ConfigError:
        if (ring.directory / OWN).exists():
            raise
        own = None
    lines = [f"keys in {ring.directory}", f"this machine: {own or 'none; make one with: robot-rlpd keys make'}"]
    lines += [f"client {name}: {key}" for name, key in clients.items()] or ["no client may connect"]
    lines += [f"server {address}: {key}" for address, key in servers.items()] or ["no server is known"]
    found = {"directory": str(ring.directory), "public_key": own, "clients": clients, "servers": servers}
    _print(config, found, "\n".join(lines))
    return 0


def allow(config: AllowConfig) -> int:
    """Let a client connect to the robots that this machine serves; a running server knows it at once."""
    Keyring(config.directory).allow(config.name, config.key)
    _print(config, {"client": config.name, "key": config.key}, f"client {config.name} may connect")
    return 0


def pin(config: PinConfig) -> int:
    """Trust the server at an address if it has this key, and no other."""
    check_address(config.address)
    Keyring(config.directory).pin(config.address, config.key)
    _print(config, {"server": config.address, "key": config.key}, f"server {config.address} is trusted with this key")
    return 0


def remove(config: RemoveConfig) -> int:
    """Forget a client or a server; connections that stand are not cut."""
    Keyring(config.directory).remove(config.name)
    _print(config, {"removed": config.name}, f"{config.name} is forgotten")
    return 0


def _next_steps(pair: KeyPair) -> str:
    key = pair.public.decode()
    return "\n".join(
        [
            f"public key of this machine: {key}",
            "to let this machine connect to a robot, type on the robot's computer:",
            f"  robot-rlpd keys allow {platform.node() or 'NAME'} '{key}'",
            "to let others trust the robots that this machine serves, type there:",
            f"  robot-rlpd keys pin tcp://{platform.node() or 'HOST'}:5555 '{key}'",
        ]
    )


def _print(config: KeysConfig, data: dict[str, Any], text: str) -> None:
    sys.stdout.write((json_format.dumps(data) if config.json else text) + "\n")
