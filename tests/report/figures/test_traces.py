"""What is drawn of traces, looked up in the figures themselves."""

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.figures import style, traces

STYLES = style.arm_styles([f"arm-with-a-long-name-{place}" for place in range(14)])
EPOCHS = [1, 2, 3, 4, 5]


def tau_panel(arm, lower=0.1, upper=np.nan, stop=False):
    rows = [
        {"replicate": replicate, "branch": branch, "epoch": epoch, "tau": start * epoch}
        for branch, start in (("a", 0.2), ("b", 1.0 + 0.1))
        for replicate in range(2)
        for epoch in EPOCHS
    ]
    paths = pd.DataFrame(rows)
    means = paths[paths.replicate == 0]
    stops = paths[(paths.epoch == 3) & stop]
    return traces.TauPanel(arm, STYLES[arm], paths, means, stops, lower, upper)


def inside(figure):
    """Whether the legend lies within the figure."""
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    return box.x0 >= 0 and box.x1 <= figure.bbox.width


@pytest.fixture(autouse=True)
def applied():
    with style.applied():
        yield


@pytest.mark.parametrize("count", [1, 2, 4, 5, 14])
def test_every_trial_has_a_panel_and_the_same_axes(count):
    figure = traces.taus([tau_panel(arm) for arm in list(STYLES)[:count]], "n")
    assert len(figure.axes) == count
    assert {ax.get_yscale() for ax in figure.axes} == {"log"}
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(STYLES)[:count]
    assert inside(figure)


def test_members_differ_in_line_and_equal_replicates_are_drawn_once():
    ax = traces.taus([tau_panel("arm-with-a-long-name-0")], "n").axes[0]
    thick = [line for line in ax.get_lines() if line.get_linewidth() == 2.0]
    assert [line.get_linestyle() for line in thick] == ["-", "--"]
    assert thick[0].get_ydata() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert len([line for line in ax.get_lines() if line.get_linewidth() == 0.6]) == 2


@pytest.mark.parametrize(("ends", "shades"), [((np.nan, np.nan), 0), ((0.1, np.nan), 1),
                                              ((0.1, 9.0), 2)])  # fmt: skip
def test_only_ends_that_exist_are_shaded(ends, shades):
    ax = traces.taus([tau_panel("arm-with-a-long-name-0", *ends)], "n").axes[0]
    assert len(ax.patches) == shades


def test_replicates_that_ended_are_in_the_legend_where_there_are_any():
    def names(stop):
        figure = traces.taus([tau_panel("arm-with-a-long-name-0", stop=stop)], "n")
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert "ended early" in names(True)
    assert "ended early" not in names(False)


def loss_panel(arm):
    bands = pd.DataFrame(
        [
            {"branch": branch, "epoch": epoch, "mean": 30 / epoch, "low": 29 / epoch,
             "high": 31 / epoch}
            for branch in "ab"
            for epoch in EPOCHS
        ]
    )  # fmt: skip
    leads = pd.DataFrame({"epoch": EPOCHS, "a": 0.5, "b": 0.3, "equal": 0.2})
    return traces.LossPanel(arm, STYLES[arm], bands, leads)


@pytest.mark.parametrize("count", [1, 5])
def test_losses_have_a_strip_whose_shares_fill_it(count):
    figure = traces.losses([loss_panel(arm) for arm in list(STYLES)[:count]], 20.0, "n")
    assert len(figure.axes) == 2 * count
    strips = [ax for ax in figure.axes if ax.get_ylim() == (0, 1)]
    assert len(strips) == count
    a, equal, b = strips[0].patches
    assert a.get_data()[0] == pytest.approx([0.5] * 5)
    assert equal.get_data()[0] == pytest.approx([0.7] * 5)
    assert b.get_data()[0] == pytest.approx([1.0] * 5)
    assert inside(figure)


@pytest.mark.parametrize("count", [1, 14])
def test_fans_stand_side_by_side(count):
    fan = pd.DataFrame({"epoch": EPOCHS, 0.1: 0.1, 0.25: 0.2, 0.5: 0.5, 0.75: 1.0, 0.9: 2.0,
                        "median_a": 0.4, "median_b": np.nan})  # fmt: skip
    pairs = [
        tuple(
            traces.FanPanel(arm, f"{which} 3 of 9", STYLES[arm], fan) for which in ("best", "worst")
        )
        for arm in list(STYLES)[:count]
    ]
    figure = traces.fans(pairs, "n")
    assert len(figure.axes) == 2 * count
    assert figure.axes[0].get_ylim() == pytest.approx((0.1 / 1.2, 2.0 * 1.2))
    assert inside(figure)


def test_many_points_are_drawn_as_pixels():
    last = pd.DataFrame({"tau": np.geomspace(0.1, 5.0, 3_000), "gap_nats": -1.0})
    path = pd.DataFrame({"epoch": EPOCHS, "gap_nats": -0.5})
    panels = [
        traces.GapPanel(arm, STYLES[arm], path, last.iloc[: 3_000 if place else 10])
        for place, arm in enumerate(STYLES)
    ]
    figure = traces.gaps(panels, pd.DataFrame(columns=["tau", "gap_nats"]), "n")
    few, many = figure.axes[1].get_lines()[:2]
    assert not few.get_rasterized()
    assert many.get_rasterized()
    assert inside(figure)
