import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.figures import robustness, style

ARMS = ["an-arm-with-a-name-so-long-that-it-needs-lines", *(f"arm-{one}" for one in range(13))]


@pytest.mark.parametrize("count", [1, 2, 14])
def test_nearness(count):
    rows = [
        [arm, stratum, within, share, low, high]
        for arm in ARMS[:count]
        for stratum, low, high in [("random", 0.1, 0.9), ("all", np.nan, np.nan)]
        for within, share in [(0.0, 0.25), (0.4, 0.5), (3.0, 0.75)]
    ]
    shares = pd.DataFrame(rows, columns=["arm", "stratum", "within_nats", "share", "low", "high"])
    with style.applied():
        figure = robustness.nearness(shares, 0.5, style.arm_styles(ARMS), "n")
        figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    solid = axes.get_lines()[-1]  # groups come as all, random
    assert solid.get_ydata().tolist() == [0.25, 0.5, 0.75, 0.75]
    assert len(axes.collections) == 1  # only random trials have a band


@pytest.mark.parametrize("count", [1, 3, 14])
def test_spreads(count):
    arms = ARMS[:count]
    trials = pd.DataFrame(
        [[arm, 20.0 + place, 0.1, place > 10, False] for place, arm in enumerate(arms)],
        columns=["arm", "mean_nats", "sd_nats", "mean_beyond", "sd_beyond"],
    )
    found = pd.DataFrame(
        [[arm, 0.5, 0.2, 0.4, 0.1] for arm in arms],
        columns=["arm", "between_nats", "within_nats", "robust_between_nats", "robust_within_nats"],
    )
    with style.applied():
        figure = robustness.spreads(trials, found, style.arm_styles(ARMS), "n")
        figure.draw_without_rendering()
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    assert sorted(widths) == [0.2] * count + [0.5] * count
    labels = {text.get_text().replace("\n", "") for text in figure.legends[0].get_texts()}
    assert set(arms) <= labels
    assert ("beyond the axes" in labels) == (count > 10)
