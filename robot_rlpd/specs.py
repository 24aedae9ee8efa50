"""What a robot observes and accepts, described before any array exists, and the fingerprint of that contract."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import operator
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import numpy as np

from robot_rlpd.errors import MismatchError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

T = TypeVar("T")
_FLOAT32 = np.dtype(np.float32)
DTYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")


FEW = 64
"""So many numbers are looked at one by one: at control rates a numpy function is cold, and costs more than they do."""


def is_finite(array: NDArray[Any]) -> bool:
    """Whether there is neither NaN nor infinity in it."""
    if array.ndim == 1 and array.size <= FEW and math.isfinite(sum(array.tolist())):
        return True
    return 0 not in np.isfinite(array).tobytes()


def _bounds(value: float | Sequence[float], size: int, name: str) -> tuple[float, ...]:
    values = (float(value),) if isinstance(value, (int, float)) else tuple(float(v) for v in value)
    if len(values) not in (1, size):
        raise SpecError(field=name, found=f"{len(values)} bounds", allowed=f"1 or {size}")
    if any(math.isnan(v) for v in values):
        raise SpecError(field=name, found="NaN as a bound", allowed="numbers, or infinities for observations")
    return values


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """One named array: an observation field or a signal.

    Attributes:
        name: Field name, unique within its group.
        shape: Shape of one unbatched value; `()` for a scalar.
        dtype: One of `DTYPES`.
        low: Lower bounds, one number for all entries or one per entry (C order); may be -inf.
        high: Upper bounds, likewise.
        unit: SI unit of the entries ("rad", "m", "m/s", "" where dimensionless or mixed).
        components: Names of the entries of a one-dimensional field; may be empty.
        is_image: Whether this is a camera image (H, W, C) in uint8.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    low: tuple[float, ...] = (-math.inf,)
    high: tuple[float, ...] = (math.inf,)
    unit: str = ""
    components: tuple[str, ...] = ()
    is_image: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.dtype not in DTYPES:
            raise SpecError(field=f"{self.name}.dtype", found=self.dtype, allowed=", ".join(DTYPES))
        object.__setattr__(self, "low", _bounds(self.low, self.size, f"{self.name}.low"))
        object.__setattr__(self, "high", _bounds(self.high, self.size, f"{self.name}.high"))
        object.__setattr__(self, "components", tuple(self.components))
        if self.components and len(self.components) != self.size:
            raise SpecError(
                field=f"{self.name}.components", found=f"{len(self.components)} names", allowed=f"{self.size} or none"
            )
        if self.is_image and (self.dtype != "uint8" or len(self.shape) != 3):
            raise SpecError(field=self.name, found=f"{self.dtype} {self.shape}", allowed="an image is uint8 (H, W, C)")

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @functools.cached_property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    def validate(self, value: NDArray[Any]) -> NDArray[Any]:
        """Return `value` as a finite array of the declared shape and dtype.

        Raises:
            SpecError: The shape differs, the cast would lose the kind of number, or an entry is NaN or infinite.
        """
        array = value if type(value) is np.ndarray else np.asarray(value)
        if array.shape != self.shape:
            raise SpecError(field=self.name, found=f"shape {array.shape}", allowed=f"shape {self.shape}")
        if array.dtype != self._dtype:
            if not np.can_cast(array.dtype, self._dtype, casting="same_kind"):
                raise SpecError(field=self.name, found=f"dtype {array.dtype}", allowed=self.dtype)
            array = array.astype(self._dtype)
        if self._dtype.kind == "f" and not is_finite(array):
            index = int(np.flatnonzero(~np.isfinite(array.ravel()))[0])
            label = self.components[index] if self.components else str(index)
            raise SpecError(field=f"{self.name}[{label}]", found=str(array.ravel()[index]), allowed="finite numbers")
        return array


