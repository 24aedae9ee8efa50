"""A policy file whose weights change while its graph stays: what a learner publishes while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from deploy.export import PREFIX, Normalizer, actor_arrays, build_policy_model, describe
from robot_rlpd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from deploy.runtime.metadata import PolicyMetadata
    from robot_rlpd.learner.checkpoint import Checkpoint


class PolicyTemplate:
    """Makes policy files of one architecture without building or checking the graph again.

    Args:
        actor_parameters: As for `build_policy_model`; decide the architecture.
        metadata: Decides the contract.
        normalizer: Whether there is one is part of the architecture.
        stochastic: Likewise.
    """

    def __init__(
        self,
        actor_parameters: Mapping[str, NDArray[Any]],
        metadata: PolicyMetadata,
        *,
        normalizer: Normalizer | None,
        stochastic: bool = False,
    ) -> None:
        self._model = build_policy_model(actor_parameters, metadata, normalizer=normalizer, stochastic=stochastic)
        self._tensors = {t.name.removeprefix(PREFIX): t for t in self._model.graph.initializer}
        self._opset = int(self._model.opset_import[0].version)
        self._contract = metadata.contract

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, stochastic: bool = False) -> PolicyTemplate:
        """For the policies of a training run."""
        parameters, described = actor_arrays(checkpoint), describe(checkpoint)
        return cls(parameters, described, normalizer=checkpoint.normalizer, stochastic=stochastic)

    def fill(
        self,
        actor_parameters: Mapping[str, NDArray[Any]],
        metadata: PolicyMetadata,
        *,
        normalizer: Normalizer | None,
    ) -> bytes:
        """A policy file with these weights, the same bytes that building it anew would give.

        Raises:
            DataError: Another contract or architecture, or a weight that is not finite.
        """
        if metadata.contract.fingerprint != self._contract.fingerprint:
            raise DataError("the template is of another contract", field="contract")
        if (normalizer is None) != ("mean" not in self._tensors):
            raise DataError("the template is of another architecture", field="normalizer")
        values = dict(actor_parameters)
        if normalizer is not None:
            values |= {name: part.reshape(1, -1) for name, part in zip(("mean", "scale"), normalizer, strict=True)}
        for name in self._weights(values):
            tensor, value = self._tensors[name], np.ascontiguousarray(values[name], np.float32)
            if tuple(tensor.dims) != value.shape:
                raise DataError(
                    "the template is of another architecture",
                    field=name,
                    found=f"shape {value.shape}",
                    allowed=f"shape {tuple(tensor.dims)}",
                )
            if not np.isfinite(value).all():
                raise DataError("not finite: the training diverged", field=name)
            tensor.raw_data = value.tobytes()
        del self._model.metadata_props[:]
        entries = metadata.encode() | {"opset": str(self._opset)}
        helper.set_model_props(self._model, entries)
        self._model.producer_version = metadata.code_version
        content: bytes = self._model.SerializeToString(deterministic=True)
        return content

    def _weights(self, values: Mapping[str, Any]) -> list[str]:
        needed = [name for name in self._tensors if name.endswith(("/kernel", "/bias")) or name in ("mean", "scale")]
        for name in needed:
            if name not in values:
                raise DataError("the actor has no such parameter", field=name, allowed=", ".join(values))
        layers = sum(name.startswith("dense") for name in values)
        if layers != sum(name.startswith("dense") for name in needed):
            raise DataError("the template is of another architecture", field="dense", found=f"{layers // 2} layers")
        return needed
