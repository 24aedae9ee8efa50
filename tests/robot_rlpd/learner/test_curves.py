from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.errors import ConfigError
from robot_rlpd.evaluation import wilson_interval
from robot_rlpd.learner.curves import MAX_POINTS, Curve, Metric, find_metrics, mean_curve, run_curve

if TYPE_CHECKING:
    from collections.abc import Sequence

SUCCESS_RATE = Metric(kind="evaluation", name="success_rate")


def record(kind: str, env_steps: int, wall_s: float = 0.0, **values: object) -> dict[str, Any]:
    return {"kind": kind, "env_steps": env_steps, "gradient_steps": 0, "wall_s": wall_s, **values}


def evaluations(successes: Sequence[int], steps: Sequence[int], episodes: int = 20) -> list[dict[str, Any]]:
    return [
        record("evaluation", s, successes=n, episodes=episodes, success_rate=n / episodes)
        for n, s in zip(successes, steps, strict=True)
    ]


def line(x: Sequence[float], y: Sequence[float]) -> Curve:
    nothing = np.full(len(x), np.nan)
    return Curve(x=np.array(x, float), y=np.array(y, float), low=nothing, high=nothing, seeds=np.ones(len(x), int))


RUN = [
    record("start", 0, prior="none"),
    record("train", 100, env_steps_per_s=50.0),
    record("train", 200, env_steps_per_s=5.0, q_mean=-3.0, critic_loss=None),
    record("episode", 210, success=True, length=10, ended="terminated", q_mean=1.0),
    record("evaluation", 300, success_rate=0.5, mean_return=-7.0, ci95=[0.2, 0.8], task="reach"),
    record("end", 300, reason="finished"),
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("success_rate", "evaluation/success_rate"),
        ("return", "evaluation/mean_return"),
        ("ci95_low", "evaluation/ci95_low"),
        ("env_steps_per_s", "train/env_steps_per_s"),
        ("q_mean", "train/q_mean"),
        ("episode/q_mean", "episode/q_mean"),
        ("success", "episode/success"),
        ("length", "episode/length"),
    ],
)
def test_a_metric_is_found_by_its_name_or_by_kind_and_name(asked: str, found: str) -> None:
    assert [str(metric) for metric in find_metrics([asked], [RUN])] == [found]


