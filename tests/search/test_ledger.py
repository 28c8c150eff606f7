"""The ledger on a fast analytic objective: nothing lost, repeated, miscounted or left to timing."""

import json

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState

from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import mend_journal, open_storage
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.records import TrialState
from tests.search.conftest import Simulation, objective


def test_both_arms_get_their_budget_and_advance_together(study, simulate):
    run = simulate(study(), slots=3)
    assert run.run()
    assert sorted(run.started) == [(arm, n) for arm in ("fixed-factor", "pair") for n in range(10)]
    for cut in range(1, len(run.started) + 1):
        counts = [sum(arm == a for a, _ in run.started[:cut]) for arm in ("pair", "fixed-factor")]
        assert abs(counts[0] - counts[1]) <= 4  # interleaved, up to the lookahead


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "cmaes", "grid"])
def test_suggestions_do_not_depend_on_timing(study, simulate, sampler):
    trials = 4 if sampler == "grid" else 9  # the baseline's grid has four points
    config = study(sampler=sampler, trials=trials, grid_points=2)
    one, other = simulate(config, "a", slots=1), simulate(config, "b", slots=6, seed=5)
    assert one.run()
    assert other.run()
    assert one.told() == other.told()


@pytest.mark.parametrize("stop_after", range(1, 41, 3))
def test_killed_anywhere_and_resumed_equals_uninterrupted(study, simulate, stop_after):
    config = study()
    whole, killed = simulate(config, "a"), simulate(config, "b", seed=9)
    whole.run()
    finished_before = set()
    if not killed.run(stop_after=stop_after):
        finished_before = {
            (row.arm, row.number) for row in killed.trials() if row.state is not TrialState.RUNNING
        }
        killed.started.clear()
        assert killed.run()
    assert not finished_before & set(killed.started)  # finished ones are never touched
    assert killed.told() == whole.told()


def test_killed_again_and_again(study, simulate):
    config = study(trials=6)
    whole, killed = simulate(config, "a"), simulate(config, "b")
    whole.run()
    while not killed.run(stop_after=3):
        pass
    assert killed.told() == whole.told()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "cmaes", "grid"])
def test_killed_at_any_write_the_study_is_that_of_an_uninterrupted_run(
    study, simulate, monkeypatch, sampler, after
):
    config = study(sampler=sampler, trials=4, grid_points=2, lookahead=2)
    whole = simulate(config, "whole")
    whole.run()
    append, writes = JournalFileBackend.append_logs, []

    def die(self, logs):
        writes.append(logs)
        if after or len(writes) != fatal:
            append(self, logs)
        if len(writes) == fatal:
            raise KeyboardInterrupt

    monkeypatch.setattr(JournalFileBackend, "append_logs", die)
    for fatal in range(1, 100):
        writes.clear()
        killed = simulate(config, f"killed-{fatal}")
        try:
            assert killed.run()
        except KeyboardInterrupt:
            writes.extend([None] * 100)  # no second death
            assert killed.run()
            assert killed.told() == whole.told()
        else:
            break  # it came to its end before that write
    assert 20 < fatal < 100


def test_how_trials_are_told(study, simulate):
    run = simulate(study())
    run.run()
    pair = optuna.load_study(study_name="s/pair", storage=open_storage(None, run.paths)).trials
    states = [trial.state for trial in pair]
    assert states.count(OptunaState.COMPLETE) == 8
    assert states[5] is OptunaState.FAIL
    assert pair[5].user_attrs["error"] == "diverged: branch a"
    assert states[6] is OptunaState.PRUNED
    assert list(pair[6].intermediate_values) == [3]
    # the values of different budgets are never mixed: a pruned trial is no candidate for the best
    assert optuna.load_study(study_name="s/pair", storage=open_storage(None, run.paths)).best_trial.number != 6  # fmt: skip


def test_the_first_thirty_percent_are_random_and_marked(study, simulate):
    run = simulate(study(trials=10))
    run.run()
    strata = [row.stratum for row in run.trials() if row.arm == "pair"]
    assert strata == ["random"] * 3 + ["tpe"] * 7


def test_raising_the_budget_goes_on_and_keeps_the_random_share(study, simulate):
    run = simulate(study(trials=10))
    run.run()
    before = run.told()
    more = Simulation(study(trials=20), run.paths.root)
    assert more.run()
    assert sorted(more.started) == [
        (arm, n) for arm in ("fixed-factor", "pair") for n in range(10, 20)
    ]
    assert {arm: rows[:10] for arm, rows in more.told().items()} == before
    strata = [row.stratum for row in more.trials() if row.arm == "pair"]
    assert strata.count("random") == 6
    nothing = Simulation(study(trials=20), run.paths.root)
    nothing.run()
    assert nothing.started == []


def test_at_most_lookahead_trials_of_an_arm_at_once(study, simulate):
    config = study(lookahead=2)
    run = simulate(config)
    ledger = Ledger(config, run.paths, open_storage(None, run.paths), "me")
    out = []
    while (assignment := ledger.next()) is not None:
        out.append(assignment)
    assert sorted((a.arm, a.number) for a in out) == [
        ("fixed-factor", 0), ("fixed-factor", 1), ("pair", 0), ("pair", 1),
    ]  # fmt: skip


