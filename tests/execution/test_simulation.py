"""Studies in simulated time: same searcher and ledger, no training; resumed like any other."""

import json

import numpy as np
import optuna
import pandas as pd
import pytest

from gsvae_tune.execution.objectives import load_objective
from gsvae_tune.execution.searcher import LedgerSearcher
from gsvae_tune.execution.simulation import simulate
from gsvae_tune.search import studies
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import Assignment, open_storage
from gsvae_tune.search.studies import VALLEY
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.lease import driver_lease
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState


def study(table=VALLEY, **more):
    """The search of a study of two arms."""
    overrides = {
        "simulate.table": str(table), "search.trials": 12, "search.lookahead": 4, "name": "digits",
        "protocol.until": "search", **more,
    }  # fmt: skip
    return studies.load("smoke", {key: (value, key) for key, value in overrides.items()})


def run(config, folder, slots=4, stop_after=None):
    """Simulate, or drop dead after so many ends; return what was simulated and in what order."""
    paths, order = StudyPaths(folder), []
    folder.mkdir(exist_ok=True)
    ledger = Ledger(config, paths, open_storage(None, paths), "me")

    def ended(assignment, result):
        order.append((assignment.arm, assignment.number))
        if len(order) == stop_after:
            raise KeyboardInterrupt

    with driver_lease(paths, print) as lease:
        searcher = LedgerSearcher(ledger, paths, lease)
        try:
            done = simulate(searcher, load_objective(config), slots, paths, lambda *_: None, ended)
        except KeyboardInterrupt:
            done = None
    return done, order


def told(folder, arm):
    journal = open_storage(None, StudyPaths(folder))
    trials = optuna.load_study(study_name=f"digits-simulated/{arm}", storage=journal).trials
    return [(t.number, t.state, t.value, t.params) for t in trials]


def test_every_trial_ends_once_and_slots_are_accounted_for(tmp_path):
    done, order = run(study(), tmp_path)
    assert sorted(order) == [(arm, n) for arm in ("fixed-factor", "pair") for n in range(12)]
    results = [TrialResult.read(p) for p in tmp_path.glob("trials/*/*/result.json")]
    assert done.trials == len(results) == 24
    assert done.busy_s == pytest.approx(sum(result.wall_s for result in results))
    assert done.busy_s <= done.slots * done.wall_s
    assert 0 <= done.idle_share < 1


def test_more_slots_take_less_simulated_time_and_suggest_the_same(tmp_path):
    one, _ = run(study(), tmp_path / "one", slots=1)
    eight, _ = run(study(), tmp_path / "eight", slots=8)
    assert one.wall_s == pytest.approx(one.busy_s)
    assert eight.wall_s < one.wall_s / 3
    for arm in ("pair", "fixed-factor"):
        assert told(tmp_path / "one", arm) == told(tmp_path / "eight", arm)


@pytest.mark.parametrize("stop_after", [1, 5, 17])
def test_a_killed_simulation_goes_on(tmp_path, stop_after):
    run(study(), tmp_path / "whole")
    _, first = run(study(), tmp_path / "killed", stop_after=stop_after)
    _, rest = run(study(), tmp_path / "killed", slots=2)
    assert len(first) == stop_after
    assert not set(first) & set(rest)
    for arm in ("pair", "fixed-factor"):
        assert told(tmp_path / "killed", arm) == told(tmp_path / "whole", arm)


def test_the_valley_is_lowest_where_it_says():
    objective = load_objective(study())

    def value(number, **params):
        return objective(Assignment("pair", "search", number, params, "random")).value

    best = value(0, tau_start=0.5, learning_rate=3e-3)
    assert best == value(0, tau_start=0.5, learning_rate=3e-3)  # the same whenever asked
    assert best < value(0, tau_start=4.0, learning_rate=3e-3)
    assert best < value(0, tau_start=0.5, learning_rate=1e-4)


