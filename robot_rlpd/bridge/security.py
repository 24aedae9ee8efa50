"""Which connections are encrypted and by which keys: all but those that cannot leave this machine."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from robot_rlpd.bridge.keys import NO_KEY, KeyPair, Keyring
from robot_rlpd.errors import ConfigError

FORMS = "tcp://HOST:PORT or ipc://PATH"


def check_address(address: str) -> None:
    """Refuse what is not an address.

    Raises:
        ConfigError: Neither of the two forms.
    """
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not (address.startswith("tcp://") and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(field="address", found=address, allowed=f"{FORMS}, such as tcp://127.0.0.1:5555")


def is_local(address: str) -> bool:
    """Whether only this machine can reach the address."""
    if address.startswith("ipc://"):
        return True
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ServerKeys:
    """A server's own keys, and where it looks up who may connect, anew for every connection."""

    own: KeyPair
    keyring: Keyring


@dataclass(frozen=True)
class ClientKeys:
    """A client's own keys, and the only key that the server may have."""

    own: KeyPair
    server: bytes


def server_keys(address: str, keyring: Keyring, *, insecure: bool, encrypt: bool = False) -> ServerKeys | None:
    """The keys to serve with; None serves in the clear, on this machine or where `insecure` asks for it.

    Args:
        address: Where to serve.
        keyring: Holds the own key and the clients that may connect.
        insecure: Serve in the clear wherever it is.
        encrypt: Encrypt on this machine too.

    Raises:
        ConfigError: Not an address, an ipc path in use, no own key, or an own key that others can read.
    """
    check_address(address)
    if address.startswith("ipc://") and _answers(address.removeprefix("ipc://")):
        # ZeroMQ would silently take the path away from the server that has it.
        raise ConfigError("in use: another server is listening there", field="address", found=address)
    if insecure or (is_local(address) and not encrypt):
        return None
    return ServerKeys(keyring.own(), keyring)


def client_keys(address: str, keyring: Keyring) -> ClientKeys | None:
    """The keys to connect with; None connects in the clear, on this machine or where the keyring says `none`.

    Raises:
        ConfigError: Not an address, the server's key is not known, or this machine has none of its own.
    """
    check_address(address)
    pinned = keyring.servers().get(address)
    if pinned is None and not is_local(address):
        raise ConfigError(
            "the key of this server is not known",
            field="address",
            found=address,
            allowed="an address in " + str(keyring.directory / "servers"),
            hint=f"run robot-rlpd keys list on the robot's computer, then here: robot-rlpd keys pin {address} KEY",
        )
    return None if pinned is None or pinned == NO_KEY else ClientKeys(keyring.own(), pinned)


def _answers(path: str) -> bool:
    if not Path(path).exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
