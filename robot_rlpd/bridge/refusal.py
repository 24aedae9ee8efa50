"""Errors that cross the wire: the robot's side raises one, the client raises the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd import errors
from robot_rlpd.bridge.wire import Refused

if TYPE_CHECKING:
    from robot_rlpd.errors import RobotRlpdError

_ERRORS: dict[str, type[RobotRlpdError]] = {
    "mismatch": errors.MismatchError,
    "spec": errors.SpecError,
    "store": errors.StoreError,
    "data": errors.DataError,
    "protocol": errors.ProtocolError,
    "robot": errors.RobotError,
}


class Refusal(errors.RefusedError):
    """A refusal with its code: "version", "seat", "session", "sequence", or "key" (of the connection itself)."""

    def __init__(
        self, code: str, message: str = "", *, field: str = "", found: str = "", allowed: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, field=field, found=found or None, allowed=allowed, hint=hint)
        self.code = code


def code_of(error: RobotRlpdError) -> str:
    """Code of an error on the wire: a `Refusal` has its own; else one of `_ERRORS`, or "robot"."""
    if isinstance(error, Refusal):
        return error.code
    return next((code for code, kind in _ERRORS.items() if isinstance(error, kind)), "robot")


def refused(error: RobotRlpdError, *, sequence: int = 0, nonce: str = "") -> Refused:
    """An error as a message."""
    found = "" if error.found is None else error.found if isinstance(error.found, str) else repr(error.found)
    return Refused(code_of(error), error.message, sequence, nonce, error.field, found, error.allowed, error.hint)


def error_of(message: Refused) -> RobotRlpdError:
    """The error that a message carries, of the class that the robot would have raised here."""
    details = {"field": message.field, "allowed": message.allowed, "hint": message.hint}
    kind = _ERRORS.get(message.code)
    if kind is None:
        return Refusal(message.code, message.message, found=message.found, **details)
    return kind(message.message, found=message.found or None, **details)
