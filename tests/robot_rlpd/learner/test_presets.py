from dataclasses import replace

import pytest

from robot_rlpd.learner.presets import PRESETS


@pytest.mark.parametrize(
    ("name", "subset_size", "backup_entropy", "num_hidden"),
    [("locomotion", 2, True, 2), ("antmaze", 1, False, 3), ("adroit", 2, False, 3), ("robot", 2, False, 3)],
)
def test_presets_are_the_papers_table(name: str, subset_size: int, backup_entropy: bool, num_hidden: int) -> None:
    config = PRESETS[name]
    assert (config.subset_size, config.backup_entropy) == (subset_size, backup_entropy)
    assert config.hidden_dims == (256,) * num_hidden
    assert (config.ensemble_size, config.utd_ratio, config.batch_size) == (10, 20, 256)
    assert (config.discount, config.tau, config.initial_temperature, config.offline_fraction) == (0.99, 0.005, 1, 0.5)
    assert config.actor_lr == config.critic_lr == config.temperature_lr == 3e-4


def test_the_quickstart_is_the_robot_preset_but_for_its_size() -> None:
    quick, robot = PRESETS["quickstart"], PRESETS["robot"]
    sizes = {"hidden_dims": robot.hidden_dims, "ensemble_size": robot.ensemble_size, "utd_ratio": robot.utd_ratio}
    assert quick.ensemble_size * sum(quick.hidden_dims) < robot.ensemble_size * sum(robot.hidden_dims)
    assert replace(quick, **sizes).backup_entropy is robot.backup_entropy  # type: ignore[arg-type]
