"""The simulated arms as a `Robot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.robot import ClosingRobot, Observation, StepResult
from sim.calibration import Calibration
from sim.driver import ArmDriver
from sim.eyes import Eyes
from sim.kinematics import upright
from sim.motion import Motion
from sim.readings import Readings
from sim.reality import Reality
from sim.sensing import Sensing
from sim.showing import shift, show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from robot_rlpd.robot import Action
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.task import Task
    from sim.scene import Scene, Start, Vector

    Draw = Callable[[np.random.Generator], Mapping[str, float]]

ASSETS = Path(__file__).parent / "assets"
GRASP_S = 0.25
"""Time in which the fingers close on what they hold before an episode begins."""


class SimRobot(ClosingRobot):
    """Steps MuJoCo as fast as it can; its time is simulation time, and goes on across resets.

    The signals tell how things are; the observation tells how they are measured.

    Args:
        spec: From `sim.arm.arm_spec`; fields that are images are drawn with OpenGL.
        scene: The model and what is in it.
        task: Gives the signals reward, terminated, truncated (its time limit) and success.
        draw_start: Draws how an episode begins.
        draw_reality: Draws quantities of `sim.quantities` that are not nominal in an episode.
        calibration: What is known to be wrong with what is observed, and taken out of it; default nothing.
        secret: Whether a reset keeps to itself what was drawn.
    """

    def __init__(
        self,
        spec: RobotSpec,
        *,
        scene: Scene,
        task: Task,
        draw_start: Callable[[np.random.Generator], Start],
        draw_reality: Draw = lambda _: {},
        calibration: Calibration | None = None,
        secret: bool = False,
    ) -> None:
        self.spec = spec
        self.model = mujoco.MjModel.from_xml_path(str(ASSETS / scene.file))
        self.model.opt.timestep = spec.control_period_s / scene.substeps
        self.data = mujoco.MjData(self.model)
        self._scene, self._task, self._secret = scene, task, secret
        self._draw_start, self._draw_reality = draw_start, draw_reality
        self._calibration = calibration or Calibration(scene, {})
        self._rng = np.random.default_rng()
        self._substeps = scene.substeps
        self._drivers = [ArmDriver(self.model, arm, base) for arm, base in zip(scene.arms, scene.bases, strict=True)]
        self._motion = Motion(self.model, self._drivers, self._substeps)
        self._sensing = Sensing(self._drivers, self._substeps)
        self._reality = Reality(self.model, self.data, scene, self._drivers, self._motion, self._sensing)
        self._readings = Readings(self.model, scene, self._drivers, spec.observation)
        self._eyes = Eyes(self.model, spec.observation)
        self._target = self.model.site("target").id
        if scene.target_radius_m is not None:
            self.model.site_size[self._target] = scene.target_radius_m
            self.model.site_rgba[self._target, 3] = 1.0
        self._target_rgba = self.model.site_rgba[self._target].copy()
        self._periods = 0
        self._episode_steps = 0
        self._observation: Observation = {}
        self._truth: Observation = {}
        self._begin(draw_start(np.random.default_rng(0)))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Draw a start; without a seed the draws go on from the reset before. Takes one period of simulated time."""
        if options:
            raise ConfigError("the simulated arm has no reset options", field="options", found=sorted(options))
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        # Streams of their own: a start is the same whatever else is drawn.
        chance, noise = self._rng.spawn(2)
        values = dict(self._draw_reality(chance))
        self._reality.apply(values)
        self._sensing.rng = noise
        self._begin(self._draw_start(self._rng), values)
        self._periods += 1
        self._episode_steps = 0
        self._truth = self._readings.read(self.data)
        self._observation = self._sensing.start(self._measure())
        drawn = {} if self._secret else values
        return StepResult(dict(self._observation), robot_time_s=self._robot_time_s, randomization=drawn)

    def step(self, action: Action) -> StepResult:
        """Move the TCP by the action clipped to its bounds, as far as the workspace allows, and observe.

        The workspace's walls belong to the dynamics, as the table does: an action against them counts as executed. Were
        it recorded as the motion that was left of it, no data would ever say what comes of pushing against a wall, and
        a critic could believe in it forever.
        """
        spec = self.spec.action
        executed = np.clip(spec.validate(action), spec.low, spec.high)
        captured = self._move(executed)
        self._periods += 1
        self._episode_steps += 1
        if not (np.isfinite(self.data.qpos).all() and np.isfinite(self.data.qvel).all()):
            return StepResult(
                dict(self._observation), executed, robot_time_s=self._robot_time_s, fault="the simulation diverged"
            )
        before = self._truth
        self._truth = captured if self._sensing.is_perfect else self._readings.read(self.data)
        self._observation = self._sensing.deliver(captured)
        signals = self._signals(before, executed)
        return StepResult(dict(self._observation), executed, signals, self._robot_time_s)

    def look(self) -> StepResult:
        """How things are now."""
        seen = self._readings.read(self.data) | self._eyes.see(self.data)
        return StepResult(seen, robot_time_s=self._robot_time_s)

    def stop(self, reason: str) -> None:
        """Hold the present joint positions, at rest."""
        del reason
        for driver in self._drivers:
            self.data.qvel[driver.velocities] = 0.0
        self._hold()

    def close(self) -> None:
        """Release the pictures' OpenGL."""
        self._eyes.close()

    def set_state_from_observation(self, observation: Observation) -> None:
        """Put the model into the state that an observation of this robot describes, at rest; for pictures.

        Things are shown upright: observations do not tell their tilt.

        Raises:
            DataError: A field that is needed is missing.
        """
        try:
            show(self.model, self.data, self._scene, self._drivers, observation)
        except KeyError as error:
            raise DataError("needed to show the scene", field=f"observation.{error.args[0]}", found="nothing") from None

    def begin_at(self, observation: Observation, values: Mapping[str, float]) -> None:
        """Begin an episode at rest where an observation was made, in a world with these quantities; draws nothing.

        A wrong calibration among them is how the observation was made, and is taken out of it.

        Raises:
            DataError: A field that is needed is missing.
        """
        self._reality.apply(values)
        self._sensing.rng = np.random.default_rng(0)
        mujoco.mj_resetData(self.model, self.data)
        wrong = Calibration(self._scene, values)
        true = observation if wrong.is_right else wrong.undone(observation, joints=True)
        self.set_state_from_observation(true)
        self._hold()
        self._episode_steps = 0
        self._truth = self._readings.read(self.data)
        self._observation = self._sensing.start(self._measure())

    def resume_at(self, observation: Observation) -> None:
        """Go on from where an observation was made instead of what was predicted; velocities and targets stay."""
        shift(self.model, self.data, self._scene, self._drivers, self._observation, observation)

    @property
    def _robot_time_s(self) -> float:
        return self._periods * self.spec.control_period_s

    def _begin(self, start: Start, values: Mapping[str, float] | None = None) -> None:
        values = values or {}
        shift = (values.get("start_dx_m", 0.0), values.get("start_dy_m", 0.0))
        mujoco.mj_resetData(self.model, self.data)
        for driver, position in zip(self._drivers, start.tcp_positions, strict=True):
            self.data.qpos[driver.positions] = driver.start(position, start.opening_m)
        self._hold()
        shown = start.target_position is not None
        self.model.site_rgba[self._target] = self._target_rgba if shown else 0.0
        if start.target_position is not None:
            self.model.site_pos[self._target] = start.target_position
        if start.fixture_position is not None:
            self.model.body_pos[self.model.body(self._scene.fixture).id] = _shifted(start.fixture_position, shift)
        if start.thing_position is not None:
            self._place(_shifted(start.thing_position, shift), start.thing_yaw)
        mujoco.mj_forward(self.model, self.data)
        if start.thing_from_tcp is not None:
            self._grasp(start.thing_from_tcp)

    def _place(self, position: Vector | NDArray[np.float64], yaw: float) -> None:
        address = int(self.model.joint(self._scene.thing).qposadr[0])
        self.data.qpos[address : address + 3] = position
        self.data.qpos[address + 3 : address + 7] = upright(yaw)

    def _grasp(self, from_tcp: Vector) -> None:
        """Close the first gripper on the thing."""
        driver = self._drivers[0]
        self._place(self.data.site(f"{driver.name}tcp").xpos + from_tcp, 0.0)
        self.data.ctrl[driver.actuators[-2:]] = 0.0
        for _ in range(round(GRASP_S / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        self._motion.rest(self.data.ctrl)

    def _hold(self) -> None:
        for driver in self._drivers:
            self.data.ctrl[driver.actuators] = self.data.qpos[driver.positions]
        self._motion.rest(self.data.ctrl)

    def _move(self, executed: Action) -> Observation:
        """One control step; what was observed of it, perhaps before its end."""
        capture, captured = self._sensing.capture_substep, {}
        self._motion.command(executed)
        for substep in range(self._substeps):
            self._motion.advance(self.data, substep)
            mujoco.mj_step(self.model, self.data)
            if substep + 1 == capture:
                # mj_step leaves the sites one substep behind the joints.
                mujoco.mj_kinematics(self.model, self.data)
                captured = self._measure()
        if capture != self._substeps:
            mujoco.mj_kinematics(self.model, self.data)
        return captured

    def _measure(self) -> Observation:
        senses = None if self._sensing.is_perfect else self._sensing
        measured = self._readings.read(self.data, senses)
        if not self._calibration.is_right:
            measured = self._calibration.undone(measured, joints=True)
        return measured | self._eyes.see(self.data)

    def _signals(self, before: Observation, executed: Action) -> dict[str, NDArray[Any]]:
        outcome = self._task.evaluate(before, executed, {}, self._truth)
        late = self._episode_steps >= self._task.max_episode_steps
        return {
            "reward": np.array(outcome.reward, np.float32),
            "terminated": np.array(outcome.terminated),
            "truncated": np.array(late and not outcome.terminated),
            "success": np.array(outcome.success),
        }


def _shifted(position: Vector, shift: tuple[float, float]) -> Vector:
    return position[0] + shift[0], position[1] + shift[1], position[2]
