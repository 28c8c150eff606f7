"""Figures of importance: each number where it belongs, grey where nothing is to be read."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.importance import (
    ablation_figure,
    importance_figure,
    tunability_figure,
)

NAN = float("nan")
FRAME = pd.DataFrame(
    {
        "name": ["tau_start", "factor_a", "same", "rare"],
        "conditional": [False, True, False, True], "varied": [True, True, False, True],
        "trials": [40, 20, 40, 3],
        "ped": [0.7, 0.3, NAN, NAN], "ped_low": [0.5, 0.1, NAN, NAN], "ped_high": [0.8, 0.4, NAN, NAN],
        "fanova": [0.6, NAN, NAN, NAN], "fanova_low": [0.5, NAN, NAN, NAN],
        "fanova_high": [0.9, NAN, NAN, NAN],
    }
)  # fmt: skip
PATH = pd.DataFrame(
    {
        "label": ["default", "tau_start = 0.4"], "loss_nats": [21.0, 20.5],
        "low_nats": [20.8, 20.3], "high_nats": [21.5, 20.9],
    }
)  # fmt: skip
COSTS = pd.DataFrame(
    {
        "label": ["tau_start = 1", "same = 3"], "conditional": [True, False],
        "varied": [True, False], "lost_nats": [0.2, NAN], "low_nats": [0.1, NAN],
        "high_nats": [0.4, NAN],
    }
)  # fmt: skip


def texts(axes):
    return [one.get_text() for one in axes.texts]


def points(axes, place=-1):
    line = [one for one in axes.lines if one.get_linestyle() == "None"][place]
    return np.column_stack([np.asarray(one, float) for one in line.get_data()]), line


def drawn(figure):
    with style.applied():
        return len(style.encoded(figure, "png")) > 5_000


def test_importance_is_drawn_beside_its_setting():
    arms = style.arm_styles(["pair", "constant"])
    with style.applied():
        figure = importance_figure(
            {"pair": FRAME, "constant": FRAME}, {"pair": 0.62, "constant": 0.1}, arms, "n = 40"
        )
    left, right, below, _ = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "tau_start", "factor_a †", "same", "rare †",
    ]  # fmt: skip
    assert points(left)[0][:2].tolist() == [[0.7, 0], [0.3, 1]]
    assert points(right)[0][0].tolist() == [0.6, 0]
    assert texts(left) == ["did not vary", "only 3 trials have it"]
    assert texts(right) == ["conditional: not defined", "did not vary", "conditional: not defined"]
    assert left.yaxis_inverted()
    assert left.get_title(loc="left") == "pair: surrogate R² = 0.62"
    assert below.get_title(loc="left") == "constant: surrogate R² = 0.10: do not read"
    assert to_hex(points(left)[1].get_color()) == arms["pair"].color.lower()
    assert to_hex(points(below)[1].get_color()) == style.GREY
    assert figure._supxlabel.get_text() == "n = 40"
    assert drawn(figure)


def test_the_path_goes_down_to_the_trial_that_was_measured():
    arms = style.arm_styles(["pair"])
    with style.applied():
        figure = ablation_figure({"pair": PATH}, {"pair": 20.4}, {"pair": 0.5}, arms, "")
    (axes,) = figure.axes
    assert points(axes, 0)[0].tolist() == [[21.0, 0], [20.5, 1]]
    assert points(axes, 1)[0].tolist() == [[20.4, 1]]
    assert "nats" in axes.get_xlabel()
    assert drawn(figure)


def test_costs_start_at_zero():
    arms = style.arm_styles(["pair", "constant"])
    nothing = COSTS.assign(lost_nats=0.0, low_nats=0.0, high_nats=0.0)
    with style.applied():
        figure = tunability_figure(
            {"pair": COSTS, "constant": nothing}, {"pair": 0.5, "constant": NAN}, arms, ""
        )
    first, second = figure.axes
    assert first.get_yticklabels()[0].get_text() == "tau_start = 1 †"
    assert texts(first) == ["did not vary"]
    low, high = first.get_xlim()
    assert low < 0
    assert high > 0.4
    assert second.get_title(loc="left") == "constant: surrogate R² = unknown: do not read"
    assert drawn(figure)


@pytest.mark.parametrize("count", [1, 14])
def test_any_number_of_arms(count):
    names = [f"a-rather-long-name-of-an-arm-{place}" for place in range(count)]
    arms = style.arm_styles(names)
    with style.applied():
        figure = ablation_figure(
            dict.fromkeys(names, PATH), dict.fromkeys(names, 20.4), dict.fromkeys(names, 0.4),
            arms, "",
        )  # fmt: skip
    assert len(figure.axes) == count
    assert figure.get_figwidth() == style.WIDE
    assert drawn(figure)