def write(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


@pytest.fixture(params=["parquet", "csv"])
def recorded(tmp_path, request):
    frame = pd.DataFrame(
        {
            "arm": ["pair", "pair", "pair", "fixed-factor"],
            "state": ["complete", "complete", "failed", "complete"],
            "value": [20.0, 25.0, None, 22.0],
            "epochs": [60, 60, 3, 60],
            "steps": [600, 600, 30, 600],
            "wall_s": [10.0, 20.0, 1.0, 30.0],
            "error": [None, None, "diverged: branch a", None],
            "param_tau_start": [0.1, 4.0, 4.0, 1.0],
            "param_rule_a": ["cool", "cool", "hold", None],
        }
    )
    return write(frame, tmp_path / f"trials.{request.param}")


def test_a_recorded_table_answers_with_its_nearest_trial(recorded):
    objective = load_objective(study(recorded))

    def ask(arm="pair", **params):
        return objective(Assignment(arm, "search", 0, params, "random"))

    assert ask(tau_start=0.15, rule_a="cool").value == 20.0
    assert ask(tau_start=3.0, rule_a="cool").value == 25.0
    lost = ask(tau_start=3.0, rule_a="hold")
    assert (lost.state, lost.value, lost.error) == (TrialState.FAILED, None, "diverged: branch a")
    assert ask("fixed-factor", tau_start=0.1).wall_s == 30.0
    # between 0.1 and 4 on the logarithmic scale, not the linear one
    assert ask(tau_start=0.55, rule_a="cool").value == 20.0


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_absent_setting_is_nearest_to_an_absent_one(tmp_path, suffix):
    frame = pd.DataFrame(
        {
            "arm": ["pair", "pair", "fixed-factor"], "state": ["complete"] * 3,
            "value": [30.0, 20.0, 22.0], "wall_s": [1.0] * 3, "error": [None, "why", None],
            "param_rule_a": ["cool", None, None], "param_factor_a": [0.5, None, 0.9],
        }
    )  # fmt: skip
    objective = load_objective(study(write(frame, tmp_path / f"trials{suffix}")))
    answer = objective(Assignment("pair", "search", 0, {}, "random"))
    assert (answer.value, answer.error) == (20.0, "why")
    answer = objective(
        Assignment("pair", "search", 0, {"rule_a": "cool", "factor_a": 0.6}, "random")
    )
    assert (answer.value, answer.error) == (30.0, None)
    # a setting of another kind than the recorded ones is only far away
    assert objective(Assignment("pair", "search", 0, {"factor_a": "cool"}, "random")).value in (
        20.0,
        30.0,
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("wall_s", "long"), ("wall_s", -5.0), ("wall_s", float("inf")), ("wall_s", None),
        ("value", "low"), ("value", None), ("value", float("inf")), ("value", True),
        ("epochs", "many"), ("epochs", 1.5), ("steps", -1), ("param_tau_start", [1.0]),
    ],
)  # fmt: skip
def test_values_that_cannot_serve_are_refused(tmp_path, column, value):
    row = {"arm": "pair", "state": "complete", "value": 1.0, "wall_s": 2.0, "epochs": 3, "steps": 4}
    path = write(pd.DataFrame([row | {column: value}]), tmp_path / "trials.parquet")
    with pytest.raises(InputError, match=rf"finished trial 1: {column}: "):
        load_objective(study(path))


def test_the_table_is_known_by_what_is_in_it(tmp_path, recorded):
    config = study(recorded)
    elsewhere = tmp_path / f"copy{recorded.suffix}"
    elsewhere.write_bytes(recorded.read_bytes())
    assert study(elsewhere).digest() == config.digest()
    changed = pd.read_csv(recorded) if recorded.suffix == ".csv" else pd.read_parquet(recorded)
    changed["value"] += 100
    assert study(write(changed, recorded)).digest() != config.digest()


def test_no_images_are_needed(tmp_path):
    from rich.console import Console

    from gsvae_tune.execution.runner import run_study

    overrides = {"simulate.table": VALLEY, "search.trials": 2, "data.dir": str(tmp_path / "none"),
                 "out": str(tmp_path)}  # fmt: skip
    config = studies.load("mnist", {key: (value, key) for key, value in overrides.items()})
    done = run_study(config, Console(quiet=True))
    assert done.trained == 3 * 2 + 4 * 2  # searched, then confirmed, the yoked arm too
    assert done.tested == 4 * 2


def test_a_whole_study_can_be_simulated_from_a_table(tmp_path, recorded):
    config = study(recorded)
    run(config, tmp_path / "s")
    assert {value for _, _, value, _ in told(tmp_path / "s", "pair")} <= {20.0, 25.0, None}
    assert {value for _, _, value, _ in told(tmp_path / "s", "fixed-factor")} == {22.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no file"),
        (b"", "cannot be read"),
        (b"arm,number\npair,1\n", "lacks the columns state, value, wall_s"),
        (b"arm,state,value,wall_s\npair,complete,1.0,2.0\n", "no finished trial of arm fixed-fac"),
        (b"arm,state,value,wall_s\npair,running,,\n", "no finished trial of arm pair"),
    ],
)
def test_tables_that_cannot_serve_are_refused(tmp_path, content, message):
    path = tmp_path / "trials.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_objective(study(path))


def test_a_damaged_parquet_file_is_one_message(tmp_path):
    path = tmp_path / "trials.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        load_objective(study(path))


def test_simulated_studies_keep_out_of_real_ones_folders():
    config = study()
    assert config.name == "digits-simulated"
    real = config.model_copy(update={"name": "digits", "simulate": None})
    assert config.digest() != real.digest()
    more_slots = study(**{"simulate.slots": 3})
    assert more_slots.digest() == config.digest()