def test_config_json_is_what_optuna_suggested(study, simulate):
    run = simulate(study(trials=5))
    run.run()
    for row in run.trials():
        config = json.loads(run.paths.trial(row.arm, row.number).config.read_text())
        assert config["params"] == row.params
        assert (config["arm"], config["number"], config["stratum"]) == (
            row.arm,
            row.number,
            row.stratum,
        )
        assert config["settings"].items() >= row.params.items()


def test_every_configuration_is_legal_and_conditional(study, simulate):
    run = simulate(study(trials=40, sampler="random"))
    run.run()
    pair = [row.params for row in run.trials() if row.arm == "pair"]
    assert all(p["tau_min"] <= p["tau_start"] <= p["tau_max"] for p in pair)
    assert all(("factor_a" in p) == (p["rule_a"] == "cool") for p in pair)
    assert all(("rate_a" in p) == (p["rule_a"] == "exponential") for p in pair)
    assert {type(p["period"]) for p in pair} == {int}


def test_a_storage_with_another_study_of_that_name_is_refused(study, simulate):
    run = simulate(study(trials=2))
    run.run()
    for config, owner in ((study(trials=2, lookahead=5), "me"), (study(trials=2), "other")):
        with pytest.raises(InputError, match="holds another study under the name s/pair"):
            Ledger(config, run.paths, open_storage(None, run.paths), owner)


def test_folders_that_the_storage_does_not_know_are_refused(study, simulate):
    """Else old results would be read as those of newly suggested settings."""
    run = simulate(study(trials=3))
    run.run()
    kept = run.paths.journal.read_bytes()
    run.paths.journal.unlink()
    with pytest.raises(InputError, match=r"/2: holds a trial, but the storage has only 0 trials"):
        run.run()
    run.paths.journal.unlink()
    assert not run.paths.journal.exists() or b"create" not in run.paths.journal.read_bytes()
    run.paths.journal.unlink(missing_ok=True)
    with pytest.raises(InputError, match="is missing: it is the record"):
        open_storage(None, run.paths, must_exist=True)
    assert not run.paths.journal.exists()
    run.paths.journal.write_bytes(kept)
    assert run.run()


def test_a_journal_damaged_in_its_middle_is_one_message(study, simulate):
    run = simulate(study(trials=3))
    run.run()
    lines = run.paths.journal.read_bytes().splitlines(keepends=True)
    run.paths.journal.write_bytes(b"".join([*lines[:5], lines[5][:9] + b"\n", *lines[6:]]))
    with pytest.raises(InputError, match="is damaged"):
        open_storage(None, run.paths)


def test_a_journal_cut_anywhere_in_its_last_line_goes_on(study, simulate):
    config = study(trials=4)
    whole, cut = simulate(config, "a", slots=1), simulate(config, "b", slots=1)
    whole.run()
    cut.run(stop_after=9)
    journal = cut.paths.journal.read_bytes()
    last = len(journal) - journal[:-1].rfind(b"\n") - 1
    for missing in (1, last // 2, last - 1):
        cut.paths.journal.write_bytes(journal[:-missing])
        mend_journal(cut.paths)
        assert cut.paths.journal.read_bytes() == journal[:-last]
        assert len(cut.trials()) >= 3
    assert cut.run()
    assert {row.number for row in cut.trials()} == {row.number for row in whole.trials()}


def test_arms_draw_from_streams_of_their_own(study, simulate):
    run = simulate(study(trials=3))
    run.run()
    rates = {arm: [row.params["learning_rate"] for row in run.trials() if row.arm == arm]
             for arm in ("pair", "fixed-factor")}  # fmt: skip
    assert not set(rates["pair"]) & set(rates["fixed-factor"])


def test_a_result_not_told_yet_is_read_from_its_folder(study, simulate):
    run = simulate(study(lookahead=4), slots=1)
    run.run(stop_after=4)  # two results are in, and Optuna has heard of one
    assert sorted(t[1] for rows in run.told().values() for t in rows) == ["COMPLETE", "RUNNING"]
    assert [row.state for row in run.trials()] == [TrialState.COMPLETE] * 2
    assert all(row.value is not None for row in run.trials())


def test_the_storage_hears_of_a_result_at_once(study, simulate):
    config = study(lookahead=4)
    run = simulate(config)
    ledger = Ledger(config, run.paths, open_storage(None, run.paths), "me")
    first = ledger.next()
    result = objective(first)
    result.write(run.paths.trial(first.arm, first.number).result)
    ledger.finish(first, result)
    assert [t[1:3] for t in run.told()[first.arm]] == [("COMPLETE", result.value)]


def test_storages(study, tmp_path):
    run = Simulation(study(trials=2), tmp_path / "x")
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    ledger = Ledger(run.config, run.paths, open_storage(url, run.paths), "me")
    assert ledger.next().number == 0
    assert optuna.load_study(study_name="s/pair", storage=url).trials[0].params
    assert not run.paths.journal.exists()
