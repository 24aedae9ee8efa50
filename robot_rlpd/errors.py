"""One root exception, so that callers can catch what this project expects to go wrong.

RobotRlpdError
├── ConfigError            an option or configuration field has a value that is not allowed
├── UnknownNameError       a name that is not registered; lists those that are
├── SpecError              an array or a spec is not what was declared
│   └── MismatchError      two contracts differ (another robot, another rate, other limits)
├── DataError              a file or an episode holds something unusable (truncated, NaN, wrong shape)
│   └── StoreError         an episode store cannot be opened, read or written
├── RunDirectoryError      a run directory exists, or does not hold what is needed
├── TrainingError          training cannot go on (a loss is not finite)
├── RobotError             the robot reports a fault or cannot go on
└── BridgeError            the connection to a served robot
    ├── DeadlineError      no answer in time
    ├── OutcomeUnknownError a step was sent, its answer never came: it may or may not have run
    ├── RefusedError       the other side says no (second commander, wrong contract)
    └── ProtocolError      a message that does not follow the protocol
"""

from __future__ import annotations


class RobotRlpdError(Exception):
    """An expected failure, told in one line.

    Args:
        message: What went wrong; may be empty when `field` says it.
        field: Name of the offending field, option or file.
        found: The value that was found (shown with `repr` unless it is a string with something in it).
        allowed: What would have been valid.
        hint: What to do next.
    """

    def __init__(
        self, message: str = "", *, field: str = "", found: object = None, allowed: str = "", hint: str = ""
    ) -> None:
        self.message = message
        self.field = field
        self.found = found
        self.allowed = allowed
        self.hint = hint
        super().__init__(self._one_line())

    def _one_line(self) -> str:
        parts = []
        if self.message:
            parts.append(self.message)
        if self.found is not None:
            found = self.found if isinstance(self.found, str) and self.found else repr(self.found)
            parts.append(f"found {found}")
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        if self.hint:
            parts.append(self.hint)
        text = "; ".join(parts).replace("\n", " ")
        return f"{self.field}: {text}" if self.field else text


class ConfigError(RobotRlpdError):
    """An option or configuration field has a value that is not allowed."""


class UnknownNameError(RobotRlpdError):
    """A name that is not registered."""


class SpecError(RobotRlpdError):
    """An array or a spec is not what was declared."""


class MismatchError(SpecError):
    """Two contracts differ."""


class DataError(RobotRlpdError):
    """A file or an episode holds something unusable."""


class StoreError(DataError):
    """An episode store cannot be opened, read or written."""


class RunDirectoryError(RobotRlpdError):
    """A run directory exists already, or does not hold what is needed."""


class TrainingError(RobotRlpdError):
    """Training cannot go on."""


class RobotError(RobotRlpdError):
    """The robot reports a fault or cannot go on."""


class BridgeError(RobotRlpdError):
    """The connection to a served robot."""


class DeadlineError(BridgeError):
    """No answer arrived in time."""


class OutcomeUnknownError(BridgeError):
    """A step was sent and its answer never came: it may or may not have been executed."""


class RefusedError(BridgeError):
    """The other side refused."""


class ProtocolError(BridgeError):
    """A message does not follow the protocol."""
