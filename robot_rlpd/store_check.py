"""Reads all that is in a store and tells what is wrong with it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robot_rlpd.errors import RobotRlpdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from robot_rlpd.episode_store import EpisodeStore


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is wrong with one recorded episode.

    Attributes:
        number: Its position among all that were recorded, from 0.
        uuid: Its identity.
        problem: What is wrong.
    """

    number: int
    uuid: str
    problem: str


def check_episodes(store: EpisodeStore) -> Iterator[Damage | None]:
    """Read every recorded episode, deleted ones too; yields None for each that is whole."""
    checksums = store.checksums()
    for stored in store.recorded():
        known = (-1, -1) if checksums is None else checksums[stored.number, 3:].tolist()
        problem = ""
        try:
            encoded = store.read_encoded(stored)
            if known[0] not in (-1, encoded.data_crc()):
                problem = "its data are not those that were written: another checksum"
            elif known[1] not in (-1, zlib.crc32(store.info_bytes(stored.number))):
                problem = "its info is not what was written: another checksum"
            else:
                store.decode(encoded).validate()
        except RobotRlpdError as error:
            problem = str(error)
        yield Damage(number=stored.number, uuid=stored.info.uuid, problem=problem) if problem else None
