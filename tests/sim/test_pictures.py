"""Sketches, OpenGL pictures and videos of episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np
import pytest
from PIL import Image

from robot_rlpd.errors import ConfigError
from robot_rlpd.rollout import rollout
from robot_rlpd.task import TaskOptions
from sim import render
from sim.facets import facets_of
from sim.robot import SimRobot
from sim.sketch import sketch
from sim.tasks import bimanual_handover, drawer, peg_insert, pick_place, push, reach
from sim.video import episode_video, episodes_video

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from numpy.typing import NDArray

    from robot_rlpd.episode import Episode

SIZE = (160, 120)
GEOMS = mujoco.mjtGeom


@pytest.fixture(scope="module")
def recorded() -> tuple[SimRobot, Episode]:
    setup = pick_place.setup("", TaskOptions())
    robot = setup.make_robot()
    assert isinstance(robot, SimRobot)
    assert setup.make_expert is not None
    return robot, rollout(robot, setup.make_expert(0.0, 0), setup.task, seed=1)


def is_red(pixels: NDArray[np.int_]) -> NDArray[np.bool_]:
    return (pixels[..., 0] > 80) & (pixels[..., 0] > 2.6 * pixels[..., 1])


@pytest.mark.parametrize("camera", ["front", "side", "top"])
def test_every_camera_sees_the_red_cube_and_much_else(recorded: tuple[SimRobot, Episode], camera: str) -> None:
    robot, _ = recorded
    robot.reset(seed=1)
    pixels = np.asarray(sketch(robot.model, robot.data, camera=camera, size=SIZE)).astype(int)
    assert pixels.shape == (120, 160, 3)
    assert is_red(pixels).sum() >= 4
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_the_sketch_puts_a_point_where_the_camera_geometry_says() -> None:
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><camera name='c' pos='0 0 2' fovy='90'/>"
        "<geom type='sphere' size='0.1' pos='0.5 0.25 0' rgba='0 0 1 1'/></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    pixels = np.asarray(sketch(model, data, camera="c", size=(200, 200))).astype(int)
    rows, columns = np.nonzero(pixels[..., 2] > pixels[..., 0] + 60)
    # Focal length 100 pixels at 90 degrees; depth 2 m.
    assert columns.mean() == pytest.approx(100 + 25, abs=1.0)
    assert rows.mean() == pytest.approx(100 - 12.5, abs=1.0)


@pytest.mark.parametrize("kind", [GEOMS.mjGEOM_BOX, GEOMS.mjGEOM_SPHERE, GEOMS.mjGEOM_CYLINDER, GEOMS.mjGEOM_CAPSULE])
def test_facets_of_solids_face_outwards(kind: int) -> None:
    facets = facets_of(kind, (0.3, 0.2, 0.1))
    normals = np.cross(facets[:, 2] - facets[:, 0], facets[:, 3] - facets[:, 1])
    outwards = np.einsum("ij,ij->i", normals, facets.mean(axis=1))
    assert (outwards > 0.0).all()


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_video_has_a_frame_per_kept_observation(
    recorded: tuple[SimRobot, Episode], tmp_path: Path, suffix: str
) -> None:
    robot, episode = recorded
    path = episode_video(episode, tmp_path / f"episode{suffix}", robot=robot, every=4, size=SIZE, renderer="sketch")
    kept = len({*range(0, len(episode) + 1, 4), len(episode)})
    with Image.open(path) as image:
        assert image.size == SIZE
        assert getattr(image, "n_frames", 1) == kept
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_video_may_show_several_episodes(recorded: tuple[SimRobot, Episode], tmp_path: Path) -> None:
    robot, episode = recorded
    path = episodes_video([episode] * 2, tmp_path / "both.gif", robot=robot, every=100, size=SIZE, renderer="sketch")
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 4
    with pytest.raises(ConfigError, match="episodes"):
        episodes_video([], path, robot=robot)


def test_an_unknown_video_format_is_refused(recorded: tuple[SimRobot, Episode], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.webp"):
        episode_video(recorded[1], tmp_path / "episode.mp4", robot=recorded[0])


def test_a_machine_without_opengl_is_told_what_to_do(
    recorded: tuple[SimRobot, Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "find_backend", lambda: None)
    with pytest.raises(ConfigError, match="sketch"):
        render.GlRenderer(recorded[0].model, SIZE)


def test_opengl_and_sketch_agree_about_where_things_are(recorded: tuple[SimRobot, Episode]) -> None:
    if render.find_backend() is None:
        pytest.skip("no off-screen OpenGL on this machine")
    robot, _ = recorded
    robot.reset(seed=1)
    renderer = render.GlRenderer(robot.model, SIZE)
    try:
        drawn = renderer.draw(robot.data, "top")
    finally:
        renderer.close()
        renderer.close()
    centres = []
    for image in (drawn, sketch(robot.model, robot.data, camera="top", size=SIZE)):
        pixels = np.asarray(image).astype(int)
        centres.append(np.argwhere(is_red(pixels)).mean(axis=0))
    np.testing.assert_allclose(centres[0], centres[1], atol=1.5)


@pytest.mark.parametrize("module", [push, bimanual_handover])
def test_cameras_are_observed_where_they_are_asked_for(module: ModuleType) -> None:
    wrist = "left_wrist" if module is bimanual_handover else "wrist"
    options = TaskOptions(env_kwargs={"cameras": ["front", wrist], "image_size": [48, 32]})
    setup = module.setup("", options)
    assert setup.spec.fingerprint == module.SPEC.fingerprint
    assert {f.name: f.shape for f in setup.spec.observation if f.is_image} == {
        "front_image": (32, 48, 3),
        f"{wrist}_image": (32, 48, 3),
    }
    if render.find_backend() is None:
        pytest.skip("no off-screen OpenGL on this machine")
    with setup.make_robot() as robot:
        images = [robot.reset(seed=0).observation["front_image"]]
        images += [robot.step(setup.spec.action.high).observation["front_image"] for _ in range(3)]
    assert images[0].dtype == np.uint8
    assert len(np.unique(images[0].reshape(-1, 3), axis=0)) > 50
    assert np.abs(images[0].astype(int) - images[-1].astype(int)).max() > 30


def test_brightness_and_pose_of_cameras_change_what_is_seen() -> None:
    if render.find_backend() is None:
        pytest.skip("no off-screen OpenGL on this machine")
    seen = []
    for quantity in ({}, {"light_scale": 0.5}, {"camera_turn_rad": 0.1}):
        options = TaskOptions(env_kwargs={"cameras": "front", "image_size": 48, "randomization": quantity})
        with push.setup("", options).make_robot() as robot:
            seen.append(robot.reset(seed=0).observation["front_image"].astype(int))
    assert seen[1].mean() < seen[0].mean() - 10
    assert np.abs(seen[2] - seen[0]).mean() > 3


@pytest.mark.parametrize("module", [reach, push, peg_insert, drawer, bimanual_handover])
def test_an_observation_shows_the_scene_that_it_was_made_in(module: ModuleType) -> None:
    setup = module.setup("", TaskOptions())
    robot, other = setup.make_robot(), setup.make_robot()
    expert = setup.make_expert(0.0, 0)
    expert.reset()
    observation = robot.reset(seed=1).observation
    for _ in range(6):
        observation = robot.step(expert(observation)).observation
    other.reset(seed=2)
    other.set_state_from_observation(observation)
    for site in ("tcp", "hole", "handle", "tip"):
        if f"{site}_position" in observation:
            np.testing.assert_allclose(other.data.site(site).xpos, observation[f"{site}_position"], atol=2e-5)
    for thing in ("block", "bar"):
        if f"{thing}_position" in observation:
            np.testing.assert_allclose(other.data.body(thing).xpos, observation[f"{thing}_position"], atol=1e-5)


def test_the_wrist_camera_sees_the_target_of_reach_where_the_arm_hides_it_from_above() -> None:
    if render.find_backend() is None:
        pytest.skip("no off-screen OpenGL on this machine")
    setup = reach.setup("", TaskOptions(env_kwargs={"cameras": ["top", "wrist"], "image_size": 32}))
    assert setup.make_expert is not None
    robot = setup.make_robot()
    seen: dict[str, list[int]] = {"top_image": [], "wrist_image": []}
    try:
        for seed in range(8):
            episode = rollout(robot, setup.make_expert(0.0, seed), setup.task, seed=seed)
            for camera, counts in seen.items():
                red, green, blue = np.moveaxis(episode.observations[camera][-1].astype(int), -1, 0)
                counts.append(int(((green - red > 25) & (4 * (green - blue) > green)).sum()))
    finally:
        robot.close()
    assert min(seen["wrist_image"]) >= 30
    assert np.median(seen["top_image"]) == 0
