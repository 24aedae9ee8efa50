"""What an export adds to a file of a foreign format, so that nothing but what the format cannot hold is lost.

Readers that do not know it ignore it. Per file: the spec and where each field lies. Per episode: everything that is not
an array, and a digest of the content, so that an episode keeps its identity exactly as long as nobody changed it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from demos.converters.fields import FieldSource
from robot_rlpd.episode import Episode, EpisodeInfo
from robot_rlpd.errors import DataError, SpecError
from robot_rlpd.specs import RobotSpec, from_builtins, to_builtins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from demos.converters.conversion import ConversionTarget, RawEpisode

NAME = "robot_rlpd"
"""Of the attribute, group, key or column that holds it."""
COLUMNS = ("commanded_action", "executed_action", "source", "robot_time_s", "wall_time_s")
"""What is kept per step; see `columns`."""
ActionKind = Literal["executed", "commanded"]


@dataclass(frozen=True, kw_only=True)
class KeptFile:
    """What is kept per file.

    Attributes:
        spec: Of the store.
        sources: Where a field or a signal lies, as after `--field`.
        actions: Which actions the format's own dataset holds.
    """

    spec: dict[str, Any]
    sources: dict[str, str]
    actions: ActionKind = "executed"

    def to_json(self) -> str:
        """The file's entry."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, spec: RobotSpec, sources: Mapping[str, str], actions: ActionKind) -> KeptFile:
        """For a file with these sources."""
        return cls(spec=to_builtins(spec), sources=dict(sources), actions=actions)

    @classmethod
    def parse(cls, text: str | bytes, *, where: str) -> KeptFile:
        """The inverse of `to_json`.

        Raises:
            DataError: Damaged.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataError(f"damaged: {error}", field=f"{where}, {NAME}") from None

    def robot(self, *, where: str) -> RobotSpec:
        """The spec.

        Raises:
            DataError: Damaged.
        """
        try:
            return from_builtins(self.spec, RobotSpec)
        except SpecError as error:
            raise DataError(f"damaged: {error}", field=f"{where}, {NAME}") from None

    def known_sources(self, target: ConversionTarget, spec: RobotSpec) -> dict[str, FieldSource]:
        """Where the fields and signals of `spec` lie, unless the target names another place."""
        names = {s.name for s in (*spec.observation, *spec.signals)} | {"reward", "terminated"}
        found = {name: FieldSource.parse(text, field=name) for name, text in self.sources.items() if name in names}
        return found | target.fields


@dataclass(frozen=True, kw_only=True)
class KeptEpisode:
    """What is kept per episode.

    Attributes:
        info: Everything that is not an array.
        digest: Of the steps as they were written.
        final_times_s: Robot clock and wall clock at the final observation; empty without one.
    """

    info: EpisodeInfo
    digest: str
    final_times_s: tuple[float, ...] = ()


def columns(episode: Episode, actions: ActionKind) -> dict[str, NDArray[Any]]:
    """What is kept per step, `(T, ...)` each: the other kind of action, who chose it, and the times."""
    steps = len(episode)
    return {
        **({"commanded_action": episode.actions} if actions == "executed" else {}),
        **({"executed_action": episode.executed_actions} if actions == "commanded" else {}),
        "source": episode.sources,
        "robot_time_s": episode.robot_times_s[:steps],
        "wall_time_s": episode.wall_times_s[:steps],
    }


def episode_json(episode: Episode, actions: NDArray[Any]) -> str:
    """The entry of an episode whose own dataset of actions holds `actions`."""
    times: tuple[float, ...] = ()
    if episode.has_final_observation:
        times = (float(episode.robot_times_s[-1]), float(episode.wall_times_s[-1]))
    kept = KeptEpisode(info=episode.info, digest=digest(episode.observations, actions), final_times_s=times)
    return msgspec.json.encode(kept).decode()


def restored(
    raw: RawEpisode, entry: str | bytes, held: Mapping[str, NDArray[Any]], actions: ActionKind, *, where: str
) -> RawEpisode:
    """`raw` with what was kept of it; its identity too, if its content is as it was written.

    Args:
        raw: As the format's own datasets tell it.
        entry: Of the episode.
        held: The kept columns that are there.
        actions: Which actions `raw.actions` are.
        where: Name of the episode for messages.

    Raises:
        DataError: Damaged.
    """
    try:
        kept = msgspec.json.decode(entry, type=KeptEpisode)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"damaged: {error}", field=f"{where}, {NAME}") from None
    for name, column in held.items():
        if len(column) != len(raw.actions):
            allowed = f"{len(raw.actions)} as in actions"
            raise DataError(field=f"{where}, {name}", found=f"{len(column)} rows", allowed=allowed)
    unchanged = digest(raw.observations, raw.actions) == kept.digest
    commanded, executed = held.get("commanded_action"), held.get("executed_action")
    if actions == "executed" and commanded is not None:
        executed = raw.actions
    steps = len(raw.actions)
    commanded, executed = (None if a is None else a.reshape(steps, -1) for a in (commanded, executed))
    rows = min(len(next(iter(raw.observations.values()))), steps + int(bool(kept.final_times_s)))
    return replace(
        raw,
        observations={name: array[:rows] for name, array in raw.observations.items()},
        actions=raw.actions if commanded is None else commanded,
        executed_actions=executed,
        sources=held.get("source"),
        robot_times_s=_with_final(held.get("robot_time_s"), kept.final_times_s[:1], rows),
        wall_times_s=_with_final(held.get("wall_time_s"), kept.final_times_s[1:], rows),
        info=kept.info if unchanged else replace(kept.info, uuid=""),
    )


def digest(observations: Mapping[str, NDArray[Any]], actions: NDArray[Any]) -> str:
    """SHA-256 (hex) of the steps: every field but images, which a format may hold lossily, and the actions."""
    found = hashlib.sha256()
    steps = len(actions)
    found.update(np.ascontiguousarray(actions, np.float32).tobytes())
    for name in sorted(observations):
        rows = observations[name][:steps]
        if rows.dtype != np.uint8 or rows.ndim < 4:
            found.update(f"{name} {rows.dtype} {rows.shape}".encode())
            found.update(np.ascontiguousarray(rows).tobytes())
    return found.hexdigest()


def _with_final(times: NDArray[Any] | None, final: tuple[float, ...], rows: int) -> NDArray[Any] | None:
    if times is None or len(times) == rows:
        return times
    return np.append(times, final) if final else None
