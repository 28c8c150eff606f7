"""Confirmations: the right trials, once each, on seeds of their own, whatever is killed."""

import json

import pytest

from gsvae_tune.search.arms import ARMS
from gsvae_tune.search.confirm import choose
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import open_storage, read_trials
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.loading import parse
from gsvae_tune.study.records import TrialState, keep_lines
from gsvae_tune.study.seeds import replicate_seed
from tests.search.conftest import FIXED, PAIR, Simulation

PROTOCOL = {"until": "confirm", "top": 2, "replicates": 10}


def best(run, arm, top=2):
    rows = [
        (row.value, row.number)
        for row in run.trials()
        if (row.arm, row.phase) == (arm, "search") and row.state is TrialState.COMPLETE
    ]
    return [number for _, number in sorted(rows)[:top]]


def test_the_best_sound_trials_of_each_arm_are_confirmed_once(study, simulate):
    run = simulate(study(protocol=PROTOCOL))
    assert run.run()
    confirmed = [name for name in run.started if "confirm" in name]
    wanted = [(arm, "confirm", n) for arm in ("pair", "fixed-factor") for n in best(run, arm)]
    assert sorted(confirmed) == sorted(wanted)
    assert choose(run.config, run.trials()) == {
        arm: best(run, arm) for arm in ("pair", "fixed-factor")
    }
    # no confirmation begins before its arm's search has ended
    for arm in ("pair", "fixed-factor"):
        own = [name for name in run.started if name[0] == arm]
        assert all(len(name) == 2 for name in own[:10])
    for arm, _, number in wanted:
        config = json.loads(run.paths.trial(arm, number, "confirm").config.read_text())
        original = json.loads(run.paths.trial(arm, number).config.read_text())
        assert (config["phase"], config["number"]) == ("confirm", number)
        assert config["settings"] == original["settings"]


def test_confirmations_leave_the_searchs_record_as_it_was(study, simulate):
    alone, whole = simulate(study(), "a"), simulate(study(protocol=PROTOCOL), "b")
    alone.run()
    whole.run()
    marks = ("digest",)

    def without(told):
        return {arm: [row[:4] for row in rows] for arm, rows in told.items()}, marks

    assert without(alone.told()) == without(whole.told())


@pytest.mark.parametrize("stop_after", range(36, 52, 2))
def test_killed_while_confirming_and_resumed_equals_uninterrupted(study, simulate, stop_after):
    config = study(protocol=PROTOCOL)
    whole, killed = simulate(config, "a"), simulate(config, "b", seed=9)
    whole.run()
    if not killed.run(stop_after=stop_after):
        ended = {
            (row.arm, row.phase, row.number)
            for row in killed.trials()
            if row.phase == "confirm" and row.state is not TrialState.RUNNING
        }
        killed.started.clear()
        assert killed.run()
        assert not ended & set(killed.started)
    for phase in ("search", "confirm"):
        mine, theirs = killed.told(phase), whole.told(phase)
        assert {a: sorted(r, key=str) for a, r in mine.items()}.keys() == theirs.keys()
        for arm in mine:  # confirmations may be recorded in another order
            assert {row[4].get("source", row[0]): row[1:] for row in mine[arm]} == {
                row[4].get("source", row[0]): row[1:] for row in theirs[arm]
            }


def test_more_trials_confirm_what_is_newly_best(study, simulate):
    run = simulate(study(protocol=PROTOCOL, trials=6))
    run.run()
    before = set(run.started)
    more = Simulation(study(protocol=PROTOCOL, trials=20), run.paths.root)
    assert more.run()
    new = {name for name in more.started if "confirm" in name}
    assert not before & set(more.started)
    wanted = {(arm, "confirm", n) for arm in ("pair", "fixed-factor") for n in best(more, arm)}
    assert wanted <= before | new
    assert new == wanted - before


def test_until_search_confirms_nothing_and_a_later_run_goes_on(study, simulate):
    run = simulate(study())
    run.run()
    assert not [name for name in run.started if "confirm" in name]
    onward = Simulation(study(protocol=PROTOCOL), run.paths.root)
    with pytest.raises(InputError, match="holds another study"):  # replicates 10 is the default
        Simulation(study(protocol=PROTOCOL | {"replicates": 11}), run.paths.root).run()
    assert onward.run()
    assert len(onward.started) == 4


def test_an_arm_with_fewer_sound_trials_confirms_those(study, simulate, monkeypatch):
    config = study(protocol=PROTOCOL | {"top": 30})
    run = simulate(config)
    assert run.run()
    sound = [row for row in run.trials() if row.phase == "search" and row.value is not None]
    assert len([name for name in run.started if "confirm" in name]) == len(sound) < 20