@pytest.mark.parametrize("asked", ["foo", "train/success", "critic_loss", "ended", "wall_s", "prior", "kind"])
def test_an_unknown_metric_is_refused_in_one_line_that_lists_what_there_is(asked: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_metrics(["q_mean", asked], [[], RUN])
    assert str(caught.value) == (
        f"metric: no such metric in these runs; found {asked}; allowed: episode/length, episode/q_mean, "
        "episode/success, evaluation/ci95_high, evaluation/ci95_low, evaluation/mean_return, evaluation/success_rate, "
        "train/env_steps_per_s, train/q_mean"
    )


def test_a_run_that_was_not_evaluated_yet_has_an_empty_success_rate() -> None:
    (metric,) = find_metrics(["success_rate"], [RUN[:3]])
    assert len(run_curve(RUN[:3], metric, "env_steps", window=20).x) == 0


def test_a_curve_holds_the_records_that_have_its_number() -> None:
    records = [record("train", s, wall_s=s / 10, q_mean=q) for s, q in ((100, None), (200, -1.0), (300, -2.0))]
    records.insert(1, record("train", 150, other=0.0))
    curve = run_curve(records, Metric(kind="train", name="q_mean"), "env_steps", window=20)
    assert (curve.x.tolist(), curve.y.tolist()) == ([200.0, 300.0], [-1.0, -2.0])
    assert np.isnan(curve.low).all()
    assert run_curve(records, Metric(kind="train", name="q_mean"), "wall_s", window=20).x.tolist() == [20.0, 30.0]


def test_training_time_never_goes_back() -> None:
    records = [
        record("train", s, wall_s=w, q_mean=0.0) for s, w in ((100, 10.0), (200, 20.0), (300, 15.0), (400, 25.0))
    ]
    curve = run_curve(records, Metric(kind="train", name="q_mean"), "wall_s", window=20)
    assert curve.x.tolist() == [10.0, 20.0, 20.0, 25.0]


def test_the_band_of_a_single_run_is_the_interval_of_each_evaluation() -> None:
    curve = mean_curve([run_curve(evaluations([0, 5, 20], [100, 200, 300]), SUCCESS_RATE, "env_steps", window=20)])
    assert curve.x.tolist() == [100, 200, 300]
    assert curve.y.tolist() == [0.0, 0.25, 1.0]
    bounds = [wilson_interval(n, 20) for n in (0, 5, 20)]
    np.testing.assert_allclose(np.stack([curve.low, curve.high], axis=1), bounds)


def test_what_episodes_show_is_averaged_over_the_last_of_them() -> None:
    records = [record("episode", 10 * i, success=bool(s), length=i) for i, s in enumerate((0, 1, 1, 0, 1, 1))]
    success = run_curve(records, Metric(kind="episode", name="success"), "env_steps", window=3)
    np.testing.assert_allclose(success.y, [0, 1 / 2, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    bounds = [wilson_interval(*counts) for counts in ((0, 1), (1, 2), (2, 3), (2, 3), (2, 3), (2, 3))]
    np.testing.assert_allclose(np.stack([success.low, success.high], axis=1), bounds)
    length = run_curve(records, Metric(kind="episode", name="length"), "env_steps", window=3)
    np.testing.assert_allclose(length.y, [0, 0.5, 1, 2, 3, 4])
    assert np.isnan(length.low).all()


def test_a_long_curve_is_averaged_and_no_point_is_lost() -> None:
    records = [record("train", step, q_mean=float(step)) for step in range(10 * MAX_POINTS)]
    curve = run_curve(records, Metric(kind="train", name="q_mean"), "env_steps", window=20)
    np.testing.assert_allclose(curve.x, 10 * np.arange(MAX_POINTS) + 4.5)
    np.testing.assert_array_equal(curve.x, curve.y)


def test_the_band_of_several_runs_is_their_range_about_their_mean() -> None:
    runs = [line([100, 200, 300], [0.0, 0.5, 1.0]), line([102, 202, 298], [0.0, 0.2, 0.4]), line([], [])]
    curve = mean_curve(runs)
    assert curve.x.tolist() == [100, 200, 300]
    np.testing.assert_allclose(curve.high, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(curve.low, [0.0, 0.196, 0.4])
    np.testing.assert_allclose(curve.y, [0.0, 0.348, 0.7])
    assert curve.seeds.tolist() == [2, 2, 2]


def test_a_run_counts_as_far_as_it_got_and_no_further() -> None:
    curve = mean_curve([line([100, 200], [1.0, 1.0]), line([100, 200, 300, 400], [0.0, 0.0, 0.0, 0.5])])
    assert curve.x.tolist() == [100, 200, 300, 400]
    assert curve.seeds.tolist() == [2, 2, 1, 1]
    assert curve.y.tolist() == [0.5, 0.5, 0.0, 0.5]
    assert (curve.low[3], curve.high[3]) == (0.5, 0.5)


def test_a_run_counts_from_where_it_begins() -> None:
    curve = mean_curve([line([10, 20, 30, 40], [0.0, 0.0, 0.0, 0.0]), line([34, 36], [1.0, 1.0])])
    assert curve.seeds.tolist() == [1, 1, 2, 2]
    assert curve.y.tolist() == [0.0, 0.0, 0.5, 0.5]


def test_runs_of_one_point_each_are_one_point() -> None:
    curve = mean_curve([line([100], [0.0]), line([104], [1.0])])
    assert (curve.x.tolist(), curve.y.tolist(), curve.seeds.tolist()) == ([104.0], [0.5], [2])


def test_no_runs_are_an_empty_curve() -> None:
    assert [len(array) for array in vars(mean_curve([])).values()] == [0] * 5


def test_time_on_the_robot_is_environment_steps_over_the_control_rate() -> None:
    records = [record("start", 0, control_rate_hz=5.0), *evaluations([1, 2], [300, 900])]
    assert run_curve(records, SUCCESS_RATE, "robot_min", window=1).x.tolist() == [1.0, 3.0]
    with pytest.raises(ConfigError, match="control rate"):
        run_curve([*RUN, *evaluations([1], [300])], SUCCESS_RATE, "robot_min", window=1)


def test_the_rate_of_interventions_is_averaged_over_episodes() -> None:
    records = [record("intervention", 10 * i, rate=float(i % 2)) for i in range(1, 5)]
    curve = run_curve(records, Metric(kind="intervention", name="rate"), "env_steps", window=2)
    assert curve.y.tolist() == [1.0, 0.5, 0.5, 0.5]
