"""A task of the simulated arms, put together from its parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.previous_actions import remembering, spec_with_previous_actions
from robot_rlpd.robot import Expert, Observation
from robot_rlpd.task import TaskOptions, TaskSetup
from sim.arm import arm_spec, image_field
from sim.calibration import METADATA_KEY, Calibration
from sim.goal_task import GoalTask
from sim.options import SimOptions, parse_options
from sim.randomization import Randomization
from sim.scene import Scene, Start

if TYPE_CHECKING:
    from robot_rlpd.specs import RobotSpec
    from sim.robot import SimRobot


@dataclass(frozen=True, kw_only=True)
class SimTask:
    """What a file in `sim/tasks` says.

    Attributes:
        name: As typed after `--task`.
        scene: The model.
        fields: What is observed, beside cameras.
        needs: The fields that decide success.
        is_solved: Whether an observation shows the task solved.
        draw_start: Draws how an episode begins.
        make_expert: Makes the scripted expert from noise and seed.
        max_episode_steps: Time limit in control steps.
    """

    name: str
    scene: Scene
    fields: tuple[str, ...]
    needs: tuple[str, ...]
    is_solved: Callable[[Observation], bool]
    draw_start: Callable[[np.random.Generator], Start]
    make_expert: Callable[[float, int], Expert]
    max_episode_steps: int

    @property
    def spec(self) -> RobotSpec:
        """The robot without cameras."""
        return arm_spec(f"sim_arm_{self.name}", self.fields, self.scene.arms)

    def spec_with(self, options: SimOptions) -> RobotSpec:
        """The robot with its cameras."""
        images = tuple(image_field(camera, options.image_size) for camera in options.cameras)
        return replace(self.spec, observation=(*self.spec.observation, *images))

    def judge(self, options: TaskOptions) -> GoalTask:
        """Reward, termination and success."""
        steps = options.max_episode_steps or self.max_episode_steps
        return GoalTask(
            self.name, fields=self.needs, is_solved=self.is_solved, max_episode_steps=steps, reward=options.reward
        )

    def make_robot(self, options: SimOptions, task_options: TaskOptions, *, secret_name: str = "") -> SimRobot:
        """The robot in this process.

        Args:
            options: Cameras and randomization.
            task_options: Time limit.
            secret_name: Name of a robot that keeps to itself that it is simulated, and what is drawn; default none.
        """
        from sim.robot import SimRobot

        spec = self.spec_with(options)
        spec = replace(spec, name=secret_name, metadata={}) if secret_name else spec
        if options.calibration:
            spec = replace(spec, metadata={**spec.metadata, METADATA_KEY: json.dumps(dict(options.calibration))})
        return SimRobot(
            spec,
            scene=self.scene,
            task=self.judge(replace(task_options, reward="task")),
            draw_start=self.draw_start,
            draw_reality=self._present(options).draw,
            calibration=Calibration(self.scene, options.calibration),
            secret=bool(secret_name),
        )

    def _present(self, options: SimOptions) -> Randomization:
        """The randomization of what there is in this scene."""
        there = {"thing_": self.scene.thing, "slide_": self.scene.slide}
        there |= dict.fromkeys(("camera_", "light_"), "seen" if options.cameras else "")
        absent = tuple(start for start, present in there.items() if not present)
        distributions = options.randomization.distributions
        return Randomization({name: d for name, d in distributions.items() if not name.startswith(absent)})

    def setup(self, argument: str, task_options: TaskOptions) -> TaskSetup:
        """What the task's entry point in `robot_rlpd.tasks` calls."""
        options = parse_options(self.name, self.scene, argument, task_options)
        return TaskSetup(
            task=self.judge(task_options),
            spec=spec_with_previous_actions(self.spec_with(options), options.previous_actions),
            make_robot=lambda: remembering(self.make_robot(options, task_options), options.previous_actions),
            make_expert=self.make_expert,
        )