def test_folders_of_confirmations_that_the_storage_does_not_know_are_refused(study, simulate):
    run = simulate(study(protocol=PROTOCOL))
    run.run()
    known = run.paths.trial("pair", best(run, "pair")[0], "confirm")
    known.root.rename(run.paths.trial("pair", 999, "confirm").root)
    with pytest.raises(InputError, match=r"confirm-999: holds a trial"):
        run.run()


def test_confirmation_seeds_have_no_part_in_the_search():
    search = {replicate_seed(7, "search", r) for r in range(1024)}
    confirm = {replicate_seed(7, "confirm", r) for r in range(1024)}
    assert not search & confirm


@pytest.fixture
def yoked(tmp_path):
    raw = {
        "name": "s",
        "arms": {
            "mine": {"method": "pair", "space": PAIR},
            "fixed-factor": {"space": FIXED},
            "control": {"method": "yoked", "of": "mine"},
        },
        "search": {"trials": 4},
        "replicates": 2,
        "protocol": PROTOCOL,
    }
    run = Simulation(parse(raw, "test"), tmp_path / "yoked")
    paths = {}

    def ran(assignment):
        """Leave the temperatures that a training would have left."""
        number = assignment.number
        shift = 0.0 if assignment.phase == "search" else 0.5
        taus = [[[1 + number, 2.0], [3.0 + shift, 4.0 + e / 10]] for e in range(9)]
        folder = run.paths.trial(assignment.arm, number, assignment.phase)
        keep_lines(folder.epochs, [{"epoch": e + 1, "tau": tau} for e, tau in enumerate(taus)])
        paths[assignment.arm, assignment.phase, number] = taus

    return run, paths, ran


def test_a_yoked_arm_replays_its_originals_temperatures(yoked, monkeypatch):
    run, paths, ran = yoked
    finish = Ledger.finish

    def leave_and_finish(self, assignment, result):
        ran(assignment)
        finish(self, assignment, result)

    monkeypatch.setattr(Ledger, "finish", leave_and_finish)
    assert run.run()
    assert not [name for name in run.started if name[0] == "control" and len(name) == 2]
    assert choose(run.config, run.trials())["control"] == best(run, "mine")
    for number in best(run, "mine"):
        config = json.loads(run.paths.trial("control", number, "confirm").config.read_text())
        original = json.loads(run.paths.trial("mine", number).config.read_text())
        assert config["settings"]["learning_rate"] == original["settings"]["learning_rate"]
        recorded = paths["mine", "confirm", number]
        arm = ARMS["yoked"].model_validate_json(json.dumps(config["settings"]))
        controller = arm.controller(range(2), 10, 9)
        for taus in recorded:  # each replicate replays what another seed's losses made
            assert controller.tau.tolist() == [taus[1], taus[0]]
            controller.update([[1.0, 2.0]] * 2)


@pytest.mark.parametrize(
    ("arms", "protocol", "said"),
    [
        ({"pair": {}, "yoked": {"of": "peer"}}, {"baseline": "pair"}, "arms.yoked.of: 'peer'"),
        ({"pair": {}, "yoked": {"space": {"tau_paths": 1.0}}}, {}, "yoked is not searched"),
        ({"pair": {}, "other": {"method": "pear"}}, {}, "arms.other: unknown method 'pear'"),
        ({"pair": {"method": "constant"}}, {}, "under the name of another method"),
        ({"pair": {}, "constant": {}}, {}, "protocol.baseline: 'fixed-factor' is no arm"),
        ({"pair": {}}, {"comparisons": [["pair", "cat"]]}, "protocol.comparisons: [pair, cat]"),
        ({"pair": {}}, {"comparisons": [["pair", "pair"]]}, "does not compare two arms"),
    ],
)  # fmt: skip
def test_arms_and_comparisons_that_make_no_sense(arms, protocol, said):
    from gsvae_tune.search.studies import check

    with pytest.raises(InputError) as caught:
        check(parse({"name": "s", "arms": arms, "protocol": protocol}, "mine.yaml"), "mine.yaml")
    assert said in str(caught.value)


def test_two_arms_may_have_one_method(simulate):
    space = FIXED | {"estimator": "straight-through"}
    raw = {
        "name": "s", "search": {"trials": 3}, "protocol": PROTOCOL,
        "arms": {"fixed-factor": {"space": FIXED},
                 "hard": {"method": "fixed-factor", "space": space}},
    }  # fmt: skip
    run = simulate(parse(raw, "test"))
    assert run.run()
    rows = list(read_trials(run.config, run.paths, open_storage(None, run.paths), "me"))
    assert {row.arm for row in rows} == {"fixed-factor", "hard"}
    config = json.loads(run.paths.trial("hard", 0).config.read_text())
    assert config["settings"]["estimator"] == "straight-through"
