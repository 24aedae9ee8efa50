"""Review of a store in the browser: scrub through episodes, trim, label, delete, undo."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from websockets.exceptions import ConnectionClosed

from demos.review.histograms import action_ranges, histograms
from demos.review.statistics import statistics
from demos.web.server import PageServer, ServingOptions
from robot_rlpd import editing, images
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, RobotRlpdError
from robot_rlpd.images import is_encodable
from robot_rlpd.robot import Source
from robot_rlpd.specs import to_builtins

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from robot_rlpd.episode import Episode
    from robot_rlpd.store_index import StoredEpisode

FILES = ("review.js", "chart.js", "plot.js", "histograms.js", "console.css", "review.css")
VIEW_QUALITY = 85
MAX_SHOWN = 64
"""Larger fields are not shown as numbers."""


class List(msgspec.Struct, tag="list"):
    """Which episodes there are now."""


class Open(msgspec.Struct, tag="open"):
    """Everything of an episode but its images."""

    uuid: str


class Images(msgspec.Struct, tag="images"):
    """The images of one observation of the open episode."""

    row: int


class Trim(msgspec.Struct, tag="trim"):
    """Keep the steps `start` to `stop`, not included."""

    uuid: str
    start: int
    stop: int


class Relabel(msgspec.Struct, tag="relabel"):
    """Say whether an episode is a success."""

    uuid: str
    success: bool | None


class Delete(msgspec.Struct, tag="delete"):
    """Take an episode out of sight."""

    uuid: str


class Undo(msgspec.Struct, tag="undo"):
    """Undo the last edit."""


class Statistics(msgspec.Struct, tag="statistics"):
    """The whole store in numbers and histograms."""


Asked = List | Open | Images | Trim | Relabel | Delete | Undo | Statistics


class Reviewer:
    """Answers what a page asks about one store. Used from one thread.

    It reads; only for the moment of an edit it is the store's writer, so that others may record meanwhile.

    Args:
        path: Local directory of the store.

    Raises:
        StoreError: It cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._store = EpisodeStore.open(path)
        self._open: tuple[str, Episode] | None = None

    def answer(self, asked: Asked) -> list[bytes]:
        """Messages for the page: JSON, or, for images, one byte with the camera's number and a JPEG file.

        Raises:
            RobotRlpdError: What was asked cannot be done; the page is told.
        """
        match asked:
            case List():
                self._store.refresh()
                return [self._list()]
            case Open(uuid=uuid):
                return [self._episode(uuid)]
            case Images(row=row):
                return self._images(row)
            case Statistics():
                return [self._statistics()]
            case _:
                told = self._edit(asked)
                self._reopen()
                return [self._list(told)]

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _find(self, store: EpisodeStore, uuid: str) -> tuple[int, StoredEpisode]:
        for place, stored in enumerate(store.infos()):
            if stored.info.uuid == uuid:
                return place, stored
        raise DataError("no such episode any more", field="episode", found=uuid)

    def _reopen(self) -> None:
        self._store.close()
        self._store = EpisodeStore.open(self._path)
        self._open = None

    def _list(self, told: str = "") -> bytes:
        episodes = [
            {
                "uuid": stored.info.uuid,
                "steps": stored.num_steps,
                "success": stored.info.success,
                "ended": str(stored.info.ended),
                "device": stored.info.device,
                "operator": stored.info.operator,
                "notes": stored.info.notes,
                "trimmed": stored.is_trimmed,
                "relabelled": stored.is_relabelled,
            }
            for stored in self._store.infos()
        ]
        return _encode("list", path=self._path, told=told, edits=len(self._store.edits), episodes=episodes)

    def _episode(self, uuid: str) -> bytes:
        place, stored = self._find(self._store, uuid)
        episode = self._store.read(place)
        self._open = (uuid, episode)
        spec = episode.spec
        fields = [field for field in spec.observation if not field.is_image and field.size <= MAX_SHOWN]
        reward = episode.signals.get("reward")
        return _encode(
            "episode",
            uuid=uuid,
            task=stored.info.task,
            steps=len(episode),
            rows=len(episode.robot_times_s),
            control_rate_hz=spec.control_rate_hz,
            cameras=[field.name for field in _cameras(episode)],
            fields=[
                {key: to_builtins(field)[key] for key in ("name", "unit", "components", "low", "high")}
                for field in fields
            ],
            observations={field.name: _rows(episode.observations[field.name]) for field in fields},
            action_names=[component.name for component in spec.action.components],
            actions=_rows(spec.action.to_unit(episode.executed_actions)),
            rewards=None if reward is None else _rows(reward),
            sources=[Source(int(source)).name.lower() for source in episode.sources],
            seconds=(episode.robot_times_s - episode.robot_times_s[0]).round(3).tolist(),
            dropped={name: np.flatnonzero(frames.dropped).tolist() for name, frames in episode.frames.items()},
        )

    def _images(self, row: int) -> list[bytes]:
        if self._open is None:
            raise DataError("no episode is open", field="row", found=row)
        episode = self._open[1]
        row = min(max(row, 0), len(episode.robot_times_s) - 1)
        return [
            bytes([number]) + images.encode(episode.observations[field.name][row], VIEW_QUALITY)
            for number, field in enumerate(_cameras(episode))
        ]

    def _statistics(self) -> bytes:
        found = statistics(self._store)
        return _encode(
            "statistics", numbers=found.numbers, histograms=histograms(found), action_ranges=action_ranges(found)
        )

    def _edit(self, asked: Trim | Relabel | Delete | Undo) -> str:
        with EpisodeStore.open(self._path, "a") as store:
            if isinstance(asked, Undo):
                return f"undone: {editing.undo(store).kind}"
            _, stored = self._find(store, asked.uuid)
            match asked:
                case Trim(start=start, stop=stop):
                    editing.trim(store, stored, start, stop)
                    return f"trimmed to {stop - start} of {stored.num_steps} steps"
                case Relabel(success=success):
                    editing.relabel(store, [stored], {"success": success})
                    return {True: "labelled a success", False: "labelled a failure", None: "label removed"}[success]
                case Delete():
                    editing.delete(store, [stored])
                    return "deleted"


