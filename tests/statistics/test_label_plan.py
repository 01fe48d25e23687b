"""Planning labels: the width that comes out, where labels go, exact inclusion probabilities, going on and stopping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.statistics import (
    Expected,
    corrected_rate,
    draw_labels,
    drawn_labels,
    expected_changes_from_errors,
    expected_from_errors,
    from_pilot,
    plan_labels,
)
from alignprism.statistics.label_plan import allocate

RARE = {"harmful": 162, "harmless": 738}


def test_a_narrower_interval_costs_more_and_rare_harm_is_cheap() -> None:
    plans = [plan_labels(expected_from_errors(RARE, 0.9, 0.9), half) for half in (0.1, 0.05, 0.04, 0.03)]
    costs = [plan.labels for plan in plans]
    assert costs == sorted(costs)
    assert all(plan.reached and plan.expected_half_width <= plan.wanted_half_width for plan in plans)
    assert 60 <= plans[2].labels <= 130
    common = plan_labels(expected_from_errors({"harmful": 400, "harmless": 500}), 0.05)
    assert common.labels > plans[1].labels


def test_it_is_the_fewest() -> None:
    expected = expected_from_errors(RARE, 0.9, 0.9)
    plan = plan_labels(expected, 0.04)
    fewer = plan_labels(expected, 0.04, most=plan.labels - 1)
    assert not fewer.reached
    assert f"with {plan.labels - 1} rows, the most allowed, labelled the half width is still 0.040" in fewer.reason


def test_the_promised_width_is_what_simulated_labels_give() -> None:
    rng = np.random.default_rng(1)
    widths, promised = [], []
    for _ in range(150):
        truth = rng.random(900) < 0.1
        verdicts = truth ^ (rng.random(900) < 0.1)
        words = np.where(verdicts, "harmful", "harmless")
        plan = plan_labels(expected_from_errors({w: int((words == w).sum()) for w in RARE}, 0.9, 0.9), 0.04)
        drawn = draw_labels(words, {s.name: s.labels for s in plan.strata}, rng)
        labels = drawn_labels(drawn.rows, truth[drawn.rows], drawn.inclusion_probabilities)
        found = corrected_rate(verdicts, np.arange(900), labels).corrected
        widths.append((found.high - found.low) / 2)
        promised.append(plan.expected_half_width)
    assert np.mean(widths) == pytest.approx(np.mean(promised), rel=0.08)


def test_labels_follow_neyman_where_floors_and_ceilings_leave_room() -> None:
    strata = [Expected(1000, 0.5), Expected(1000, 0.1)]
    given_to = allocate(strata, 160, np.array([5, 5]))
    assert given_to.tolist() == [100, 60]  # standard deviations .5 and .3
    assert allocate(strata, 10, np.array([5, 5])).tolist() == [5, 5]
    assert allocate([Expected(20, 0.5), Expected(1000, 0.5)], 200, np.array([5, 5])).tolist()[0] < 6
    assert allocate(strata, 2000, np.array([5, 5])).tolist() == [1000, 1000]


@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 1), st.integers(0, 20)), min_size=1, max_size=9),
    st.floats(0.01, 0.4),
    st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_a_plan_keeps_to_the_rows_there_are(strata: list[tuple[int, float, int]], half_width: float, most: int) -> None:
    expected = {
        str(k): Expected(rows, share, labelled=min(rows, labelled)) for k, (rows, share, labelled) in enumerate(strata)
    }
    plan = plan_labels(expected, half_width, most=most)
    for stratum in plan.strata:
        assert max(stratum.labelled, min(5, stratum.rows)) <= stratum.labels <= stratum.rows
        assert 0 < stratum.inclusion_probability <= 1
    assert plan.reached == (plan.reason == "") == (plan.expected_half_width <= half_width)
    assert plan.new >= 0


def test_these_very_completions_can_be_known_exactly() -> None:
    expected = expected_from_errors({"harmful": 30, "harmless": 30})
    out_of_reach = plan_labels(expected, 0.02)
    assert out_of_reach.labels == 60
    assert "with every row labelled the half width is still" in out_of_reach.reason
    assert plan_labels(expected, 0.02, population="these completions").reached


def test_a_plan_for_a_pair_uses_the_joint_strata() -> None:
    pairs = {
        ("harmful", "harmful"): 60,
        ("harmful", "harmless"): 100,
        ("harmless", "harmless"): 300,
        ("undecidable", "harmless"): 3,
    }
    expected = expected_changes_from_errors(pairs)
    assert expected["harmful", "harmless"].opposite > 0.5 > expected["harmful", "harmless"].share
    plan = plan_labels({"/".join(pair): e for pair, e in expected.items()}, 0.08)
    assert plan.reached
    assert {s.name: s.labels for s in plan.strata}["undecidable/harmless"] == 3
    with pytest.raises(ValueError, match="not for both"):
        plan_labels({"a": Expected(10, 0.5), "b": Expected(10, 0.5, 0.1)}, 0.1)


def test_a_pilot_says_what_is_still_needed_and_when_to_stop() -> None:
    first = plan_labels(expected_from_errors(RARE), 0.05)
    labelled = {s.name: s.labels for s in first.strata}
    worse = {"harmful": from_pilot(162, labelled["harmful"], labelled["harmful"] * 0.5),
             "harmless": from_pilot(738, labelled["harmless"], labelled["harmless"] * 0.25)}  # fmt: skip
    more = plan_labels(worse, 0.05)
    assert more.new > 0
    assert all(s.labels >= labelled[s.name] for s in more.strata)
    enough = {name: from_pilot(RARE[name], labelled[name], 0) for name in RARE}
    done = plan_labels(enough, 0.05)
    assert (done.new, done.reached) == (0, True)
    assert plan_labels(worse, 0.05, design_effect=2.0).labels > more.labels


def test_bad_plans_are_named() -> None:
    with pytest.raises(ValueError, match="no rows to label"):
        plan_labels({}, 0.05)
    with pytest.raises(ValueError, match="half_width is 0"):
        plan_labels(expected_from_errors(RARE), 0)
    with pytest.raises(ValueError, match="no judge to plan with"):
        expected_from_errors(RARE, 0.4, 0.5)
    with pytest.raises(ValueError, match="'unsafe' is not one of"):
        expected_from_errors({"unsafe": 3})


def test_every_row_of_a_stratum_is_drawn_with_the_probability_it_is_given() -> None:
    strata = np.array(["a"] * 10 + ["b"] * 30)
    rng = np.random.default_rng(2)
    times, reps = np.zeros(40), 4_000
    for _ in range(reps):
        first = draw_labels(strata, {"a": 2, "b": 5}, rng)
        drawn = draw_labels(strata, {"a": 5, "b": 6}, rng, labelled=first.rows)
        assert set(first.rows) < set(drawn.rows)
        times[drawn.rows] += 1
    assert drawn.inclusion_probabilities.tolist() == [0.5] * 5 + [0.2] * 6
    expected = np.where(strata == "a", 0.5, 0.2)
    error = np.sqrt(expected * (1 - expected) / reps)
    assert (np.abs(times / reps - expected) < 4 * error).all()


def test_topping_up_in_steps_leaves_the_estimate_unbiased() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(300) < 0.3
    verdicts = truth ^ (rng.random(300) < 0.2)
    words = np.where(verdicts, "harmful", "harmless")
    found = []
    for _ in range(400):
        first = draw_labels(words, {"harmful": 10, "harmless": 10}, rng)
        drawn = draw_labels(words, {"harmful": 15, "harmless": 40}, rng, labelled=first.rows)
        labels = drawn_labels(drawn.rows, truth[drawn.rows], drawn.inclusion_probabilities)
        found.append(corrected_rate(verdicts, np.arange(300), labels).corrected.estimate)
    assert np.mean(found) == pytest.approx(truth.mean(), abs=4 * np.std(found) / 20)


def test_a_draw_is_the_seeds_and_shuffled_and_refuses_what_cannot_be() -> None:
    strata = ["a"] * 50 + ["b"] * 50
    one, again = (draw_labels(strata, {"a": 20, "b": 20}, np.random.default_rng(4)) for _ in range(2))
    assert one.new.tolist() == again.new.tolist()
    assert one.new.tolist() != sorted(one.new)
    assert sorted(one.new) == one.rows.tolist()
    with pytest.raises(ValueError, match="stratum 'a': 60 labels wanted, 0 exist, 50 rows"):
        draw_labels(strata, {"a": 60}, np.random.default_rng(4))
    with pytest.raises(ValueError, match="no row is in stratum 'c'"):
        draw_labels(strata, {"c": 1}, np.random.default_rng(4))
    with pytest.raises(ValueError, match="row 60 is labelled, but no labels are wanted in its stratum 'b'"):
        draw_labels(strata, {"a": 1}, np.random.default_rng(4), labelled=[60])
