"""`robot-rlpd COMMAND`: finds commands by entry point and imports only the one that runs.

A command is a function `command(config) -> int` whose single parameter is a dataclass; the name of the entry point in
`robot_rlpd.commands` is its name, with a dot for a space (`demos.info` is `robot-rlpd demos info`). After the dot may
be an option that makes another command of it, wherever it is typed (`run.--actor` is `robot-rlpd run --actor`).
"""

from __future__ import annotations

import ast
import contextlib
import errno
import importlib.util
import inspect
import io
import json
import logging
import math
import os
import sys
import typing
from pathlib import Path
from typing import Any

from robot_rlpd.errors import RobotRlpdError, UnknownNameError
from robot_rlpd.registry import entry_points, load_entry_point

GROUP = "robot_rlpd.commands"
FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 when the command failed, 2 on wrong usage, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=os.environ.get("ROBOT_RLPD_LOG", "WARNING"), format="%(levelname)s %(name)s: %(message)s")
    as_json = "--json" in arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(overview())
        return 0 if arguments else USAGE
    if arguments[1:] in (["-h"], ["--help"]) and arguments[0] not in entry_points(GROUP) and _is_group(arguments[0]):
        sys.stdout.write(overview(arguments[0]))
        return 0
    name, rest = _command(arguments)
    if name not in entry_points(GROUP):
        second = arguments[1:2] if _is_group(arguments[0]) else []
        typed = " ".join([arguments[0], *(word for word in second if not word.startswith("-"))])
        known = ", ".join(_spoken(n) for n in sorted(entry_points(GROUP)))
        return _fail(UnknownNameError("no such command", found=typed, allowed=known), as_json, USAGE)
    try:
        command = load_entry_point(GROUP, name)
        config = parse(command, name, rest, as_json)
        return int(command(config) or 0)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else (0 if stop.code is None else USAGE)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except RobotRlpdError as error:
        return _fail(error, as_json, FAILED)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            full = RobotRlpdError(
                "the disk is full", field=str(error.filename or ""), hint="free some space and try again"
            )
            return _fail(full, as_json, FAILED)
        if error.filename is None and error.errno is None:
            raise
        return _fail(RobotRlpdError(error.strerror or str(error), field=str(error.filename or "")), as_json, FAILED)


def overview(group: str = "") -> str:
    """The commands, or those of a group, with one line each, read from their sources without importing them."""
    names = sorted(name for name in entry_points(GROUP) if not group or name.startswith(f"{group}."))
    width = max((len(_spoken(n)) for n in names), default=0)
    lines = [f"  {_spoken(name):<{width}}  {_summary(entry_points(GROUP)[name].value)}" for name in names]
    return "\n".join(
        [
            "usage: robot-rlpd COMMAND [OPTIONS]",
            "",
            "Record demonstrations, learn from them with RLPD, export ONNX, run on a robot.",
            "",
            *lines,
            "",
            "robot-rlpd COMMAND --help tells about one command.",
            "",
        ]
    )


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    """Its name, and what is left for it to read."""
    first, *rest = arguments
    known = entry_points(GROUP)
    for i, word in enumerate(rest):
        if word.startswith("--") and f"{first}.{word}" in known:
            return f"{first}.{word}", rest[:i] + rest[i + 1 :]
    two = ".".join(arguments[:2])
    if two in known or (first not in known and _is_group(first)):
        return two, rest[1:]
    return first, rest


def _is_group(word: str) -> bool:
    return any(name.startswith(f"{word}.") for name in entry_points(GROUP))


def _spoken(name: str) -> str:
    return name.replace(".", " ")


def parse(command: Any, name: str, arguments: list[str], as_json: bool) -> Any:
    """The configuration of a command from what was typed after its name.

    Raises:
        SystemExit: Wrong usage, told on standard error, and as JSON where that is asked for; or the help was.
    """
    import tyro

    parameter = next(iter(inspect.signature(command).parameters.values()))
    kind = typing.get_type_hints(command)[parameter.name]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told) if as_json else contextlib.nullcontext():
            return tyro.cli(
                kind,
                prog=f"robot-rlpd {_spoken(name)}",
                description=inspect.getdoc(command),
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as stop:
        if stop.code not in (0, None) and as_json:
            message = f"{_essence(told.getvalue())}; see robot-rlpd {_spoken(name)} --help"
            _print_json({"error": {"type": "usage", "message": message}})
        raise
    finally:
        sys.stderr.write(told.getvalue())


def _essence(box: str) -> str:
    """What a boxed usage error says, in one line, without the help texts that go with it."""
    lines = [line.strip("│| ") for line in box.splitlines()[1:]]
    parts = " ".join("\n" if set(line) <= set("─╰╯+-") else line for line in lines).split("\n")
    told = [part.strip() for part in parts if not part.strip().startswith(("For full", "Argument help"))]
    return "; ".join(part for part in told if part) or "wrong usage"


def _fail(error: RobotRlpdError, as_json: bool, status: int) -> int:
    sys.stderr.write(f"error: {error}\n")  # before the JSON: who reads that may end this process at once
    sys.stderr.flush()
    if as_json:
        plain = isinstance(error.found, (str, int, type(None)))
        plain = plain or (isinstance(error.found, float) and math.isfinite(error.found))
        found = error.found if plain else str(error.found)
        details = {"field": error.field, "found": found, "allowed": error.allowed, "hint": error.hint}
        _print_json({"error": {"type": type(error).__name__, "message": str(error), **details}})
    return status


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, allow_nan=False) + "\n")


def _summary(value: str) -> str:
    """First docstring line of `module:function`, from the source file."""
    module, _, function = value.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(spec.origin).read_text() if spec is not None and spec.origin else "")
    except (ImportError, OSError, SyntaxError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""
