"""Small arithmetic conditions on a step, such as `observation[28] >= 1.35`, without `eval`."""

from __future__ import annotations

import ast
import functools
import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "min": lambda x: np.min(x, axis=_entries(x)),
    "max": lambda x: np.max(x, axis=_entries(x)),
    "sum": lambda x: np.sum(x, axis=_entries(x)),
    "norm": lambda x: np.sqrt(np.sum(np.square(np.asarray(x, np.float64)), axis=_entries(x))),
}
_ALLOWED = "field names, numbers, [index], [a:b], + - * /, comparisons, and or not, abs min max sum norm"


class Condition:
    """A parsed condition; call it with the named arrays of a step, or ask `each` for many steps at once.

    Inside, the last axis of every array is that of the steps, so that `[index]` and functions mean what they say.

    Args:
        text: For instance `norm(achieved_goal - desired_goal) < 0.5 and observation[2] > 0`.
        field: Name of the option for error messages.

    Raises:
        ConfigError: Not a condition of the allowed kind.
    """

    def __init__(self, text: str, *, field: str = "success_when") -> None:
        self.text = text
        self._field = field
        if len(text) > 1000:
            raise self._error(f"{len(text)} characters")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
            self._check(self._tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._error(text) from None
        self.names = sorted({n.id for n in ast.walk(self._tree) if isinstance(n, ast.Name)} - set(_FUNCTIONS))

    def check_names(self, known: Mapping[str, Any] | list[str]) -> None:
        """Refuse names that a step does not have.

        Raises:
            ConfigError: Lists the names that exist.
        """
        for name in self.names:
            if name not in known:
                raise ConfigError("no such field", field=self._field, found=name, allowed=", ".join(known))

    def __call__(self, names: Mapping[str, Any]) -> bool:
        """Whether the condition holds.

        Raises:
            ConfigError: An index outside an array, an unknown name, or a result that is not a single truth value.
        """
        return bool(self._evaluate({name: np.asarray(value)[..., None] for name, value in names.items()})[0])

    def each(self, names: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Whether the condition holds at each of T steps, `(T,)`.

        Args:
            names: Arrays of steps `(T, *shape)` by name; at least one.

        Raises:
            ConfigError: As for a single step.
        """
        steps = len(next(iter(names.values())))
        held = self._evaluate({name: np.moveaxis(np.asarray(value), 0, -1) for name, value in names.items()})
        return np.broadcast_to(held, (steps,))

    def _evaluate(self, names: Mapping[str, Any]) -> NDArray[np.bool_]:
        try:
            with np.errstate(all="ignore"):
                return self._truth(self._value(self._tree, names), "a result")
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._error(f"{self.text} ({error})") from None

    def _truth(self, value: Any, what: str) -> NDArray[np.bool_]:
        """One truth value per step, or one for all; arrays of entries have none."""
        truths: NDArray[np.bool_] = np.asarray(value).astype(np.bool_)
        if truths.ndim and math.prod(truths.shape[:-1]) != 1:
            raise self._error(f"{what} of shape {truths.shape[:-1]}")
        return truths.reshape(-1)

    def _error(self, found: str) -> ConfigError:
        return ConfigError(field=self._field, found=found, allowed=_ALLOWED)

    def _check(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant) and not isinstance(node.value, (int, float, bool)):
            raise self._error(repr(node.value))
        if isinstance(node, ast.BinOp) and type(node.op) not in _BINARY:
            raise self._error(self.text)
        if isinstance(node, ast.Compare) and any(type(op) not in _COMPARE for op in node.ops):
            raise self._error(self.text)
        if isinstance(node, ast.Call) and (
            not isinstance(node.func, ast.Name)
            or node.func.id not in _FUNCTIONS
            or node.keywords
            or len(node.args) != 1
        ):
            raise self._error(self.text)
        allowed = (
            *(ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Subscript),
            *(ast.Slice, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
        )
        if not isinstance(node, allowed) or isinstance(node, ast.Invert):
            raise self._error(self.text)
        for child in ast.iter_child_nodes(node):
            self._check(child)

    def _value(self, node: ast.AST, names: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                self.check_names(dict(names))
                return names[name]
            case ast.Subscript(value=value, slice=index):
                return self._entry(np.asarray(self._value(value, names)), self._index(index, names))
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                return _FUNCTIONS[name](self._value(argument, names))
            case ast.Compare():
                return self._compare(node, names)
            case ast.BoolOp(op=op, values=values):
                results = [self._truth(self._value(v, names), "a part") for v in values]
                return functools.reduce(np.logical_and if isinstance(op, ast.And) else np.logical_or, results)
        return self._arithmetic(node, names)

    def _arithmetic(self, node: ast.AST, names: Mapping[str, Any]) -> Any:
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._value(left, names), self._value(right, names))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return np.logical_not(self._truth(self._value(operand, names), "a part"))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, names)
            case ast.UnaryOp(operand=operand):
                return self._value(operand, names)
        raise self._error(self.text)

    def _compare(self, node: ast.Compare, names: Mapping[str, Any]) -> NDArray[np.bool_]:
        held: NDArray[np.bool_] = np.ones(1, np.bool_)
        left = self._value(node.left, names)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._value(right_node, names)
            held = held & self._truth(_COMPARE[type(op)](left, right), "a comparison")
            left = right
        return held

    def _entry(self, array: NDArray[Any], index: int | slice) -> Any:
        if array.ndim < 2:
            raise IndexError("too many indices for array")
        return array[index]

    def _index(self, node: ast.AST, names: Mapping[str, Any]) -> int | slice:
        if isinstance(node, ast.Slice):
            parts = [None if p is None else int(self._value(p, names)) for p in (node.lower, node.upper, node.step)]
            return slice(*parts)
        return int(self._value(node, names))


def _entries(x: Any) -> tuple[int, ...]:
    """The axes of a value's entries: all but the last, which is that of the steps."""
    return tuple(range(np.ndim(x) - 1))
