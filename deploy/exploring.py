"""The policy that an actor explores with: the exported actor, drawing its actions instead of taking their mean."""

from __future__ import annotations

from importlib import metadata as packages
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deploy.export import OPSET, PREFIX, build_policy_model
from deploy.runtime.metadata import PolicyMetadata
from robot_rlpd.errors import DataError

if TYPE_CHECKING:
    from robot_rlpd.learner.checkpoint import Checkpoint

LOG_STD_RANGE = (-20.0, 2.0)
"""As the learner clips it."""


def exploring_policy(checkpoint: Checkpoint) -> bytes:
    """A policy file whose actions are tanh(mean + std * noise); the noise is drawn inside, anew at every call.

    Raises:
        DataError: The parameters do not fit the contract, or are not finite.
    """
    described = PolicyMetadata(
        contract=checkpoint.contract,
        task=checkpoint.task,
        task_options=checkpoint.task_options,
        max_episode_steps=checkpoint.max_episode_steps,
        run=checkpoint.run,
        env_steps=checkpoint.env_steps,
        gradient_steps=checkpoint.gradient_steps,
        prior_data=checkpoint.prior,
        code_version=packages.version("robot-rlpd"),
        opset=OPSET,
    )
    actor = {name: parameter.detach().cpu().numpy() for name, parameter in checkpoint.actor.items()}
    model = build_policy_model(actor, described, normalizer=checkpoint.normalizer, pixels=checkpoint.config.pixels)
    kernel, bias = (np.asarray(actor[f"log_std/{part}"], np.float32) for part in ("kernel", "bias"))
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise DataError("not finite: the training diverged", field="log_std")
    _add_noise(model.graph, kernel, bias)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _add_noise(graph: onnx.GraphProto, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Between the mean and its tanh, which is the last one: there is another behind cameras."""
    at, squash = [(i, node) for i, node in enumerate(graph.node) if node.op_type == "Tanh"][-1]
    mean = next(node for node in graph.node if squash.input[0] in node.output)
    constants = {
        "kernel": kernel,
        "bias": bias,
        "low": np.float32(LOG_STD_RANGE[0]),
        "high": np.float32(LOG_STD_RANGE[1]),
    }
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{PREFIX}log_std/{name}"))

    def name_of(part: str) -> str:
        return f"{PREFIX}noise/{part}"

    nodes = [
        helper.make_node("Gemm", [mean.input[0], f"{PREFIX}log_std/kernel", f"{PREFIX}log_std/bias"], [name_of("raw")]),
        helper.make_node(
            "Clip", [name_of("raw"), f"{PREFIX}log_std/low", f"{PREFIX}log_std/high"], [name_of("log_std")]
        ),
        helper.make_node("Exp", [name_of("log_std")], [name_of("std")]),
        helper.make_node("RandomNormal", [], [name_of("noise")], shape=[1, kernel.shape[1]]),
        helper.make_node("Mul", [name_of("std"), name_of("noise")], [name_of("scaled")]),
        helper.make_node("Add", [squash.input[0], name_of("scaled")], [name_of("sample")]),
    ]
    squash.input[0] = name_of("sample")
    rest = list(graph.node)[at:]
    del graph.node[at:]
    graph.node.extend([*nodes, *rest])
