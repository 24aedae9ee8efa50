"""Which episodes are meant: `3`, `2-5`, the beginning of a UUID, `solved`, `unsolved`, `unknown`, `all`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.store_index import StoredEpisode

LEAST_UUID_LENGTH = 4
_SUCCESS = {"solved": True, "unsolved": False, "unknown": None}


def select(episodes: Sequence[StoredEpisode], words: Sequence[str]) -> list[int]:
    """Positions of the episodes that `words` name, in order, each once.

    Raises:
        ConfigError: A word that names no episode, or more than one UUID begins with.
    """
    found: set[int] = set()
    for word in words:
        found |= set(_meant(episodes, word))
    return sorted(found)


def select_one(episodes: Sequence[StoredEpisode], word: str) -> int:
    """The position of the one episode that `word` names.

    Raises:
        ConfigError: None, or several.
    """
    places = select(episodes, [word])
    if len(places) != 1:
        raise ConfigError(field="episode", found=f"{word}: {len(places)} episodes", allowed="one")
    return places[0]


def _meant(episodes: Sequence[StoredEpisode], word: str) -> Sequence[int]:
    if word == "all":
        return range(len(episodes))
    if word in _SUCCESS:
        return [place for place, episode in enumerate(episodes) if episode.info.success is _SUCCESS[word]]
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
    if span is not None and int(span[1]) < len(episodes):
        first, last = int(span[1]), int(span[2] or span[1])
        if first <= last < len(episodes):
            return range(first, last + 1)
    beginning = [place for place, episode in enumerate(episodes) if episode.info.uuid.startswith(word)]
    if len(word) >= LEAST_UUID_LENGTH and len(beginning) == 1:
        return beginning
    numbers = f"0 to {len(episodes) - 1}" if episodes else "none: the store has no episodes"
    allowed = f"{numbers}, FIRST-LAST, a UUID or its beginning, solved, unsolved, unknown, all"
    raise ConfigError(
        f"{len(beginning)} UUIDs begin so" if len(word) >= LEAST_UUID_LENGTH and beginning else "",
        field="episodes",
        found=word,
        allowed=allowed,
    )
