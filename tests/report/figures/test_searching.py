import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from gsvae_tune.report.estimates import timeline as estimates
from gsvae_tune.report.figures import footprint, searching, style, timeline
from gsvae_tune.search.space import SearchedSetting

ARMS = [f"arm-{place}" for place in range(14)]


def png(draw, *inputs):
    with style.applied():
        figure = draw(*inputs)
        assert style.encoded(figure, "png").startswith(b"\x89PNG")
    return figure


def steps(arms):
    rows = [
        (arm, ended, 2.0 * ended, 3.0 * ended, 10.0 / ended + place, True)
        for place, arm in enumerate(arms)
        for ended in (1, 4, 9)
    ]
    columns = ["arm", "ended", "elapsed_s", "spent_s", "best_nats", "improved"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize("count", [1, 14])
def test_one_arm_and_fourteen(count):
    arms = ARMS[:count]
    styles, told = style.arm_styles(arms), steps(arms)
    figure = png(searching.anytime, told, told.iloc[:0], {"spent_s": 20.0}, styles, "note")
    assert len(figure.axes) == 3
    for axes in figure.axes:  # the arms' last values are all in sight
        low, high = axes.get_ylim()
        assert low < told.groupby("arm").best_nats.min().min()
        assert told.groupby("arm").best_nats.min().max() <= high


def test_without_times_a_panel_less():
    told = steps(["a"]).assign(elapsed_s=np.nan)
    figure = png(searching.anytime, told, told.iloc[:1], {}, style.arm_styles(["a"]), "note")
    assert len(figure.axes) == 2


def curves(arms):
    frame = pd.DataFrame(
        {"arm": np.repeat(arms, 3), "trials": [1, 2, 3] * len(arms), "with_nats": 2.0,
         "without_nats": 1.9, "low_nats": 1.8, "high_nats": 2.2, "epoch": [1, 2, 3] * len(arms),
         "correlation": 0.5, "low": 0.1, "high": 0.7, "regret_nats": 0.0}
    )  # fmt: skip
    return frame.assign(device_s=frame.trials * 7.0)


def test_bands_only_while_arms_can_be_told_apart():
    for count in (searching.BANDS, searching.BANDS + 1):
        arms = ARMS[:count]
        figure = png(searching.expected, curves(arms), style.arm_styles(arms), "note")
        assert len(figure.axes[0].collections) == (count if count <= searching.BANDS else 0)
        figure = png(searching.fidelity, curves(arms), style.arm_styles(arms), "note")
        assert len(figure.axes[0].collections) == (count if count <= searching.BANDS else 0)


def test_unknown_device_time_leaves_its_panel_out():
    told = curves(["a"]).assign(device_s=np.nan)
    assert len(png(searching.expected, told, style.arm_styles(["a"]), "note").axes) == 1


def test_a_confirmation_that_failed_is_a_cross_beside_those_that_did_not():
    confirmed = pd.DataFrame(
        {"arm": "a", "number": [0, 1], "selected_nats": [1.0, 1.1], "again_nats": [1.2, np.nan],
         "low_nats": [1.1, np.nan], "high_nats": [1.3, np.nan], "seeds": 3, "failed": [1, 3],
             "rank": [1, 2]}
    )  # fmt: skip
    told = pd.DataFrame(
        {"arm": ["a"], "configurations": 2, "failed": 1, "tau_b": np.nan, "curse_nats": 0.2}
    )
    figure = png(searching.selection, confirmed, told, style.arm_styles(["a"]), "note")
    assert [line.get_marker() for line in figure.axes[0].lines].count("X") == 1


@pytest.mark.parametrize(
    ("seconds", "unit"), [(5, "seconds"), (300, "seconds"), (301, "minutes"), (20_000, "hours")]
)
def test_units_of_time(seconds, unit):
    assert timeline.time_unit(seconds)[1] == unit


def test_a_legend_makes_the_figure_higher_and_not_its_panels_smaller():
    def heights(labels):
        with style.applied():
            figure, _ = style.panels(1, 1, height=3.0)
            timeline.legend_above(figure, [Line2D([], [], label=label) for label in labels])
        return figure.get_figheight()

    assert heights(["a", "b"]) == 3.0
    assert heights(["x" * 60] * 5) == pytest.approx(3.0 + 4 * 0.18)


def test_long_titles_shrink_and_then_are_cut():
    _, axes = style.panels(1, 4, width=style.WIDE)
    for panel, name in zip(axes.flat, ["pair", "p" * 20, "p" * 60, "p" * 200], strict=True):
        searching.title(panel, name, style.WIDE / 4)
    titles = [panel.title for panel in axes.flat]
    assert [one.get_text().endswith("…") for one in titles] == [False, False, True, True]
    assert titles[0].get_fontsize() > titles[1].get_fontsize() > titles[2].get_fontsize()


def trials(count, arms):
    rng = np.random.default_rng(0)
    ended = 10.0 * rng.random(count) + 5.0
    states = ["complete"] * (count - 1) + ["failed"]
    return estimates.intervals(
        pd.DataFrame(
            {"arm": [arms[i % len(arms)] for i in range(count)], "number": range(count),
             "phase": ["search", "confirm"] * (count // 2), "state": states, "wall_s": 1.0,
             "ended_s": ended}
        )
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 40, 700])
def test_a_bar_for_each_trial(count):
    arms = ARMS[:2]
    timed = trials(count, arms)
    figure = png(timeline.timeline, timed, style.arm_styles(arms), "note")
    bars = figure.axes[0].collections
    assert sum(len(one.get_paths()) for one in bars) == count


def test_many_at_once_are_counted():
    timed = trials(40, ARMS)
    at_once = estimates.running_at_once(timed, ARMS, bins=20)
    figure = png(timeline.occupancy, at_once, 12, style.arm_styles(ARMS), "note")
    assert "12: the most at once" in [text.get_text() for text in figure.legends[0].get_texts()]


SETTINGS = [
    SearchedSetting("rate", None, 0.1, 1.0, True, 0.1, (), ""),
    SearchedSetting("rule", ("cool", "hold"), None, None, False, "cool", (), ""),
    SearchedSetting("factor", None, 0.0, 1.0, False, 0.5, ("rule",), ""),
    SearchedSetting("only", (True,), None, None, False, True, (), ""),
]


def test_lines_break_where_a_setting_is_off():
    unit = pd.DataFrame(
        {"rate": [0.0, 1.0], "rule": [0.0, 1.0], "factor": [0.5, np.nan], "only": [0.5, 0.5]}
    )
    one = footprint.Parallel("a", SETTINGS, unit, np.array([1.0, 2.0]), np.array([], dtype=int))
    figure = png(footprint.parallels, [one], (1.0, 2.0), "note")
    lines = figure.axes[0].collections[0].get_segments()
    assert len(lines) == 3 + 1  # all three of the first trial; of the second the one above the gap


@pytest.mark.parametrize("colours", [(1.0, 3.0), (2.0, 2.0)])
def test_a_map_marks_the_best_the_confirmed_and_the_failed(colours):
    rng = np.random.default_rng(0)
    one = footprint.Footprint(
        "a", rng.random((6, 2)), np.array([1.0, 2, 3, 2, 1.5, np.nan]),
        np.array([True, True, False, False, False, True]), np.array([True] + [False] * 5),
    )  # fmt: skip
    figure = png(footprint.footprints, [one], colours, "note")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["random trial", "sampler's trial", "failed", "confirmed", "best"]
