import math

import pytest

from robot_rlpd.errors import TrainingError
from robot_rlpd.learner.q_range import EXPLODED_PATIENCE, PATIENCE, QRangeAlarm
from robot_rlpd.learner.rlpd import RLPDConfig

SPARSE = RLPDConfig(backup_entropy=False, discount=0.99)


def alarm(config: RLPDConfig = SPARSE) -> QRangeAlarm:
    made = QRangeAlarm(config)
    made.see(-1.0, 0.0)
    return made


def warnings(checked: QRangeAlarm, lowest: float, highest: float, times: int) -> list[str]:
    return [told for told in (checked.check(lowest, highest) for _ in range(times)) if told]


def test_rewards_of_minus_one_and_zero_allow_minus_hundred_to_zero() -> None:
    low, high = SPARSE.return_bounds(-1.0, 0.0)
    assert low == pytest.approx(-100.0)
    assert high == 0.0


@pytest.mark.parametrize(("lowest", "highest"), [(-140.0, -10.0), (-50.0, 40.0), (-9e3, 0.0)])
def test_a_sustained_excess_is_told_once_with_both_ranges(lowest: float, highest: float) -> None:
    (told,) = warnings(alarm(), lowest, highest, 5 * PATIENCE)
    assert "outside [-100.0, 0.0]" in told
    assert f"{highest:.1f}" in told


def test_it_is_told_at_the_last_check_of_the_patience() -> None:
    checked = alarm()
    assert not warnings(checked, -50.0, 40.0, PATIENCE - 1)
    assert checked.check(-50.0, 40.0)


def test_the_short_excess_of_an_untrained_critic_is_not_told() -> None:
    checked = alarm()
    assert not warnings(checked, -4.0, 40.0, PATIENCE - 1)
    assert not warnings(checked, -60.0, 0.0, 1)
    assert not warnings(checked, -4.0, 40.0, PATIENCE - 1)


def test_a_little_beyond_the_range_is_no_excess() -> None:
    assert not warnings(alarm(), -104.0, 4.0, 3 * PATIENCE)


def test_nothing_is_told_with_entropy_backup() -> None:
    assert not warnings(alarm(RLPDConfig(backup_entropy=True)), -9e3, 9e3, 3 * PATIENCE)


@pytest.mark.parametrize("backup_entropy", [False, True])
@pytest.mark.parametrize("targets", [(-2e4, 0.0), (0.0, 2e4), (-math.inf, 0.0)])
def test_targets_hundred_times_beyond_any_return_end_training(
    targets: tuple[float, float], backup_entropy: bool
) -> None:
    checked = alarm(RLPDConfig(backup_entropy=backup_entropy))
    for _ in range(EXPLODED_PATIENCE - 1):
        checked.check(*targets)
        assert checked.exploding
    with pytest.raises(TrainingError, match=r"^target_q: Q explodes"):
        checked.check(*targets)


def test_one_check_far_outside_ends_nothing() -> None:
    checked = alarm()
    for _ in range(5):
        checked.check(-2e4, 0.0)
        assert checked.exploding
        checked.check(-50.0, 0.0)
        assert not checked.exploding


def test_nothing_is_told_before_a_reward_was_seen() -> None:
    checked = QRangeAlarm(SPARSE)
    checked.see()
    assert not warnings(checked, -1e6, 1e6, 3 * PATIENCE)


def test_a_larger_reward_widens_the_range() -> None:
    checked = alarm()
    checked.see(1.0)
    assert not warnings(checked, -50.0, 40.0, 3 * PATIENCE)


def test_without_discounting_any_return_is_possible() -> None:
    undiscounted = alarm(RLPDConfig(backup_entropy=False, discount=1.0))
    assert not warnings(undiscounted, -1e9, 0.0, 3 * PATIENCE)
