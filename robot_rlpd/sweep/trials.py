"""Which runs a sweep is made of: every value of what varies, for every seed."""

from __future__ import annotations

import itertools
import re
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OURS = ("seed", "run_dir", "resume", "json")
"""Options of `train` that the sweep gives each of its runs."""
YES, NO = "yes", "no"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run.

    Attributes:
        name: Tells it from the others; its directory is called so.
        options: Options of `train`, the seed among them, the directory not.
    """

    name: str
    options: tuple[str, ...]

    def words(self, out: Path) -> tuple[str, ...]:
        """The command that begins it."""
        return ("train", *self.options, "--run-dir", str(out / self.name))


def trials_of(options: Sequence[str], seeds: Sequence[int], vary: Sequence[str], command: type) -> list[Trial]:
    """All combinations.

    Args:
        options: What all runs have in common, as typed.
        seeds: One run of each combination for each of them.
        vary: Each `NAME=VALUE,VALUE`, a value being what is typed after the option, words separated by spaces; yes or
            no for a switch.
        command: The options of `train`, a dataclass.

    Raises:
        ConfigError: A name that is no option or belongs to the sweep, no values, or the same run twice.
    """
    for word in options:
        name = word.removeprefix("--").replace("-", "_").partition("=")[0]
        if word.startswith("--") and name in OURS:
            allowed = "--seeds and --out of the sweep"
            raise ConfigError("is given to each run by the sweep", field=name, found=word, allowed=allowed)
    kinds = typing.get_type_hints(command)
    axes = [list(_values(asked, kinds)) for asked in vary]
    axes.append([(f"seed-{seed}", ["--seed", str(seed)]) for seed in seeds])
    trials = [
        Trial(
            name="_".join(label for label, _ in chosen),
            options=(*options, *(word for _, words in chosen for word in words)),
        )
        for chosen in itertools.product(*axes)
    ]
    names = [trial.name for trial in trials]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError("the same run twice", field="vary" if vary else "seeds", found=twice[0])
    return trials


def _values(asked: str, kinds: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Of one option that varies: each value's label and the words that are typed for it."""
    typed, equals, values = asked.partition("=")
    name = typed.strip().lstrip("-").replace("-", "_")
    known = [kind for kind in kinds if kind not in OURS]
    if name not in known:
        raise ConfigError("no such option of train", field="vary", found=typed, allowed=", ".join(known))
    given = [value.split() for value in values.split(",")]
    if not equals or not all(given):
        raise ConfigError(field="vary", found=asked, allowed=f"values, such as {name}=A,B")
    option = f"--{name.replace('_', '-')}"
    for value in given:
        label = f"{name}-{re.sub(r'[^A-Za-z0-9.+-]', '_', '+'.join(value))}"
        if kinds[name] is not bool:
            yield label, [option, *value]
        elif value in ([YES], [NO]):
            yield label, [option] if value == [YES] else []
        else:
            raise ConfigError(field=f"vary {name}", found=" ".join(value), allowed=f"{YES} or {NO}")
