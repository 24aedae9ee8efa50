"""Aligned lines of a report: a heading, then what there is to say under it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Sections = Mapping[str, Iterable[str]]


def lines(sections: Sections) -> list[str]:
    """One line per statement; sections without one are left out."""
    width = max(map(len, sections)) + 2
    found = []
    for heading, statements in sections.items():
        for number, statement in enumerate(statements):
            found.append(f"{heading if number == 0 else '':<{width}}{statement}")
    return found


def count(number: int, noun: str) -> str:
    """`1 episode`, `2 episodes`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def share(part: int, whole: int, noun: str) -> str:
    """`3 of 4 steps (75 %)`."""
    percent = f" ({100.0 * part / whole:.0f} %)" if whole else ""
    return f"{part} of {count(whole, noun)}{percent}"
