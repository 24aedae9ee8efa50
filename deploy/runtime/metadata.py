"""What a policy file says about itself: text in the ONNX metadata map, readable without torch and without onnx."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from robot_rlpd.errors import DataError, RobotRlpdError
from robot_rlpd.specs import PolicyContract, canonical_json, from_builtins, to_builtins
from robot_rlpd.task import TaskOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "robot-rlpd-policy"
VERSION = 1
NOISE = "net:noise"
"""Input of a stochastic policy file: standard normal, one number per action component. No observation field has such a
name."""


@dataclass(frozen=True, kw_only=True)
class PolicyMetadata:
    """Everything about a policy that is not a weight.

    Each attribute is one entry of the map: strings as they are, all else as JSON with full precision.
    """

    contract: PolicyContract
    """What the policy reads, in the order of the flattened observation, what it commands, and at which rate."""
    task: str = ""
    """Name of the task it was trained for."""
    task_options: TaskOptions = field(default_factory=TaskOptions)
    """Options with which that task judged."""
    max_episode_steps: int = 1000
    """Time limit of that task in control steps."""
    run: str = ""
    """Name of the training run."""
    env_steps: int = 0
    """Environment steps trained on."""
    gradient_steps: int = 0
    """Critic updates done."""
    evaluation: dict[str, Any] | None = None
    """Last evaluation in training: `successes`, `episodes` and the 95 % interval `ci95`; None where there was none."""
    prior_data: dict[str, str] = field(default_factory=dict)
    """Digest of each store of prior data."""
    code_version: str = ""
    """Version of this package that wrote the file."""
    opset: int = 0
    """ONNX operator set of the graph."""
    created: str = ""
    """When, in ISO 8601; empty where the same checkpoint shall give the same bytes."""

    def encode(self) -> dict[str, str]:
        """The entries of the metadata map."""
        entries = {"format": FORMAT, "version": str(VERSION), "fingerprint": self.contract.fingerprint}
        for attribute in fields(self):
            value = getattr(self, attribute.name)
            entries[attribute.name] = value if isinstance(value, str) else canonical_json(to_builtins(value))
        return entries


def decode_metadata(entries: Mapping[str, str], *, where: str) -> PolicyMetadata:
    """Read what `PolicyMetadata.encode` wrote; entries that are not known are left alone.

    Args:
        entries: The metadata map of an ONNX file.
        where: Name of the file for messages.

    Raises:
        DataError: Not a policy file of this project, of a newer version, incomplete or altered.
    """
    if entries.get("format") != FORMAT:
        raise DataError(
            "an ONNX file, but not a policy file", field=where, hint="make one with: robot-rlpd export RUN_DIR"
        )
    if entries.get("version") != str(VERSION):
        raise DataError(
            "a policy file of another version",
            field=where,
            found=entries.get("version", "none"),
            allowed=str(VERSION),
            hint="install the version of robot-rlpd that wrote it, or export the checkpoint again",
        )
    values: dict[str, Any] = {}
    hints = get_type_hints(PolicyMetadata)
    for attribute in fields(PolicyMetadata):
        name = attribute.name
        if name not in entries:
            raise DataError("the policy file is incomplete", field=where, found=f"no metadata entry '{name}'")
        try:
            value = entries[name] if hints[name] is str else json.loads(entries[name])
            values[name] = from_builtins(value, hints[name])
        except (ValueError, RobotRlpdError) as error:
            raise DataError(f"the metadata entry '{name}' is damaged: {error}", field=where) from None
    metadata = PolicyMetadata(**values)
    if entries.get("fingerprint") != metadata.contract.fingerprint:
        raise DataError("the fingerprint does not belong to the contract: the file was altered", field=where)
    return metadata