def test_the_command(tmp_path):
    from typer.testing import CliRunner

    from gsvae_tune.cli.__main__ import app

    words = ["run", "digits", "--simulate", "valley", "--simulated-slots", "8", "--trials", "5",
             "--no-report", "--out", str(tmp_path)]  # fmt: skip
    for said in ("this run simulated 23 trials on 8 slots", "finished already"):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        text = " ".join(done.output.split())
        assert said in text
        assert "Nothing was trained: the numbers come from valley." in text
    assert "simulated)" in CliRunner().invoke(app, ["status", str(tmp_path)]).output
    alone = CliRunner().invoke(app, ["run", "digits", "--simulated-slots", "4"])
    assert "--simulated-slots" in str(alone.exception)
    stored = json.loads((tmp_path / "digits-simulated/study.json").read_text())
    assert stored["config"]["simulate"] == {
        "table": "valley", "slots": 8, "checksum": None, "spread_nats": 0.05, "effects": {},
    }  # fmt: skip


def test_planted_effects_and_spread_are_what_they_say():
    more = {"simulate.effects": {"pair": -0.25}, "simulate.spread_nats": 0.0}
    planted, plain = (load_objective(study(**given)) for given in (more, {}))
    params = {"tau_start": 0.5, "learning_rate": 3e-3}
    for phase, count in (("search", 2), ("confirm", 6)):
        ours, theirs = (
            planted(Assignment(arm, phase, 3, params, "")) for arm in ("pair", "fixed-factor")
        )
        losses = [[r.val_neg_elbo_nats for r in one.replicates] for one in (ours, theirs)]
        assert len(losses[0]) == count
        # without a spread of their own, the same seeds give the same but for the effect
        assert np.subtract(*losses) == pytest.approx([-0.25] * count)
        assert np.std(losses[1]) > 0.1  # which seeds they are matters, and is shared
        assert ours.value == pytest.approx(np.mean(losses[0]))
    one = plain(Assignment("pair", "confirm", 3, params, ""))
    other = plain(Assignment("fixed-factor", "confirm", 3, params, ""))
    differences = np.subtract(*([r.val_neg_elbo_nats for r in x.replicates] for x in (one, other)))
    assert 0 < differences.std() < 0.3
    tests = plain.test(Assignment("pair", "confirm", 3, params, ""))
    assert [t.seed for t in tests] == [r.seed for r in one.replicates]


def test_a_simulated_study_goes_through_to_a_verdict_bitwise_the_same(tmp_path):
    from rich.console import Console

    from gsvae_tune.execution.runner import run_study
    from gsvae_tune.report import summary

    found = []
    for folder, slots in (("a", 1), ("b", 7)):
        more = {"protocol.until": "verdict", "out": str(tmp_path / folder), "simulate.slots": slots}
        config = study(**more)
        done = run_study(config, Console(quiet=True))
        built = summary.export(config, done.paths, None)
        found.append(summary.judge(config, done.paths, None, built).as_dict())
        assert (done.trained, done.tested) == (24 + 2, 2)
    assert found[0] == found[1]
    assert found[0]["simulated"]


def test_searching_on_after_a_verdict(tmp_path):
    """The old verdict is shown as what it is, the new one bears the mark and supports nothing."""
    from rich.console import Console

    from gsvae_tune.execution.runner import run_study
    from gsvae_tune.report import summary

    def go(**more):
        given = {"out": str(tmp_path), "simulate.effects": {"pair": -3.0}, **more}
        config = study(**given)
        done = run_study(config, Console(quiet=True))
        built = summary.export(config, done.paths, None)
        return config, done, summary.judge(config, done.paths, None, built)

    short = {"search.trials": 6, "protocol.until": "verdict", "protocol.replicates": 10}
    config, done, first = go(**short)
    assert [one.verdict for one in first.comparisons] == ["supported"]
    written = done.paths.verdict.read_bytes()
    longer = short | {"search.trials": 30}
    with pytest.raises(InputError, match="after 12 trials; what 48 more find"):
        go(**longer)
    config, done, none = go(**longer | {"protocol.until": "confirm"})
    assert none is None  # the newly best are confirmed and not tested
    assert done.paths.verdict.read_bytes() == written
    seen = summary.status(config, done.paths, None)
    assert seen.verdicts == {"pair - fixed-factor": "supported, before the search went on"}
    with pytest.raises(InputError, match="after 12 trials; what 48 more find"):
        go(**longer)
    _, done, second = go(**longer | {"protocol.reopen_test": "to show what it does"})
    assert done.tested > 0
    assert second.reopened == "to show what it does"
    assert [one.verdict for one in second.comparisons] == ["inconclusive"]
    assert "to show what it does" in second.comparisons[0].reason
    assert summary.status(config, done.paths, None).verdicts == {
        "pair - fixed-factor": "inconclusive"
    }