@dataclass(frozen=True, kw_only=True)
class ActionComponent:
    """One entry of the action vector.

    Attributes:
        name: Component name, unique within the action.
        low: Lower bound in `unit`, finite.
        high: Upper bound in `unit`, finite, above `low`.
        unit: SI unit, "" where dimensionless.
        mode: "absolute" target, or "delta" to the present state.
        frame: Frame in which the component is expressed ("base", "tcp", "joint", "" where unknown).
        kind: "continuous", or "binary" (the sign about the middle of the range decides).
    """

    name: str
    low: float = -1.0
    high: float = 1.0
    unit: str = ""
    mode: Literal["absolute", "delta"] = "absolute"
    frame: str = ""
    kind: Literal["continuous", "binary"] = "continuous"

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise SpecError(
                field=f"action.{self.name}", found=f"[{self.low}, {self.high}]", allowed="finite bounds with low < high"
            )


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """The action: a float32 vector `(A,)` in robot units, one component per entry."""

    components: tuple[ActionComponent, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", tuple(self.components))
        names = [c.name for c in self.components]
        if not names or len(set(names)) != len(names):
            raise SpecError(field="action.components", found=names, allowed="one or more, with different names")

    @property
    def size(self) -> int:
        """Number of components A."""
        return len(self.components)

    @functools.cached_property
    def low(self) -> NDArray[np.float32]:
        """Lower bounds, float32 `(A,)`."""
        return np.array([c.low for c in self.components], np.float32)

    @functools.cached_property
    def high(self) -> NDArray[np.float32]:
        """Upper bounds, float32 `(A,)`."""
        return np.array([c.high for c in self.components], np.float32)

    @functools.cached_property
    def _bounds(self) -> tuple[list[float], list[float]]:
        return self.low.tolist(), self.high.tolist()

    def admits(self, action: NDArray[Any]) -> bool:
        """Whether this is float32 `(A,)` already, finite and within the bounds."""
        if type(action) is not np.ndarray or action.dtype != _FLOAT32 or action.shape != self.low.shape:
            return False
        (lows, highs), values = self._bounds, action.tolist()
        return all(map(operator.le, lows, values)) and all(map(operator.le, values, highs))

    def validate(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Return `action` as a finite float32 `(A,)` array; bounds are the safety filter's business.

        Raises:
            SpecError: Wrong shape, or an entry is NaN or infinite.
        """
        array = np.asarray(action, np.float32)
        if array.shape != self.low.shape:
            raise SpecError(field="action", found=f"shape {array.shape}", allowed=f"shape ({self.size},)")
        if not is_finite(array):
            index = int(np.flatnonzero(~np.isfinite(array))[0])
            raise SpecError(
                field=f"action[{self.components[index].name}]", found=str(array[index]), allowed="finite numbers"
            )
        return array

    def to_unit(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Map robot units to [-1, 1] per component, clipped; works on `(..., A)`."""
        unit: NDArray[np.float64] = np.subtract(action, self.low, dtype=np.float64)
        unit /= self.high.astype(np.float64) - self.low
        unit *= 2.0
        unit -= 1.0
        return np.clip(unit, -1.0, 1.0, out=unit).astype(np.float32)

    def from_unit(self, unit: NDArray[Any]) -> NDArray[np.float32]:
        """Map [-1, 1] per component to robot units; works on `(..., A)`."""
        half = (self.high.astype(np.float64) - self.low) / 2.0
        action = (self.low + half * (np.asarray(unit, np.float64) + 1.0)).astype(np.float32)
        return np.clip(action, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class PolicyContract:
    """All that has to agree between a policy and a robot: the fields read (in order), the action, the rate.

    Observation bounds are operating limits, not contract: they do not enter the fingerprint.
    """

    observation: tuple[ArraySpec, ...]
    action: ActionSpec
    control_rate_hz: float

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the canonical encoding."""
        return hashlib.sha256(canonical_json(self._canonical()).encode()).hexdigest()

    @property
    def observation_size(self) -> int:
        """Length of the flattened observation."""
        return sum(spec.size for spec in self.observation)

    def flatten(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Concatenate the fields in contract order: `(*batch, field shape)` arrays to float32 `(*batch, size)`."""
        parts = []
        for spec in self.observation:
            value = np.asarray(observation[spec.name], np.float32)
            batch = value.shape[: value.ndim - len(spec.shape)]
            parts.append(value.reshape(*batch, spec.size))
        return np.concatenate(parts, axis=-1)

    def _canonical(self) -> dict[str, Any]:
        fields = [replace(spec, low=(-math.inf,), high=(math.inf,)) for spec in self.observation]
        contract = replace(self, observation=tuple(fields))
        encoded: dict[str, Any] = to_builtins(contract)
        return encoded


@dataclass(frozen=True, kw_only=True)
class RobotSpec:
    """A robot as seen from outside.

    Attributes:
        name: Robot name, for people.
        observation: Observation fields in their canonical order.
        action: The action vector.
        control_rate_hz: Control steps per second.
        signals: What only the robot's side knows (reward, success, operator key ...); policies never see it.
        metadata: Serial numbers, physics, image quality ...: free text, outside the fingerprint.
    """

    name: str
    observation: tuple[ArraySpec, ...]
    action: ActionSpec
    control_rate_hz: float
    signals: tuple[ArraySpec, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", tuple(self.observation))
        object.__setattr__(self, "signals", tuple(self.signals))
        object.__setattr__(self, "control_rate_hz", float(self.control_rate_hz))
        for group, specs in (("observation", self.observation), ("signals", self.signals)):
            names = [spec.name for spec in specs]
            if len(set(names)) != len(names) or (group == "observation" and not names):
                raise SpecError(field=group, found=names, allowed="different names, at least one observation field")
        if not (math.isfinite(self.control_rate_hz) and self.control_rate_hz > 0):
            raise SpecError(field="control_rate_hz", found=self.control_rate_hz, allowed="above 0 Hz")

    @property
    def control_period_s(self) -> float:
        """Length of one control step in seconds."""
        return 1.0 / self.control_rate_hz

    def contract(self, fields: Sequence[str] | None = None) -> PolicyContract:
        """The contract of a policy that reads `fields` (default: every field that is not an image).

        Raises:
            MismatchError: A field that this robot does not have.
        """
        by_name = {spec.name: spec for spec in self.observation}
        names = [s.name for s in self.observation if not s.is_image] if fields is None else list(fields)
        for name in names:
            if name not in by_name:
                raise MismatchError(
                    f"robot '{self.name}' has no such field", field=f"observation.{name}", allowed=", ".join(by_name)
                )
        return PolicyContract(
            observation=tuple(by_name[name] for name in names),
            action=self.action,
            control_rate_hz=self.control_rate_hz,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the contract over all fields that are not images."""
        return self.contract().fingerprint


def check_contract(wanted: PolicyContract, spec: RobotSpec, *, who: str) -> None:
    """Refuse a robot (or a store's spec) that does not fit the contract.

    Args:
        wanted: What the policy or the session needs.
        spec: What is offered; extra fields are fine.
        who: Name of the offering side for the message, such as "store demos.zarr".

    Raises:
        MismatchError: Naming the first differing field, what was found and what is needed.
    """
    names = [s.name for s in spec.observation]
    for missing in (f.name for f in wanted.observation if f.name not in names):
        raise MismatchError(f"{who} has no such field", field=f"observation.{missing}", allowed=", ".join(names))
    offered = spec.contract([f.name for f in wanted.observation])
    if offered.fingerprint == wanted.fingerprint:
        return
    name, found, needed = _first_difference(offered._canonical(), wanted._canonical())
    raise MismatchError(f"{who} does not fit", field=name, found=str(found), allowed=str(needed))


def _first_difference(found: Any, needed: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(found, dict) and isinstance(needed, dict):
        for key in needed:
            if found.get(key) != needed[key]:
                return _first_difference(found.get(key), needed[key], f"{path}.{key}" if path else key)
    if isinstance(found, list) and isinstance(needed, list):
        if len(found) != len(needed):
            return path, f"{len(found)} entries", f"{len(needed)} entries"
        for i, (a, b) in enumerate(zip(found, needed, strict=True)):
            if a != b:
                label = b["name"] if isinstance(b, dict) and "name" in b else str(i)
                return _first_difference(a, b, f"{path}.{label}")
    return path, found, needed


def to_builtins(spec: Any) -> Any:
    """A spec as dicts, lists, strings and numbers; infinities become "inf" and "-inf" so that JSON can hold them."""
    return _finite(msgspec.to_builtins(spec, enc_hook=_encode_path))


def _encode_path(value: Any) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise SpecError(found=type(value).__name__, allowed="plain values, paths and dataclasses of them")


def _decode_path(kind: type, value: Any) -> Any:
    if issubclass(kind, PurePath):
        return kind(value)
    raise SpecError(found=kind.__name__, allowed="plain values, paths and dataclasses of them")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def from_builtins(data: Any, kind: type[T]) -> T:
    """The inverse of `to_builtins`.

    Raises:
        SpecError: `data` does not describe a `kind`.
    """
    try:
        return msgspec.convert(data, kind, strict=False, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        raise SpecError(f"not a {kind.__name__}: {error}") from None


def canonical_json(data: Any) -> str:
    """JSON with sorted keys and no spaces: equal data give equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
