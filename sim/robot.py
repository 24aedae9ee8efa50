"""The simulated arm as a `Robot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.robot import ClosingRobot, Observation, StepResult
from sim.arm import ACTION, MAX_OPENING_M, WORKSPACE_HIGH_M, WORKSPACE_LOW_M, Start
from sim.kinematics import joint_positions, upright
from sim.readings import ARM, CUBE_ORIENTATION, CUBE_POSITION, FINGERS, has_cube, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from robot_rlpd.robot import Action
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.task import Task

ASSETS = Path(__file__).parent / "assets"
RAMP = 0.6
"""Part of a control step over which the joint targets move to their new places; they rest for the remainder."""


class SimRobot(ClosingRobot):
    """Steps MuJoCo as fast as it can; its time is simulation time, and goes on across resets.

    Args:
        spec: From `sim.arm.arm_spec`.
        scene: File name of the MJCF model in `sim/assets`.
        task: Gives the signals reward, terminated, truncated (its time limit) and success.
        draw_start: Draws how an episode begins.
    """

    def __init__(
        self, spec: RobotSpec, *, scene: str, task: Task, draw_start: Callable[[np.random.Generator], Start]
    ) -> None:
        self.spec = spec
        self.model = mujoco.MjModel.from_xml_path(str(ASSETS / scene))
        self.data = mujoco.MjData(self.model)
        self._task = task
        self._draw_start = draw_start
        self._rng = np.random.default_rng()
        self._substeps = round(spec.control_period_s / self.model.opt.timestep)
        self._ramp = np.minimum(np.arange(1, self._substeps + 1) / (RAMP * self._substeps), 1.0)
        self._tcp = self.model.site("tcp").id
        self._target = self.model.site("target").id
        self._periods = 0
        self._episode_steps = 0
        self._observation: Observation = {}
        self._apply(draw_start(np.random.default_rng(0)))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Draw a start; without a seed the draws go on from the reset before. Takes one period of simulated time."""
        if options:
            raise ConfigError("the simulated arm has no reset options", field="options", found=sorted(options))
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._apply(self._draw_start(self._rng))
        self._periods += 1
        self._episode_steps = 0
        self._observation = self._observe()
        return StepResult(dict(self._observation), robot_time_s=self._robot_time_s)

    def step(self, action: Action) -> StepResult:
        """Move the TCP by the action clipped to its bounds, as far as the workspace allows, and observe.

        The workspace's walls belong to the dynamics, as the table does: an action against them counts as executed. Were
        it recorded as the motion that was left of it, no data would ever say what comes of pushing against a wall, and
        a critic could believe in it forever.
        """
        executed = np.clip(ACTION.validate(action), ACTION.low, ACTION.high)
        goal = np.clip(self.data.site_xpos[self._tcp] + executed[:3], WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        self._move(np.append(joint_positions(goal), [executed[3] / 2.0] * 2))
        self._periods += 1
        self._episode_steps += 1
        if not (np.isfinite(self.data.qpos).all() and np.isfinite(self.data.qvel).all()):
            return StepResult(
                dict(self._observation), executed, robot_time_s=self._robot_time_s, fault="the simulation diverged"
            )
        before, self._observation = self._observation, self._observe()
        signals = self._signals(before, executed)
        return StepResult(dict(self._observation), executed, signals, self._robot_time_s)

    def stop(self, reason: str) -> None:
        """Hold the present joint positions, at rest."""
        del reason
        self.data.qvel[: self.model.nu] = 0.0
        self.data.ctrl[:] = self.data.qpos[: self.model.nu]

    def set_state_from_observation(self, observation: Observation) -> None:
        """Put the model into the state that an observation of this robot describes, at rest; for pictures.

        The cube is shown upright: observations do not tell its tilt.

        Raises:
            DataError: A field that is needed is missing.
        """
        try:
            self.data.qpos[ARM] = observation["joint_positions"]
            self.data.qpos[FINGERS] = observation["gripper_opening"][0] / 2.0
            if has_cube(self.model):
                self.data.qpos[CUBE_POSITION] = observation["cube_position"]
                self.data.qpos[CUBE_ORIENTATION] = upright(float(observation["cube_yaw"][0]))
            self.model.site_pos[self._target] = observation["target_position"]
        except KeyError as error:
            raise DataError("needed to show the scene", field=f"observation.{error.args[0]}", found="nothing") from None
        self.data.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)

    @property
    def _robot_time_s(self) -> float:
        return self._periods * self.spec.control_period_s

    def _apply(self, start: Start) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[: self.model.nu] = np.append(joint_positions(start.tcp_position), [MAX_OPENING_M / 2.0] * 2)
        self.data.ctrl[:] = self.data.qpos[: self.model.nu]
        self.model.site_pos[self._target] = start.target_position
        if start.cube_position is not None:
            self.data.qpos[CUBE_POSITION] = start.cube_position
            self.data.qpos[CUBE_ORIENTATION] = upright(start.cube_yaw)
        mujoco.mj_forward(self.model, self.data)

    def _move(self, goal: NDArray[np.float64]) -> None:
        begin = self.data.qpos[: self.model.nu].copy()
        for part in self._ramp:
            self.data.ctrl[:] = begin + part * (goal - begin)
            mujoco.mj_step(self.model, self.data)
        # mj_step leaves the sites one substep behind the joints.
        mujoco.mj_kinematics(self.model, self.data)

    def _observe(self) -> Observation:
        return read(self.model, self.data, self.spec.observation)

    def _signals(self, before: Observation, executed: Action) -> dict[str, NDArray[Any]]:
        outcome = self._task.evaluate(before, executed, {}, self._observation)
        late = self._episode_steps >= self._task.max_episode_steps
        return {
            "reward": np.array(outcome.reward, np.float32),
            "terminated": np.array(outcome.terminated),
            "truncated": np.array(late and not outcome.terminated),
            "success": np.array(outcome.success),
        }
