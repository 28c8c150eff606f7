"""The invariants of the pair's controller, for every coupling and every pair of rules."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsvae_tune.tau import COUPLINGS, RULES, Event, OpenLoopController, PairController
from gsvae_tune.tau.schedules import Constant

# Losses on a dyadic grid: adding or doubling them is exact, so invariance can be asked bit for bit.
grid_loss = st.integers(0, 4000).map(lambda n: n / 64)
grid_pair = st.tuples(grid_loss, grid_loss)
factor = st.floats(0.3, 1.0)


@st.composite
def setups(draw, couplings=tuple(COUPLINGS)):
    low = draw(st.floats(0.01, 1.0))
    high = low * draw(st.floats(1.5, 100.0))
    return {
        "tau_min": low,
        "tau_max": high,
        "tau_start": low + (high - low) * draw(st.floats(0.0, 1.0)) * 0.999,
        "rule_a": draw(st.sampled_from(list(RULES))),
        "rule_b": draw(st.sampled_from(list(RULES))),
        "factor_a": draw(factor),
        "factor_b": draw(factor),
        "step_a": draw(st.floats(0.01, 3.0)),
        "step_b": draw(st.floats(0.01, 3.0)),
        "rate_a": draw(st.floats(1e-5, 1.0)),
        "rate_b": draw(st.floats(1e-5, 1.0)),
        "coupling": draw(st.sampled_from(couplings)),
        "period": draw(st.integers(1, 3)),
        "smoothing": draw(st.sampled_from([0.0, 0.5, 0.75])),
        "collapse_guard": draw(st.booleans()),
        "pull": draw(st.floats(0.0, 1.0)),
        "gain": draw(st.floats(0.001, 10.0)),
        "horizon": draw(st.integers(1, 12)),
    }


histories = st.lists(st.lists(grid_pair, min_size=2, max_size=2), min_size=1, max_size=10)


def play(setup, losses, kl=None):
    controller = PairController(**setup, replicates=len(losses[0]))
    return controller, [controller.update(epoch, kl) for epoch in losses]


@given(setups(), histories, st.sampled_from([None, 0.0, 5.0]))
def test_tau_stays_inside_the_range(setup, losses, kl):
    kl = None if kl is None else np.full((2, 2), kl)
    _, taus = play(setup, losses, kl)
    assert all((tau >= setup["tau_min"]).all() and (tau <= setup["tau_max"]).all() for tau in taus)


@given(setups(), histories)
def test_equal_inputs_give_equal_outputs(setup, losses):
    one, two = play(setup, losses), play(setup, losses)
    assert np.array_equal(one[1], two[1])
    assert one[0].trace == two[0].trace


@given(setups(), histories)
def test_swapping_branches_and_rules_swaps_the_answer(setup, losses):
    mirrored = {
        key.removesuffix("_a") + "_b" if key.endswith("_a")
        else key.removesuffix("_b") + "_a" if key.endswith("_b")
        else key: value
        for key, value in setup.items()
    }  # fmt: skip
    controller, taus = play(setup, losses)
    other, swapped = play(mirrored, np.array(losses)[:, :, ::-1].tolist())
    # Powers are not symmetric to the last bit in loser-follows; everything else is.
    np.testing.assert_allclose(np.array(taus)[:, :, ::-1], swapped, rtol=1e-12)
    copied = controller.copy_from
    assert other.copy_from.tolist() == np.where(copied >= 0, 1 - copied, -1).tolist()


@given(setups(), histories)
def test_shift_invariance_where_the_coupling_claims_it(setup, losses):
    if COUPLINGS[setup["coupling"]].shift_invariant:
        shifted = (np.array(losses) + 32.0).tolist()
        assert np.array_equal(play(setup, losses)[1], play(setup, shifted)[1])


@given(setups(), histories)
def test_scale_invariance_where_the_coupling_claims_it(setup, losses):
    if COUPLINGS[setup["coupling"]].scale_invariant:
        scaled = (np.array(losses) * 4.0).tolist()
        assert np.array_equal(play(setup, losses)[1], play(setup, scaled)[1])


def test_the_claim_not_made_would_be_false():
    losses = [[[1.0, 2.0]], [[1.0, 1.1]]]
    setup = {"coupling": "finite-difference", "gain": 0.5}
    scaled = (np.array(losses) * 4.0).tolist()
    assert not np.array_equal(play(setup, losses)[1], play(setup, scaled)[1])


@given(setups(), histories, st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 1))
def test_a_non_finite_loss_ends_its_replicate_alone(setup, losses, bad, branch):
    alone = PairController(**setup, replicates=1)
    both = PairController(**setup, replicates=2)
    first = both.tau[0]
    poisoned = np.array(losses[0], dtype=float)
    poisoned[0, branch] = bad
    both.update(poisoned)
    alone.update(poisoned[1:])
    for epoch in losses[1:]:
        both.update(epoch)
        alone.update(epoch[1:])
    assert np.isfinite(both.tau).all()
    assert np.array_equal(both.tau[0], first)
    assert np.array_equal(both.tau[1], alone.tau[0])
    assert both.ended[1] is None
    assert str(both.ended[0]) == (
        f"diverged: branch {'ab'[branch]} had a non-finite loss after epoch 1"
    )
    assert both.copy_from[0] == -1
    assert both.trace[0].event is Event.ENDED


@given(setups(), histories, st.integers(0, 9))
def test_a_restored_controller_goes_on_as_if_never_stopped(setup, losses, cut):
    cut = min(cut, len(losses))
    whole, taus = play(setup, losses)
    first = PairController(**setup, replicates=2)
    for epoch in losses[:cut]:
        first.update(epoch)
    second = PairController(**setup, replicates=2)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for epoch in losses[cut:]:
        second.update(epoch)
    assert np.array_equal(second.tau, taus[-1])
    assert second.trace == whole.trace
    assert second.copy_from.tolist() == whole.copy_from.tolist()


@given(setups(), histories)
def test_replicates_do_not_touch_each_other(setup, losses):
    _, together = play(setup, losses)
    _, alone = play(setup, [epoch[1:] for epoch in losses])
    assert np.array_equal(np.array(together)[:, 1:], alone)


@given(setups(), histories)
def test_temperatures_move_only_at_decisions(setup, losses):
    controller, taus = play(setup, losses)
    before = np.full((2, 2), setup["tau_start"])
    for epoch, tau in enumerate(taus, start=1):
        if epoch % setup["period"]:
            assert np.array_equal(tau, before)
        before = tau
    waited = {row.epoch for row in controller.trace if row.event is Event.WAITED}
    assert waited == {e for e in range(1, len(losses) + 1) if e % setup["period"]}


@settings(max_examples=20)
@given(setups(tuple(c for c in COUPLINGS if c != "independent")), grid_loss)
def test_equal_losses_are_a_tie_and_each_branch_goes_by_its_own_rule(setup, loss):
    setup |= {"collapse_guard": False, "period": 1}
    _, taus = play(setup, [[(loss, loss)]])
    _, own = play(setup | {"coupling": "independent"}, [[(loss, loss)]])
    assert np.array_equal(taus, own)


# What each coupling does, worked by hand; rules cool and warm by one half.

HALF = {"factor_a": 0.5, "factor_b": 0.5, "tau_min": 0.01, "tau_max": 100.0}


def decide(coupling, *epochs, **more):
    controller = PairController(coupling=coupling, **HALF, **more)
    for losses in epochs:
        controller.update([losses])
    return controller


def test_independent_moves_by_rule_alone():
    assert decide("independent", (1, 2), (2, 1)).tau.tolist() == [[0.25, 4.0]]


def test_follow_winner_restarts_both_from_the_winner():
    # after a tie at 1.0: 0.5 and 2.0; then b wins with 2.0: 1.0 and 4.0
    assert decide("follow-winner", (1, 1), (2, 1)).tau.tolist() == [[1.0, 4.0]]
    assert decide("follow-winner", (1, 1), (1, 2)).tau.tolist() == [[0.25, 1.0]]


def test_loser_follows_is_pulled_in_log_tau():
    # moved to 0.25 and 4.0; a wins; halfway from 4.0 to 0.25 in the logarithm is 1.0
    taus = decide("loser-follows", (1, 1), (1, 2), pull=0.5).tau
    np.testing.assert_allclose(taus, [[0.25, 1.0]])


def test_loser_follows_the_winner_and_not_a_temperature_outside_the_range():
    # the winner steps down to the floor 0.05; halfway in log tau from 0.45 to 0.05 is 0.15
    controller = PairController(
        tau_start=0.45, rule_a="step-down", rule_b="hold", step_a=0.5, coupling="loser-follows"
    )
    controller.update([[1.0, 2.0]])
    np.testing.assert_allclose(controller.tau, [[0.05, 0.15]])


def test_a_state_is_strict_json():
    controller = PairController(replicates=2)
    controller.update([[1.0, float("nan")], [float("-inf"), 1.0]])
    state = json.loads(json.dumps(controller.state_dict(), allow_nan=False))
    other = PairController(replicates=2)
    other.load_state_dict(state)
    np.testing.assert_equal(
        [row[:-1] for row in other.trace], [row[:-1] for row in controller.trace]
    )


def test_swap_rules_when_the_lead_changes_hands():
    controller = decide("swap-rules", (1, 2))
    assert controller.tau.tolist() == [[0.5, 2.0]]  # first leader: nothing to swap
    controller.update([(1, 2)])
    assert controller.tau.tolist() == [[0.25, 4.0]]  # same leader
    controller.update([(2, 1)])
    assert controller.tau.tolist() == [[0.5, 2.0]]  # overtaken: a warms, b cools


def test_finite_difference_walks_downhill():
    # 0.5 and 2.0: slope (3 - 1) / log 4; centre 1.0 moves down, then the rules bracket it
    controller = decide("finite-difference", (1, 1), (1, 3), gain=0.1)
    centre = np.exp(-0.1 * 2 / np.log(4))
    np.testing.assert_allclose(controller.tau, [[0.5 * centre, 2.0 * centre]])
    limited = decide("finite-difference", (1, 1), (1, 3), gain=1e6)
    np.testing.assert_allclose(limited.tau, [[0.25, 1.0]])  # centre halves at most


def test_tournament_copies_the_winner():
    controller = decide("tournament", (1, 1))
    assert controller.copy_from.tolist() == [-1]  # a tie copies nobody
    controller.update([(2, 1)])
    assert controller.copy_from.tolist() == [1]
    assert controller.tau.tolist() == [[1.0, 4.0]]
    controller.update([(1, 1)])
    assert controller.copy_from.tolist() == [-1]


def test_only_the_tournament_copies():
    for coupling in COUPLINGS:
        controller = decide(coupling, (1, 2))
        assert (controller.copy_from[0] >= 0) == (coupling == "tournament")


def test_the_collapse_guard_cools_where_there_is_no_signal():
    warm = {"rule_a": "warm", "rule_b": "warm"}
    guarded = PairController(**HALF, **warm, tau_start=4.0, guard_factor=0.5)
    guarded.update([[30.0, 30.1]], kl=[[0.01, 0.02]])
    assert guarded.tau.tolist() == [[2.0, 2.0]]
    assert guarded.trace[-1].event is Event.COLLAPSED
    one_alive = PairController(**HALF, **warm, tau_start=4.0)
    one_alive.update([[30.0, 25.0]], kl=[[0.01, 3.0]])
    assert one_alive.trace[-1].event is Event.B_WON
    off = PairController(**HALF, **warm, tau_start=4.0, collapse_guard=False)
    off.update([[30.0, 30.1]], kl=[[0.01, 0.02]])
    assert off.tau.tolist() == [[8.0, 8.0]]


def test_equal_losses_at_different_temperatures_are_a_collapse():
    controller = PairController(**HALF, guard_factor=0.5)
    controller.update([[5.0, 5.0]])  # same temperature: a tie, not a collapse
    assert controller.trace[-1].event is Event.TIE
    controller.update([[5.0, 5.0]])  # 0.5 and 2.0 and still equal
    assert controller.trace[-1].event is Event.COLLAPSED
    assert controller.tau.tolist() == [[0.25, 1.0]]


def test_margin_makes_ties():
    close = decide("follow-winner", (1, 1), (1.0, 1.25), margin=0.25)
    assert close.trace[-1].event is Event.TIE
    apart = decide("follow-winner", (1, 1), (1.0, 1.25), margin=0.125)
    assert apart.trace[-1].event is Event.A_WON


def test_smoothing_remembers_past_losses():
    # b wins now (1.0 < 2.0), but its past is worse: 0.75 * 9 + 0.25 * 1 > 0.75 * 1 + 0.25 * 2
    controller = decide("follow-winner", (1, 9), (2, 1), smoothing=0.75)
    assert controller.trace[-1].event is Event.A_WON


def test_after_a_copy_the_losers_past_is_forgotten():
    controller = decide("tournament", (1, 9), (2, 1), smoothing=0.75)
    assert controller.trace[-1].event is Event.B_WON  # both remember 1; b's 1 beats a's 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tau_min": 0.0}, "tau_min is 0.0; legal: a finite number > 0"),
        (
            {"tau_min": 2.0, "tau_max": 1.0},
            "tau_max is 1.0; legal: a finite number > tau_min = 2.0",
        ),
        (
            {"tau_start": 9.0},
            r"tau_start is 9.0; legal: inside the active range \[tau_min, tau_max\]",
        ),
        ({"tau_start": float("nan")}, "tau_start is nan"),
        ({"rule_a": "chill"}, "rule_a is 'chill'; legal: hold, cool, warm"),
        ({"coupling": "love"}, "coupling is 'love'; legal: independent, follow-winner"),
        ({"period": 0}, "period is 0; legal: a whole number >= 1"),
        ({"period": 1.5}, "period is 1.5"),
        ({"replicates": True}, "replicates is True"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"margin": -1.0}, "margin is -1.0"),
        ({"factor_b": 1.5}, "factor_b is 1.5"),
        ({"tau_start": "1"}, "tau_start is '1'; legal: a number"),
        ({"margin": None}, "margin is None; legal: a number"),
        ({"guard_factor": 1.0}, "guard_factor is 1.0"),
    ],
)
def test_illegal_settings_name_themselves_and_what_is_legal(wrong, said):
    with pytest.raises(ValueError, match=said):
        PairController(**wrong)


def test_wrong_shapes_and_foreign_states_are_refused():
    controller = PairController(replicates=2)
    with pytest.raises(ValueError, match=r"losses must have shape \(replicates, 2\) = \(2, 2\)"):
        controller.update([1.0, 2.0])
    with pytest.raises(ValueError, match="kl must have shape"):
        controller.update([[1, 2], [3, 4]], kl=[1])
    with pytest.raises(ValueError, match="holds 1 replicates"):
        controller.load_state_dict(PairController().state_dict())
    with pytest.raises(ValueError, match="another controller or coupling"):
        controller.load_state_dict(PairController(coupling="swap-rules", replicates=2).state_dict())
    with pytest.raises(ValueError, match="another controller or coupling"):
        controller.load_state_dict(OpenLoopController(Constant(1.0), Constant(1.0), 2).state_dict())
    with pytest.raises(ValueError, match="version 99"):
        controller.load_state_dict(controller.state_dict() | {"version": 99})
    with pytest.raises(ValueError, match=r"tau_start is 0\.0; legal: a finite number > 0"):
        OpenLoopController(Constant(0.0), Constant(1.0))


def test_answers_are_copies():
    controller = PairController()
    controller.tau[:] = 99.0
    assert controller.tau.tolist() == [[1.0, 1.0]]
    tau = controller.update([[1.0, 2.0]])
    tau[:] = 99.0
    assert controller.tau.max() < 2
