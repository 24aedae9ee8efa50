"""CURVE keys on disk: this machine's own pair, the servers that it trusts, and the clients that it lets in."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zmq
from zmq.utils import z85

from robot_rlpd.config import replacing
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT = "ROBOT_RLPD_KEYS"
OWN, CLIENTS, SERVERS = "own.key", "clients", "servers"
NO_KEY = b"none"
"""In place of a server's key: this one is spoken to in the clear."""
KEY_LENGTH = 40
"""Characters of a key, in Z85."""


@dataclass(frozen=True)
class KeyPair:
    """A public key, which may be told to anybody, and its secret, which must not leave this machine."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.public.decode()})"


class Keyring:
    """Three files in one directory that only its owner can read: `own.key`, `clients` and `servers`.

    `own.key` holds the public and the secret key; each line of the others a name (of a client) or an address (of a
    server), a space, and a public key.

    Args:
        directory: Made when something is written; default $ROBOT_RLPD_KEYS, else ~/.config/robot-rlpd/keys.
    """

    def __init__(self, directory: Path | None = None) -> None:
        told = os.environ.get(ENVIRONMENT)
        self.directory = directory or (Path(told) if told else Path.home() / ".config" / "robot-rlpd" / "keys")

    def make(self, *, force: bool = False) -> KeyPair:
        """Make this machine's own pair.

        Raises:
            ConfigError: There is one already and `force` is not given.
        """
        path = self.directory / OWN
        if path.exists() and not force:
            raise ConfigError(
                "there is one already",
                field=str(path),
                hint="whoever knows it would have to be told the new one; replace it with --force",
            )
        pair = KeyPair(*zmq.curve_keypair())
        self._write(OWN, f"{pair.public.decode()}\n{pair.secret.decode()}\n")
        return pair

    def own(self) -> KeyPair:
        """This machine's own pair.

        Raises:
            ConfigError: There is none, it is damaged, or others can read it.
        """
        path = self.directory / OWN
        try:
            lines = path.read_text().split()
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            raise ConfigError(
                "this machine has no key of its own", field=str(path), hint="make one with: robot-rlpd keys make"
            ) from None
        if mode & 0o077:
            raise ConfigError(
                "others can read the secret key",
                field=str(path),
                found=oct(mode),
                allowed="0o600",
                hint=f"chmod 600 {path}, or make a new one with: robot-rlpd keys make --force",
            )
        if len(lines) != 2:
            raise ConfigError("damaged", field=str(path), hint="make a new one with: robot-rlpd keys make --force")
        return KeyPair(check_key(lines[0], field=str(path)), check_key(lines[1], field=str(path)))

    def clients(self) -> dict[bytes, str]:
        """Names of the clients that may connect to servers of this machine, by public key."""
        return {key: name for name, key in self._read(CLIENTS).items()}

    def servers(self) -> dict[str, bytes]:
        """Public keys of the servers that this machine trusts, by address."""
        return self._read(SERVERS)

    def allow(self, name: str, key: str) -> None:
        """Let a client in; a name that is there already gets the new key.

        Raises:
            ConfigError: Not a key, or a name with a space in it.
        """
        self._put(CLIENTS, name, key, field="name")

    def pin(self, address: str, key: str) -> None:
        """Trust the server at `address` if it has this key, and no other; the key `none` trusts it without encryption.

        Raises:
            ConfigError: Not a key.
        """
        self._put(SERVERS, address, key, field="address")

    def remove(self, name: str) -> None:
        """Forget a client by name, or a server by address.

        Raises:
            ConfigError: No such name; lists those that exist.
        """
        found = False
        for file in (CLIENTS, SERVERS):
            entries = self._read(file)
            if entries.pop(name, None) is not None:
                found = True
                self._write(file, _text(entries))
        if not found:
            known = [*self._read(CLIENTS), *self._read(SERVERS)]
            raise ConfigError("neither a client nor a server", field=name, allowed=", ".join(known) or "none")

    def _put(self, file: str, name: str, key: str, *, field: str) -> None:
        if not name or len(name.split()) != 1 or name.startswith("#"):
            raise ConfigError(field=field, found=name, allowed="one word")
        plain = file == SERVERS and key.encode() == NO_KEY
        self._write(file, _text({**self._read(file), name: NO_KEY if plain else check_key(key, field="key")}))

    def _read(self, file: str) -> dict[str, bytes]:
        path = self.directory / file
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            return {}
        entries = {}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            where = f"{path}, line {number}"
            if len(words) != 2:
                raise ConfigError(field=where, found=line, allowed="a name or address, a space, a public key")
            plain = file == SERVERS and words[1].encode() == NO_KEY
            entries[words[0]] = NO_KEY if plain else check_key(words[1], field=where)
        return entries

    def _write(self, file: str, text: str) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = os.umask(0o077)
        try:
            with replacing(self.directory / file) as opened:
                opened.write(text.encode())
        finally:
            os.umask(before)


def check_key(text: str, *, field: str) -> bytes:
    """A key as ZeroMQ takes it.

    Raises:
        ConfigError: Not 40 characters of Z85.
    """
    try:
        if len(z85.decode(text.encode())) == 32:
            return text.encode()
    except (KeyError, ValueError, UnicodeEncodeError):
        pass
    raise ConfigError(field=field, found=text[:60], allowed=f"{KEY_LENGTH} characters, as robot-rlpd keys make prints")


def _text(entries: Mapping[str, bytes]) -> str:
    return "".join(f"{name} {key.decode()}\n" for name, key in entries.items())
