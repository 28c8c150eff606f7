"""Hand-worked epochs: who is alive, means, thirds, fans, leads, gaps, and what they would choose."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvae_tune.report.estimates import traces


def epochs(rows):
    """Rows of (number, replicate, branch, epoch, tau, one-hot loss, gap, event)."""
    names = ["number", "replicate", "branch", "epoch", "tau", "discrete", "gap", "event"]
    frame = pd.DataFrame(rows, columns=names).astype({"branch": "string", "event": "string"})
    frame["control_loss_discrete"] = frame.pop("discrete").astype("float64")
    frame["control_loss_relaxed"] = frame["control_loss_discrete"] + frame.pop("gap")
    return frame


def pair(number, replicate, losses_a, losses_b, tau_a=0.5, tau_b=2.0, gaps=(-1.0, -2.0)):
    """A replicate's rows, epoch by epoch, at temperatures that stay."""
    return [
        (number, replicate, branch, epoch, tau, loss, gap, "TIE")
        for branch, losses, tau, gap in (
            ("a", losses_a, tau_a, gaps[0]),
            ("b", losses_b, tau_b, gaps[1]),
        )
        for epoch, loss in enumerate(losses, 1)
    ]


def test_a_replicate_lives_until_a_loss_of_either_member_is_lost():
    rows = pair(0, 0, [5, 4, 3], [5, np.nan, 3]) + pair(0, 1, [5, 4, 3], [5, 4, 3])
    frame = epochs(rows)
    ended = traces.endings(frame)
    assert ended.to_numpy().tolist() == [[0, 0, 2]]
    alive = traces.living(frame, ended)
    assert alive.groupby("replicate").size().to_dict() == {0: 2, 1: 6}
    stops = traces.stops(alive, ended)
    assert stops[["replicate", "branch", "epoch"]].to_numpy().tolist() == [[0, "a", 1], [0, "b", 1]]


def test_the_event_ended_ends_a_replicate_whatever_its_losses():
    frame = epochs([(3, 0, "a", 1, 1.0, 5, 0, "TIE"), (3, 0, "a", 2, 1.0, 4, 0, "ENDED")])
    ended = traces.endings(frame)
    assert ended.to_numpy().tolist() == [[3, 0, 2]]
    assert traces.living(frame, ended).epoch.tolist() == [1]


def test_no_epochs_have_no_endings():
    frame = epochs([])
    assert traces.endings(frame).empty
    assert traces.living(frame, traces.endings(frame)).empty


def test_temperatures_are_averaged_as_logarithms_over_who_is_alive():
    frame = epochs(
        [
            (0, 0, "a", 1, 0.5, 1, 0, "TIE"),
            (0, 1, "a", 1, 2.0, 1, 0, "TIE"),
            (0, 1, "a", 2, 4.0, 1, 0, "TIE"),
        ]
    )
    means = traces.mean_paths(frame)
    assert means.tau.tolist() == pytest.approx([1.0, 4.0])  # sqrt(0.5 * 2) and the survivor
    assert means.n.tolist() == [2, 1]


def test_thirds_rank_failures_last_and_equal_losses_by_number():
    values = pd.Series([3.0, np.nan, 1.0, 2.0, 1.0, 9.0], index=[10, 11, 12, 13, 9, 15])
    found = traces.thirds(values)
    assert found == traces.Thirds([9, 12], [15, 11])


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [4.0] * 9, [np.nan] * 9])
def test_trials_that_nothing_tells_apart_have_no_thirds(values):
    found = traces.thirds(pd.Series(values, index=range(len(values)), dtype="float64"))
    assert found == traces.Thirds([], [])


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, np.nan]), min_size=3, max_size=30))
def test_no_trial_of_the_best_third_is_worse_than_one_of_the_worst(values):
    series = pd.Series(values, index=range(len(values)))
    found = traces.thirds(series)
    known = series.fillna(np.inf)
    assert not set(found.best) & set(found.worst)
    if found.best:
        assert known[found.best].max() < known[found.worst].min()
        assert len(found.best) == len(found.worst) == len(values) // 3


def test_a_fan_interpolates_in_log_tau():
    # Paths at 1, 2, 4, 8, 16: quantile q lies at 2^(4q). Member a has 1, 4 and 16, b 2 and 8.
    places = {0: (1.0, 2.0), 1: (4.0, 8.0), 2: (16.0, None), 3: (1000.0, 1000.0)}
    rows = [
        (number, 0, branch, 1, tau, 1, 0, "TIE")
        for number, both in places.items()
        for branch, tau in zip("ab", both, strict=True)
        if tau
    ]
    fan = traces.fan(traces.mean_paths(epochs(rows)), [0, 1, 2]).iloc[0]
    assert fan["n"] == 5
    expected = {0.1: 2**0.4, 0.25: 2.0, 0.5: 4.0, 0.75: 8.0, 0.9: 2**3.6}
    assert {q: fan[q] for q in traces.LEVELS} == pytest.approx(expected)
    assert fan["median_a"] == pytest.approx(4.0)
    assert fan["median_b"] == pytest.approx(4.0)  # between 2 and 8, in the logarithm


