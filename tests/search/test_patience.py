"""A storage that fails now and then: before an operation, and after it was carried out."""

import itertools
import random

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from gsvae_tune.search import patience
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.patience import Patience, PatientStorage, Unreachable
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.paths import StudyPaths
from tests.search.conftest import objective

WRITES = (
    "create_new_study", "create_new_trial", "set_study_user_attr", "set_trial_user_attr",
    "set_trial_state_values", "set_trial_intermediate_value",
)  # fmt: skip


class Clock:
    def __init__(self, monkeypatch):
        self.now, self.waits = 0.0, []
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(patience.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Flaky:
    """Passes calls on to a storage in memory; some fail before it is called, some after."""

    def __init__(self, plan):
        self.real, self.plan, self.failed = InMemoryStorage(), plan, 0

    def __getattr__(self, name):
        method = getattr(self.real, name)

        def call(*args, **more):
            when = next(self.plan) if name in WRITES or name.startswith("get_") else None
            if when == "before":
                self.failed += 1
                raise Unreachable
            answer = method(*args, **more)
            if when == "after":
                self.failed += 1
                raise Unreachable
            return answer

        return call


def patient(plan, limit_s=300.0, heard=None):
    backend = Flaky(iter(plan))
    notify = heard.append if heard is not None else None
    return PatientStorage(backend, Patience("db", "/folder", limit_s, notify), lambda _: None)


def at_random(seed):
    chance = random.Random(seed)
    while True:
        yield chance.choice(["before", "after", None, None, None])


@pytest.mark.parametrize("seed", range(8))
def test_a_study_comes_out_the_same_whatever_is_lost(study, tmp_path, clock, seed):
    """Lost before it was done, lost after it was done: no trial is missing and none is there twice."""
    config = study(trials=8)
    seen = []
    for name, plan in (("flaky", at_random(seed)), ("sound", itertools.repeat(None))):
        storage, paths = patient(plan), StudyPaths(tmp_path / name)
        ledger = Ledger(config, paths, storage, "me")
        while (assignment := ledger.next()) is not None:
            result = objective(assignment)
            result.write(paths.trial(assignment.arm, assignment.number).result)
            ledger.finish(assignment, result)
        seen.append([
            [(t.number, t.state, t.values, t.params, t.user_attrs, t.intermediate_values)
             for t in optuna.load_study(study_name=f"s/{arm}", storage=storage._backend.real).trials]
            for arm in config.arms
        ])  # fmt: skip
    assert seen[0] == seen[1]
    assert [len(trials) for trials in seen[0]] == [8, 8]
    assert len(clock.waits) > 20


def test_waits_double_and_end_in_one_message(clock):
    heard = []
    storage = patient(itertools.repeat("before"), 100.0, heard)
    with pytest.raises(UnfinishedError) as caught:
        storage.get_all_studies()
    assert str(caught.value).splitlines() == [
        "the storage cannot be reached: db, tried for 100 s",
        "  kept:  everything finished, in /folder",
        "  next:  run the same command again when the storage answers",
    ]
    assert caught.value.__context__ is None
    assert clock.waits[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert sum(clock.waits) == pytest.approx(100.0)
    assert heard == ["the storage cannot be reached: db; trying again for up to 100 s"]


def test_the_user_hears_once_that_it_is_back(clock):
    heard = []
    storage = patient(["before"] * 3 + [None] * 5, 100.0, heard)
    storage.get_all_studies()
    storage.get_all_studies()
    assert heard == [
        "the storage cannot be reached: db; trying again for up to 100 s",
        "the storage answers again, after 4 s",
    ]


def test_without_patience_nothing_is_tried_again(clock):
    heard = []
    with pytest.raises(UnfinishedError):
        patient(["before", None], 0.0, heard).get_all_studies()
    assert (clock.waits, heard) == ([], [])


def test_what_is_wrong_is_not_tried_again(clock):
    """A finished trial told of another end is a mistake, and not one of the connection."""
    storage = patient(itertools.repeat(None))
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    done = storage.create_new_trial(study, create_trial(state=OptunaState.COMPLETE, value=1.0))
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(done, OptunaState.COMPLETE, [1.0])
    with pytest.raises(KeyError):
        storage.get_trial(99)
    storage._backend.plan = iter(["before", None, None])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(done, OptunaState.COMPLETE, [2.0])


def test_a_write_under_way_is_waited_for_before_it_is_repeated(clock):
    """The answer to a commit was lost, and the server is still at it when it is asked."""
    settled = []
    backend = Flaky(itertools.repeat(None))
    storage = PatientStorage(backend, Patience("db", "", 60.0, None), settled.append)
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    first = storage.create_new_trial(study)
    backend.plan = iter([None, "before", None])  # count, create, count again

    def arrives(study_id):
        settled.append(study_id)
        backend.real.create_new_trial(study_id)

    storage._settle = arrives
    second = storage.create_new_trial(study)
    assert settled == [study]
    assert [t._trial_id for t in backend.real.get_all_trials(study)] == [first, second]
