"""Figures of the comparison: nothing is drawn where it is not."""

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.figures import comparison, style

METRIC = "test negative ELBO"


def summary(**given):
    """One row a comparison; each keyword is a column."""
    usual = {
        "arm": ["pair"], "baseline": ["base"], "arm_trial": [1.0], "baseline_trial": [2.0],
        "effect_nats": [-0.2], "ci_low": [-0.3], "ci_high": [-0.1], "wide_low": [-0.4],
        "wide_high": [0.1], "p_holm": [0.01], "verdict": ["inconclusive"],
    }  # fmt: skip
    return pd.DataFrame(usual | given)


def pairs(differences=(-0.3, -0.2, -0.1), failed=(), arm="pair"):
    return pd.DataFrame(
        {"arm": arm, "baseline": "base", "difference_nats": differences,
         "failed": [place in failed for place in range(len(differences))]}
    )  # fmt: skip


def drawn(summary, pairs):
    with style.applied():
        figure = comparison.paired_differences(
            summary, pairs, style.arm_styles(["pair", "far", "base"]), matters_nats=0.1,
            metric=METRIC, wide="95 %, all",
        )  # fmt: skip
        style.encoded(figure, "png")
    return figure


def markers(figure):
    """What is drawn as single points: {marker: x values}."""
    found = {}
    for line in figure.axes[0].lines:
        if line.get_marker() not in ("None", None, ""):
            found.setdefault(line.get_marker(), []).extend(np.atleast_1d(line.get_xdata()).tolist())
    return found


def test_an_interval_beyond_both_edges_has_an_arrow_at_both():
    figure = drawn(summary(wide_low=[-21.9], wide_high=[21.5]), pairs())
    low, high = figure.axes[0].get_xlim()
    assert -1.0 < low < -0.3
    assert 0.1 < high < 1.0
    found = markers(figure)
    assert found["<"] == [low]
    assert found[">"] == [high]
    text = " ".join(text.get_text() for text in figure.axes[1].texts)
    assert "21.900 to +21.500" in text  # the numbers stand beside it


def test_a_comparison_far_off_points_one_way_and_shrinks_nothing():
    far = summary(arm=["far"], effect_nats=[30.0], ci_low=[29.0], ci_high=[31.0], wide_low=[28.0],
                  wide_high=[32.0])  # fmt: skip
    figure = drawn(
        pd.concat([summary(), far]), pd.concat([pairs(), pairs([29.0, 31.0], arm="far")])
    )
    low, high = figure.axes[0].get_xlim()
    assert -1.0 < low < high < 1.0
    found = markers(figure)
    assert "<" not in found
    assert set(found[">"]) == {high}
    assert sorted(found["o"]) == [-0.3, -0.2, -0.1]


def test_a_failed_seed_is_a_cross_at_the_edge():
    figure = drawn(summary(effect_nats=[11.0], ci_high=[30.0]), pairs([-0.2, 35.0], failed=[1]))
    high = figure.axes[0].get_xlim()[1]
    assert high < 1.0
    assert markers(figure)["X"] == [high]
    assert "failed seed" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("differences", [[0.0] * 10, [], [5.0]])
def test_equal_no_and_single_differences_draw(differences):
    nothing = [np.nan]
    figure = drawn(
        summary(effect_nats=nothing, ci_low=nothing, ci_high=nothing, wide_low=nothing,
                wide_high=nothing, p_holm=nothing, arm_trial=nothing),
        pairs(differences),
    )  # fmt: skip
    told = [text.get_text() for text in figure.axes[1].texts]
    assert told == ["inconclusive", "nothing to compare"]
    assert "pair \N{MINUS SIGN} base #2" in [text.get_text() for text in figure.axes[0].texts]


def losses(**arms):
    found = [
        {"arm": arm, "replicate": place, "loss_nats": loss, "failed": not np.isfinite(loss)}
        for arm, values in arms.items()
        for place, loss in enumerate(values)
    ]
    table = pd.DataFrame(found)
    sound = table[~table.failed].groupby("arm", sort=False).loss_nats
    means = pd.DataFrame(
        [
            {"arm": arm, "n": len(own[~own.failed]), "failed": int(own.failed.sum()),
             "mean_nats": own.loss_nats[~own.failed].mean()}
            for arm, own in table.groupby("arm", sort=False)
        ]
    )  # fmt: skip
    means["low_nats"] = means.arm.map(sound.min())
    means["high_nats"] = means.arm.map(sound.max())
    return table, means


