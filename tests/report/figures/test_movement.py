"""What is drawn of movements, looked up in the figures themselves."""

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.figures import movement, style

STYLES = style.arm_styles(["pair", "constant"])


@pytest.fixture(autouse=True)
def applied():
    with style.applied():
        yield


def test_arms_without_a_value_say_so():
    values = {"pair": pd.Series([1.0, 2.0, 3.0]), "constant": pd.Series([np.nan, np.nan])}
    quartiles = {"pair": (1.5, 2.0, 2.5), "constant": (np.nan,) * 3}
    measures = [movement.Measure("share (%)", values, quartiles, "none", (0, 100))] * 4
    ax = movement.strips(measures, STYLES, "n").axes[0]
    assert [text.get_text() for text in ax.texts] == ["none"]
    points, bar, stroke = ax.get_lines()
    assert points.get_xdata().tolist() == [1.0, 2.0, 3.0]
    assert list(bar.get_xdata()) == [1.5, 2.5]
    assert list(stroke.get_xdata()) == [2.0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["pair", "constant"]


def test_jitter_is_the_same_each_time():
    values = {"pair": pd.Series(range(20), dtype="float64")}
    measure = movement.Measure("n", values, {"pair": (1.0, 2.0, 3.0)}, "none")
    one, two = (movement.strips([measure] * 2, STYLES, "n").axes[0] for _ in range(2))
    assert one.get_lines()[0].get_ydata().tolist() == two.get_lines()[0].get_ydata().tolist()


def test_shares_of_events_are_stacked_in_one_order():
    shares = pd.DataFrame({"WAITED": [0.5, 0.0], "A_WON": [0.25, 1.0], "TIE": [0.25, 0.0]})
    panel = movement.EventPanel("pair", STYLES["pair"], [0.5, 1.5, 2.5], shares, failed=1.5)
    figure = movement.decisions([panel], "n")
    ax = figure.axes[0]
    tops = [patch.get_data()[0].tolist() for patch in ax.patches]
    assert tops == [[25.0, 100.0], [50.0, 100.0], [100.0, 100.0]]  # won, tied, waited
    assert [text.get_text() for text in ax.texts] == ["failed"]
    assert len(figure.legends[0].get_texts()) == 5
