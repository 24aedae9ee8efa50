"""What review commands print: one JSON object, or lines for people."""

from __future__ import annotations

import json
import sys
from typing import Any


def print_result(as_json: bool, result: dict[str, Any], lines: list[str] | None = None) -> None:
    """Print `result` as JSON, or `lines`, by default one per entry of `result`."""
    text = json.dumps(result, allow_nan=False) if as_json else "\n".join(table(result) if lines is None else lines)
    sys.stdout.write(text + "\n")


def table(result: dict[str, Any]) -> list[str]:
    """One line per entry."""
    width = max((len(name) for name in result), default=0)
    return [f"{name.replace('_', ' '):<{width}}  {_text(value)}" for name, value in result.items()]


def counted(number: int, noun: str) -> str:
    """Such as `1 episode`, `2 episodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def success_text(success: bool | None) -> str:
    """As `demos list` says it."""
    return {True: "solved", False: "unsolved", None: "unknown"}[success]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(entry) for entry in value) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)
