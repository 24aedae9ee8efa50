"""Small arithmetic conditions on a step, such as `observation[28] >= 1.35`, without `eval`."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "min": np.min,
    "max": np.max,
    "sum": np.sum,
    "norm": np.linalg.norm,
}
_ALLOWED = "field names, numbers, [index], [a:b], + - * /, comparisons, and or not, abs min max sum norm"


class Condition:
    """A parsed condition; call it with the named arrays of a step.

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
        try:
            value = self._value(self._tree, names)
            if np.size(value) != 1:
                raise self._error(f"a result of shape {np.shape(value)}")
            return bool(value)
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._error(f"{self.text} ({error})") from None

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
            not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS or node.keywords
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
                return np.asarray(self._value(value, names))[self._index(index, names)]
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return _FUNCTIONS[name](*(self._value(a, names) for a in arguments))
            case ast.Compare():
                return self._compare(node, names)
            case ast.BoolOp(op=op, values=values):
                results = (bool(self._value(v, names)) for v in values)
                return all(results) if isinstance(op, ast.And) else any(results)
        return self._arithmetic(node, names)

    def _arithmetic(self, node: ast.AST, names: Mapping[str, Any]) -> Any:
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._value(left, names), self._value(right, names))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._value(operand, names)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, names)
            case ast.UnaryOp(operand=operand):
                return self._value(operand, names)
        raise self._error(self.text)

    def _compare(self, node: ast.Compare, names: Mapping[str, Any]) -> bool:
        left = self._value(node.left, names)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._value(right_node, names)
            result = _COMPARE[type(op)](left, right)
            if np.size(result) != 1:
                raise self._error(f"a comparison of shape {np.shape(result)}")
            if not bool(result):
                return False
            left = right
        return True

    def _index(self, node: ast.AST, names: Mapping[str, Any]) -> int | slice:
        if isinstance(node, ast.Slice):
            parts = [None if p is None else int(self._value(p, names)) for p in (node.lower, node.upper, node.step)]
            return slice(*parts)
        return int(self._value(node, names))