def test_a_fan_of_nothing_has_no_epochs():
    means = traces.mean_paths(epochs(pair(0, 0, [1], [1])))
    assert traces.fan(means, [7]).empty


def test_loss_bands_reach_from_the_lowest_to_the_highest_replicate():
    rows = pair(0, 0, [1, 2], [5, 6]) + pair(0, 1, [3, 2], [5, 8])
    found = traces.loss_bands(epochs(rows)).set_index(["branch", "epoch"])
    assert found.loc[("a", 1)].tolist() == [2.0, 1.0, 3.0, 2.0]  # mean, low, high, n
    assert found.loc[("b", 2)].tolist() == [7.0, 6.0, 8.0, 2.0]


def test_leads_count_replicates_and_ties():
    rows = pair(0, 0, [1, 2], [2, 2]) + pair(0, 1, [1, 3], [2, 2]) + pair(0, 2, [3], [2])
    found = traces.leads(epochs(rows))
    assert found.a.tolist() == pytest.approx([2 / 3, 0])
    assert found.b.tolist() == pytest.approx([1 / 3, 1 / 2])
    assert found.equal.tolist() == pytest.approx([0, 1 / 2])
    assert found.n.tolist() == [3, 2]


def test_the_lead_changes_hands_across_ties():
    # a, tie, b, b, a: twice; the other replicate never.
    rows = pair(0, 0, [1, 2, 3, 3, 1], [2, 2, 2, 2, 2]) + pair(0, 1, [1] * 5, [2] * 5)
    assert traces.lead_changes(epochs(rows)) == 1.0
    assert np.isnan(traces.lead_changes(epochs([])))


def test_the_member_that_ended_ahead_may_differ_by_replicate():
    frame = epochs(pair(0, 0, [1, 9], [2, 3]) + pair(0, 1, [9, 1], [2, 3]) + pair(0, 2, [4], [4]))
    ahead = traces.leading(frame).drop_duplicates(["replicate", "branch"])
    assert dict(zip(ahead.replicate, ahead.branch, strict=True)) == {0: "b", 1: "a", 2: "a"}
    path = traces.gap_path(frame)  # gaps: b -2, a -1, and a -1 in the first epoch alone
    assert path.gap_nats.tolist() == pytest.approx([-4 / 3, -3 / 2])
    assert path.n.tolist() == [3, 2]


def test_what_is_left_at_the_end_is_averaged_over_replicates():
    rows = pair(4, 0, [1, 1], [1, 1], 0.5, 2.0) + pair(4, 1, [1, 1], [1, 1], 2.0, 8.0, (-3.0, -2.0))
    found = traces.last_gaps(epochs(rows))
    assert found.tau.tolist() == pytest.approx([1.0, 4.0])
    assert found.gap_nats.tolist() == pytest.approx([-2.0, -2.0])
    assert found.n.tolist() == [2, 2]


def test_a_trend_has_bins_of_equal_count_in_order_of_tau():
    last = pd.DataFrame({"tau": [8.0, 1.0, 4.0, 2.0], "gap_nats": [-8.0, -1.0, -4.0, -2.0]})
    found = traces.trend(last, bins=5, least=2)
    assert found.tau.tolist() == pytest.approx([np.sqrt(2), np.sqrt(32)])
    assert found.gap_nats.tolist() == pytest.approx([-1.5, -6.0])
    assert traces.trend(last).empty  # fewer than ten


def test_the_relaxed_loss_chooses_the_temperature():
    # One-hot losses 10, 11 and 12; gaps -1, -1 and -5: relaxed 9, 10 and 7.
    rows = [
        row
        for number, (loss, gap) in enumerate([(10, -1), (11, -1), (12, -5)])
        for row in pair(number, 0, [20, loss], [20, 50], gaps=(gap, -40))
    ]
    found = traces.misranking(epochs(rows))
    assert (found.number, found.best, found.n) == (2, 0, 3)
    assert found.lost_nats == pytest.approx(2.0)
    assert found.agreement == pytest.approx(-1 / 3)  # of three pairs one agrees, two do not
    assert traces.misranking(epochs(rows[:4])) is None  # one trial
