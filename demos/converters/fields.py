"""Which part of a file becomes which field of an episode: `NAME=SOURCE` with an optional slice."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from robot_rlpd.specs import ArraySpec

_SOURCE = re.compile(r"(?P<dataset>[^\[\]=]+)(\[(?P<start>\d*)(?P<colon>:)?(?P<stop>\d*)\])?")


@dataclass(frozen=True, kw_only=True)
class FieldSource:
    """A dataset with one row per step, or some entries of its rows.

    Attributes:
        dataset: Path of the dataset in the file.
        start: First entry taken.
        stop: Entry after the last one taken; None for all that follow.
    """

    dataset: str
    start: int = 0
    stop: int | None = None

    @classmethod
    def parse(cls, text: str, *, field: str) -> FieldSource:
        """Parse `infos/goal`, `observations[0:2]` or `observations[28]`.

        Raises:
            ConfigError: Anything else.
        """
        match = _SOURCE.fullmatch(text.strip())
        if match is None or (match[2] and not match["colon"] and not match["start"]):
            raise ConfigError(field=field, found=text, allowed="DATASET, DATASET[a:b] or DATASET[i]")
        start = int(match["start"] or 0)
        stop = None
        if match[2]:
            stop = start + 1 if not match["colon"] else (int(match["stop"]) if match["stop"] else None)
        return cls(dataset=match["dataset"].strip("/"), start=start, stop=stop)

    def __str__(self) -> str:
        if (self.start, self.stop) == (0, None):
            return self.dataset
        return f"{self.dataset}[{self.start}:{'' if self.stop is None else self.stop}]"

    @property
    def is_whole(self) -> bool:
        """Whether every entry is taken."""
        return (self.start, self.stop) == (0, None)

    def take(self, rows: NDArray[Any], spec: ArraySpec) -> NDArray[Any]:
        """The field's values `(T, *shape)` out of rows of the dataset."""
        part = rows if self.is_whole else rows.reshape(len(rows), -1)[:, self.start : self.stop]
        return np.asarray(part, spec.dtype).reshape(len(rows), *spec.shape)

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any], spec: ArraySpec) -> None:
        """Refuse a dataset (`shape` with the row axis) whose part does not fit the field.

        Raises:
            DataError: Shape or kind of number differs.
        """
        size = len(range(math.prod(shape[1:]))[self.start : self.stop])
        if size != spec.size or (self.is_whole and len(shape) - 1 == len(spec.shape) and shape[1:] != spec.shape):
            raise DataError(
                f"field '{spec.name}' does not fit",
                field=str(self),
                found=f"{size} entries per step" if not self.is_whole else f"shape {shape[1:]} per step",
                allowed=f"shape {spec.shape}",
                hint=f"name its source with --field '{spec.name}=DATASET[a:b]'",
            )
        if not (dtype.kind in "biuf" and (np.dtype(spec.dtype).kind == "f" or dtype.kind in "biu")):
            raise DataError(f"field '{spec.name}'", field=str(self), found=f"dtype {dtype}", allowed=spec.dtype)


def parse_fields(entries: Iterable[str]) -> dict[str, FieldSource]:
    """Parse the values of `--field`.

    Raises:
        ConfigError: Not `NAME=SOURCE`, or a name given twice.
    """
    fields: dict[str, FieldSource] = {}
    for entry in entries:
        name, equals, source = entry.partition("=")
        if not equals or not name.strip() or not source.strip():
            raise ConfigError(field="field", found=entry, allowed="NAME=SOURCE, such as goal=infos/goal")
        if name.strip() in fields:
            raise ConfigError("given twice", field="field", found=name.strip())
        fields[name.strip()] = FieldSource.parse(source, field=f"field {name.strip()}")
    return fields


def check_known(fields: Mapping[str, FieldSource], known: Iterable[str]) -> None:
    """Refuse a `--field` for something that does not exist.

    Raises:
        ConfigError: Lists the names that do.
    """
    names = list(known)
    for name in fields:
        if name not in names:
            raise ConfigError("no such field", field="field", found=name, allowed=", ".join(names))
