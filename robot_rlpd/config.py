"""Write a configuration dataclass exactly, and read it back."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from robot_rlpd.errors import ConfigError, RunDirectoryError, SpecError
from robot_rlpd.specs import from_builtins, to_builtins

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

T = TypeVar("T")


def write_config(path: Path, config: Any) -> None:
    """Write a dataclass as indented JSON, by a temporary file and a rename."""
    write_text(path, json.dumps(to_builtins(config), indent=2, allow_nan=False) + "\n")


def read_config(path: Path, kind: type[T]) -> T:
    """Read what `write_config` wrote.

    Raises:
        RunDirectoryError: The file does not exist.
        ConfigError: The file is not such a configuration.
    """
    try:
        return from_builtins(json.loads(path.read_text()), kind)
    except FileNotFoundError:
        raise RunDirectoryError("no such file", field=str(path)) from None
    except SpecError as error:
        raise ConfigError(str(error), field=str(path)) from None
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}", field=str(path)) from None


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` once the disk holds all of it; after an error nothing is changed.

    Raises:
        OSError: It cannot be written; names `path`.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


def parse_json_object(text: str, *, field: str) -> dict[str, Any]:
    """Parse an option that takes a JSON object; empty text is an empty object.

    Raises:
        ConfigError: Not a JSON object.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(str(error), field=field, found=text, allowed='a JSON object such as {"a": 1}') from None
    if not isinstance(value, dict):
        raise ConfigError(field=field, found=text, allowed='a JSON object such as {"a": 1}')
    return value
