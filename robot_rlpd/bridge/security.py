"""Where a robot may be served: on this machine only, until connections are encrypted and clients are known."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

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


def check_serving_address(address: str, *, insecure: bool) -> None:
    """Refuse to serve where others could command the robot, or where a server is at work already.

    Raises:
        ConfigError: Not an address, open to the network without `insecure`, or an ipc path in use.
    """
    check_address(address)
    if not is_local(address) and not insecure:
        raise ConfigError(
            "neither encrypted nor authenticated yet: anybody on the network could move the robot",
            field="address",
            found=address,
            allowed="tcp://127.0.0.1:PORT or ipc://PATH",
            hint="tunnel it over ssh (ssh -L 5555:127.0.0.1:5555 ROBOT), or say insecure on a network of your own",
        )
    if address.startswith("ipc://") and _answers(address.removeprefix("ipc://")):
        # ZeroMQ would silently take the path away from the server that has it.
        raise ConfigError("in use: another server is listening there", field="address", found=address)


def _answers(path: str) -> bool:
    if not Path(path).exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