def drawn_losses(table, means):
    arms = list(means.arm)
    with style.applied():
        figure = comparison.finalist_losses(
            table, means, style.arm_styles(arms), names={arm: arm for arm in arms}, metric=METRIC
        )
        style.encoded(figure, "png")
    return figure


def test_seeds_are_joined_and_failures_stand_apart():
    figure = drawn_losses(*losses(pair=[1.0, 2.0, np.nan], base=[1.5, 2.5, 2.0]))
    axes = figure.axes[0]
    joined = [path.vertices for path in axes.collections[0].get_paths()]
    np.testing.assert_array_equal(joined[1], [[2.0, 1.0], [2.5, 0.0]])
    assert np.isnan(joined[2][0, 0])
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels[-1] == "failed"
    assert max(float(label) for label in labels[:-1]) <= 2.6  # no loss is read off the strip
    assert "1.500\n1 of 3 failed" in [text.get_text() for text in axes.texts]


def test_an_arm_far_worse_stands_at_the_edge():
    figure = drawn_losses(*losses(pair=[1.0, 1.1], far=[50.0, 51.0], base=[1.05, 1.2]))
    axes = figure.axes[0]
    edge = axes.get_xlim()[1]
    assert edge < 2.0
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == ">"] == [edge]
    assert "50.500" in [text.get_text() for text in axes.texts]
    joined = [path.vertices[:, 0].tolist() for path in axes.collections[0].get_paths()]
    assert joined == [[1.0, 1.05], [1.1, 1.2]]


def test_equal_losses_draw():
    figure = drawn_losses(*losses(pair=[3.0, 3.0], base=[3.0, 3.0]))
    assert figure.axes[0].get_xlim() == pytest.approx((2.99, 3.01))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (2.0, "2"), (56.587, "56.6"), (3334.0, "3,334"), (9999.4, "9,999"),
     (182_400.0, "182k"), (9_120_000.0, "9.12M"), (2.5e9, "2.5G")],
)  # fmt: skip
def test_amounts_are_short(value, text):
    assert comparison._short(value) == text


def test_only_what_is_unequal_is_called_so():
    shares = pd.DataFrame(
        [
            {"arm": arm, "measure": measure, "value": value, "low": 10.0, "high": 10.0,
             "equal": value == 10.0}
            for arm, values in {"base": [10.0, 10.0], "pair": [10.0, 12.0]}.items()
            for measure, value in zip(["steps", "samples"], values, strict=True)
        ]
    )  # fmt: skip
    with style.applied():
        figure = comparison.compute(
            shares, style.arm_styles(["pair", "base"]), names={"pair": "pair", "base": "base"},
            headings={"steps": "steps", "samples": "samples"},
        )  # fmt: skip
        style.encoded(figure, "png")
    told = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert told == [["10", "10"], ["10", "12", "UNEQUAL"]]


def test_fourteen_long_names_leave_room_for_the_curves():
    names = {
        f"arm-{place:02d}": f"a-name-of-thirty-two-characters {place:02d}" for place in range(14)
    }
    epochs = np.arange(1, 11)
    curves = pd.concat(
        pd.DataFrame(
            {"arm": arm, "epoch": epochs, "wall_s": epochs * 0.5, "mean_nats": 20 + 9 / epochs,
             "low_nats": 19.9 + 9 / epochs, "high_nats": np.nan, "lost": 0}
        )
        for arm in names
    )  # fmt: skip
    with style.applied():
        figure = comparison.learning_curves(
            curves, style.arm_styles(list(names)), names=names, bands=False, clock="seconds"
        )
        style.encoded(figure, "png")
    assert all(axes.get_position().height * figure.get_figheight() > 2.0 for axes in figure.axes)
    assert figure.axes[0].get_ylim()[1] < 29.0  # the first epoch lies above
    assert figure.axes[0].get_ylim()[0] < 20.9
