import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.figures import sensitivity, style
from gsvae_tune.report.figures.sensitivity import Map, grid_of, wrapped

LONG = "an-arm-with-a-name-so-long-that-no-panel-of-three-in-a-row-could-hold-it"
ARMS = [LONG, *(f"arm-{number}" for number in range(13))]


def drawn(figure):
    with style.applied():
        figure.draw_without_rendering()
    return figure


def points(arms, at):
    return pd.DataFrame(
        {
            "arm": arm, "setting": "tau_start", "at": at, "loss_nats": [20.0, 21.0, 22.0, 22.0],
            "random": [True, False, True, False], "failed": [False, False, False, True],
            "beyond": [False, False, True, False],
        }
        for arm in arms
    ).explode(["at", "loss_nats", "random", "failed", "beyond"]).astype(
        {"loss_nats": float, "random": bool, "failed": bool, "beyond": bool}
    )  # fmt: skip


def panels(arms, **more):
    row = {"setting": "tau_start", "label": "tau_start", "low": 0.1, "high": 4.0, "log": True}
    return pd.DataFrame([{"arm": arm} | row | more for arm in arms])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 14])
def test_marginals(count):
    arms = ARMS[:count]
    ends = [0.2, 0.5, 0.1, 1.0]
    ranges = pd.DataFrame([[arm, "tau_start", "random", *ends] for arm in arms], columns=[
        "arm", "setting", "stratum", "near_low", "near_high", "possible_low", "possible_high",
    ])  # fmt: skip
    curves = pd.DataFrame(
        [
            [arm, "tau_start", stratum, 0, at, 20.5, 20.0, 21.0]
            for arm in arms
            for stratum in ("random", "all")
            for at in (0.1, 1.0)
        ],
        columns=[
            "arm",
            "setting",
            "stratum",
            "stretch",
            "at",
            "loss_nats",
            "low_nats",
            "high_nats",
        ],
    )
    with style.applied():
        figure = sensitivity.marginals(
            panels(arms), points(arms, [0.1, 0.5, 1.0, 4.0]), curves, ranges,
            style.arm_styles(ARMS), "n",
        )  # fmt: skip
    axes = drawn(figure).axes
    assert [one.get_title("left") for one in axes[1:]] == arms[1:]
    assert axes[0].get_title("left").replace("\n", "") == LONG
    assert len({one.get_ylim() for one in axes}) == 1
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"failed", "beyond the axis", "the sampler's", "not ruled out"} <= labels


def test_only_what_is_shown_is_explained():
    own = points(["a"], [0.1, 0.5, 1.0, 4.0]).iloc[:1]
    nothing = pd.DataFrame(columns=["arm", "setting", "stratum", "stretch"])
    with style.applied():
        figure = sensitivity.marginals(
            panels(["a"]), own, nothing, nothing, style.arm_styles(["a"]), "n"
        )
    assert [text.get_text() for text in drawn(figure).legends[0].get_texts()] == [
        "trial drawn at random"
    ]


@pytest.mark.parametrize("count", [1, 3, 14])
def test_strips(count):
    arms = ARMS[:count]
    medians = pd.DataFrame(
        [[arm, "tau_start", "all", "hold", 20.5, np.nan, np.nan] for arm in arms],
        columns=["arm", "setting", "stratum", "choice", "median_nats", "low_nats", "high_nats"],
    )
    with style.applied():
        figure = sensitivity.strips(
            panels(arms, choices=("cool", "hold")), points(arms, ["cool", "hold", "hold", "cool"]),
            medians, style.arm_styles(ARMS), "n",
        )  # fmt: skip
    first = drawn(figure).axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["cool", "hold"]


@pytest.mark.parametrize("high_nats", [20.0, 21.0, 25.0])
def test_maps(high_nats):
    edges = np.array([0.1, 0.5, 4.0])
    cells = pd.DataFrame({"column": [0, 1], "row": [1, 1], "n": [2, 1], "median_nats": [20, 25.0]})
    trials = pd.DataFrame(
        {"across": [0.2, 1.0], "up": [1.0, 2.0], "random": [True, False], "failed": [False, True]}
    )
    made = Map(LONG, "tau_min", "tau_max", edges, edges, True, True, (), True, cells, trials)
    with style.applied():
        figure = sensitivity.maps([made, made], high_nats, style.arm_styles(ARMS), "n")
    mesh = drawn(figure).axes[0].collections[-1]
    # row 0: no trials; (0, 0) could hold some and is hatched, (1, 0) lies below the diagonal
    assert np.ma.getmaskarray(mesh.get_array()).tolist() == [[True, True], [False, False]]
    assert sum(one.get_hatch() is not None for one in figure.axes[0].collections) == 1


def test_names_are_broken_into_lines():
    assert "".join(wrapped(LONG, 3).split("\n")) == LONG
    assert max(map(len, wrapped(LONG, 3).split("\n"))) <= 29


def test_places_left_over_stay_empty():
    figure, axes, columns = grid_of(5)
    assert (len(figure.axes), len(axes), columns) == (5, 5, 3)
