"""What a sampler sees of many trials: thinned beyond a limit, the same after an interruption."""

import itertools

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from gsvae_tune.search import view
from gsvae_tune.search.view import _KEPT, thin


def trials(count, state=OptunaState.COMPLETE):
    made = []
    for number in range(count):
        value = float((number * 7919) % count)
        trial = optuna.trial.create_trial(state=state, value=value if state.is_finished() else None)
        trial.number = number
        made.append(trial)
    return made


def test_few_trials_are_all_kept():
    given = trials(_KEPT)
    assert thin(given) is given


def test_beyond_it_the_best_the_first_and_the_newest_stay_in_order():
    given = trials(4321)
    kept = thin(given)
    assert len(kept) == _KEPT
    numbers = [trial.number for trial in kept]
    assert numbers == sorted(set(numbers))
    assert set(range(4221, 4321)) < set(numbers)
    best = sorted(given, key=lambda trial: trial.value)[:100]
    assert {trial.number for trial in best} < set(numbers)
    assert numbers[0] == 0
    gaps = [b - a for a, b in itertools.pairwise(numbers)]
    assert max(gaps) <= 16  # an even share of the rest


@pytest.fixture
def small(monkeypatch):
    """A limit that a test can reach."""
    for name, value in {"LIMIT": 20, "_KEPT": 12, "_BLOCK": 5, "_BEST": 4, "_NEWEST": 4}.items():
        monkeypatch.setattr(view, name, value)


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "cmaes", "grid", "random"])
def test_beyond_the_limit_timing_and_interruptions_change_nothing(study, simulate, sampler, small):
    config = study(sampler=sampler, trials=45, grid_points=3, lookahead=3)
    if sampler == "grid":
        config = study(sampler=sampler, trials=9, grid_points=3, lookahead=3)
    whole, killed = simulate(config, "a", slots=1), simulate(config, "b", slots=6, seed=3)
    assert whole.run()
    while not killed.run(stop_after=37):
        pass
    assert killed.told() == whole.told()


def test_below_the_limit_its_value_changes_nothing(study, simulate, monkeypatch):
    config = study(trials=20)
    plain, limited = simulate(config, "a"), simulate(config, "b")
    assert plain.run()
    monkeypatch.setattr(view, "LIMIT", 20)
    monkeypatch.setattr(view, "_BLOCK", 5)
    assert limited.run()
    assert limited.told() == plain.told()