class ReviewPage:
    """Serves the review of a store until it is closed.

    Args:
        path: Local directory of the store.
        serving: Where, and to whom.

    Attributes:
        url: Address of the page.

    Raises:
        StoreError: The store cannot be read.
        ConfigError: The address cannot be used.
    """

    def __init__(self, path: str, serving: ServingOptions) -> None:
        Reviewer(path).close()
        self._path = path
        self._decoder = msgspec.json.Decoder(Asked)
        self._server = PageServer("review.html", FILES, self._attend, serving)
        self.url = self._server.url

    def wait(self) -> None:
        """Until interrupted."""
        threading.Event().wait()

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    async def _attend(self, page: ServerConnection) -> None:
        reviewer = Reviewer(self._path)
        try:
            async for message in page:
                try:
                    answers = reviewer.answer(self._decoder.decode(message))
                except RobotRlpdError as error:
                    answers = [_encode("error", message=str(error))]
                for answer in answers:
                    await page.send(answer, text=answer[:1] == b"{")
        except ConnectionClosed:
            pass
        except msgspec.MsgspecError as error:
            await page.close(1008, str(error)[:100])
        finally:
            reviewer.close()


def _cameras(episode: Episode) -> list[Any]:
    return [field for field in episode.spec.observation if is_encodable(field)]


def _rows(array: Any) -> list[list[float]]:
    rows: list[list[float]] = np.asarray(array, np.float64).reshape(len(array), -1).round(4).tolist()
    return rows


def _encode(kind: str, **message: Any) -> bytes:
    return msgspec.json.encode({"type": kind, **message})
