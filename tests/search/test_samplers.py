"""CMA-ES without pickles: the same search as Optuna's, from nothing but the trials."""

import gc
import os
import pickle
import time

import numpy as np
import optuna
import pytest
from optuna.samplers import CmaEsSampler, RandomSampler
from optuna.trial import TrialState as OptunaState

from gsvae_tune.search import samplers, view
from gsvae_tune.search.samplers import ReplayingCmaEsSampler, make_sampler
from gsvae_tune.search.storage import open_storage, optuna_name


def ask(study, kind, number, dimensions=4):
    study.sampler = kind(
        seed=number + 7, independent_sampler=RandomSampler(seed=number), n_startup_trials=1
    )
    trial = study.ask()
    for at in range(dimensions):
        trial.suggest_float(f"x{at}", 0.01, 4.0, log=at % 2 == 0)
    return trial


def tell(study, trial):
    if trial.number % 7 == 3:
        study.tell(trial, state=OptunaState.FAIL)
    else:
        study.tell(trial, sum((np.log(x) - 0.3) ** 2 for x in trial.params.values()))


def searched(kind, trials, **more):
    study = optuna.create_study()
    for number in range(trials):
        tell(study, ask(study, kind, number, **more))
    return study


def test_it_draws_what_optunas_own_would():
    own, replayed = searched(CmaEsSampler, 120), searched(ReplayingCmaEsSampler, 120)
    drawn = [[list(t.params.values()) for t in study.trials] for study in (own, replayed)]
    # Optuna's pickle rounds the covariance in the last digit.
    np.testing.assert_allclose(*drawn, rtol=1e-7)
    assert any(key.startswith("cma:optimizer") for t in own.trials for key in t.system_attrs)
    assert {key for t in replayed.trials for key in t.system_attrs} == {samplers.GENERATION}
    generations = [t.system_attrs.get(samplers.GENERATION, 0) for t in replayed.trials]
    assert generations == [t.system_attrs.get(samplers.GENERATION, 0) for t in own.trials]
    assert max(generations) > 10


def test_it_finds_the_minimum():
    assert searched(ReplayingCmaEsSampler, 300).best_value < 1e-4


def test_a_replay_is_bitwise_what_was_followed():
    followed = searched(ReplayingCmaEsSampler, 90)
    copy = optuna.create_study()
    copy.add_trials(followed.trials)
    drawn = [list(ask(study, ReplayingCmaEsSampler, 90).params.values()) for study in (followed, copy)]  # fmt: skip
    assert drawn[0] == drawn[1]


def test_nothing_is_kept_of_a_study_that_is_gone():
    gc.collect()
    before = len(samplers._REPLAYED)
    searched(ReplayingCmaEsSampler, 20)
    gc.collect()
    assert len(samplers._REPLAYED) <= before


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("name", ["cmaes", "tpe", "gp", "qmc", "random"])
def test_a_pickle_in_the_storage_is_never_read(tmp_path, name):
    target = tmp_path / "pwned"
    poison = pickle.dumps(Bomb(str(target))).hex()
    study = searched(CmaEsSampler, 12)
    poisoned = optuna.create_study()
    for trial in study.trials:
        for key in [key for key in trial.system_attrs if "optimizer" in key]:
            trial.system_attrs[key] = poison
        trial.system_attrs["cma:optimizer:0"] = poison
        poisoned.add_trial(trial)
    poisoned.sampler = make_sampler(name, 3, 12)
    trial = poisoned.ask()
    trial.suggest_float("x0", 0.01, 4.0, log=True)
    assert not target.exists()
    ask(poisoned, CmaEsSampler, 13)
    assert target.exists()  # Optuna's own does read it


def test_no_storage_of_ours_holds_a_pickle(study, simulate):
    config = study(trials=40, sampler="cmaes", lookahead=1)
    run = simulate(config, slots=1)
    assert run.run()
    for arm in config.arms:
        trials = optuna.load_study(
            study_name=optuna_name("s", arm), storage=open_storage(None, run.paths)
        ).trials
        assert {key for t in trials for key in t.system_attrs} == {samplers.GENERATION}
        assert max(t.system_attrs.get(samplers.GENERATION, 0) for t in trials) >= 2
    assert b"optimizer" not in run.paths.journal.read_bytes()


def test_thinning_leaves_cma_es_every_generation(study, simulate, monkeypatch):
    config = study(trials=50, sampler="cmaes", lookahead=2)
    plain, limited = simulate(config, "a"), simulate(config, "b")
    assert plain.run()
    for limit, value in {"LIMIT": 20, "_KEPT": 12, "_BLOCK": 5, "_BEST": 4, "_NEWEST": 4}.items():
        monkeypatch.setattr(view, limit, value)
    while not limited.run(stop_after=61):
        pass
    assert limited.told() == plain.told()


def test_a_suggestion_stays_cheap():
    study = optuna.create_study()
    study.add_trials(searched(ReplayingCmaEsSampler, 1000, dimensions=8).trials)
    seconds = []
    for number in range(1000, 1004):  # the first replays them all
        started = time.perf_counter()
        trial = ask(study, ReplayingCmaEsSampler, number, dimensions=8)
        seconds.append(time.perf_counter() - started)
        tell(study, trial)
    assert seconds[0] < 0.5
    assert sorted(seconds[1:])[1] < 0.05
