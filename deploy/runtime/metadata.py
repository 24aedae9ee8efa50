"""What a policy file says about itself: text in the ONNX metadata map, readable without torch and without onnx."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.runtime.file_entries import FileKind
from robot_rlpd.specs import PolicyContract
from robot_rlpd.task import TaskOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = FileKind(format="robot-rlpd-policy", version=1, what="policy file", make="robot-rlpd export RUN_DIR")
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
        return KIND.encode(self)


def decode_metadata(entries: Mapping[str, str], *, where: str) -> PolicyMetadata:
    """Read what `PolicyMetadata.encode` wrote; entries that are not known are left alone.

    Args:
        entries: The metadata map of an ONNX file.
        where: Name of the file for messages.

    Raises:
        DataError: Not a policy file of this project, of a newer version, incomplete or altered.
    """
    return KIND.decode(entries, PolicyMetadata, where=where)
