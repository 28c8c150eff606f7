import math
import random

import optuna
import pytest

from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import open_storage, optuna_name, read_trials
from gsvae_tune.study.loading import parse
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)

PAIR = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "tau_start": {"low": 0.1, "high": 4.0, "log": True},
    "tau_min": {"low": 0.05, "high": "tau_start", "log": True},
    "tau_max": {"low": "tau_start", "high": 5.0, "log": True},
    "rule_a": ["cool", "hold", "exponential"],
    "factor_a": {"low": 0.5, "high": 0.98, "when": {"rule_a": "cool"}},
    "rate_a": {"low": 1e-4, "high": 1e-2, "log": True, "when": {"rule_a": ["exponential"]}},
    "period": {"low": 1, "high": 10},
    "collapse_guard": [True, False],
}
FIXED = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "factor_a": {"low": 0.8, "high": 1.0},
}


@pytest.fixture
def study():
    """A study of both arms; keyword arguments are keys of `search`."""

    def build(pair=None, protocol=None, **search):
        raw = {
            "name": "s",
            "arms": {"pair": {"space": pair or PAIR}, "fixed-factor": {"space": FIXED}},
            "search": {"trials": 10, **search},
            "protocol": protocol or {"until": "search"},
        }
        return parse(raw, "test")

    return build


def objective(assignment):
    """Analytic, cheap, with a best point inside the space; a share of trials fails."""
    tau = assignment.params.get("tau_start", assignment.params.get("factor_a", 1.0))
    value = (
        20 + math.log(tau / 0.4) ** 2 + abs(math.log10(assignment.params["learning_rate"]) + 2.5)
    )
    if assignment.number % 7 == 5:
        return TrialResult(TrialState.FAILED, None, "diverged: branch a", 3, 30, 0.0, "cpu")
    if assignment.number % 7 == 6:
        return TrialResult(TrialState.PRUNED, value + 5, None, 3, 30, 0.0, "cpu")
    return TrialResult(TrialState.COMPLETE, value, None, 9, 90, 0.0, "cpu")


def name_of(assignment):
    phase = () if assignment.phase == "search" else (assignment.phase,)
    return (assignment.arm, *phase, assignment.number)


class Simulation:
    """A driver without Ray: slots train at random speed; it can be killed anywhere."""

    def __init__(self, config, folder, slots=2, seed=0):
        self.config, self.paths = config, StudyPaths(folder)
        self.paths.root.mkdir(exist_ok=True)
        self.slots, self.random = slots, random.Random(seed)
        self.started = []

    def run(self, stop_after=None):
        """Run to the end, or drop dead after so many events."""
        ledger = Ledger(self.config, self.paths, open_storage(None, self.paths), "me")
        running, events = [], 0
        while True:
            while len(running) < self.slots and (assignment := ledger.next()) is not None:
                self.started.append(name_of(assignment))
                running.append(assignment)
                events += 1
                if events == stop_after:
                    return False
            if not running:
                assert not ledger.remaining
                return True
            done = running.pop(self.random.randrange(len(running)))
            result = objective(done)
            result.write(self.paths.trial(done.arm, done.number, done.phase).result)
            events += 1
            if events == stop_after:
                return False  # between the result and the ledger hearing of it
            ledger.finish(done, result)

    def trials(self):
        return list(read_trials(self.config, self.paths, open_storage(None, self.paths), "me"))

    def told(self, phase="search"):
        return {
            arm: [
                (t.number, t.state.name, t.value, t.params, t.user_attrs, t.intermediate_values)
                for t in optuna.load_study(
                    study_name=optuna_name("s", arm, phase),
                    storage=open_storage(None, self.paths),
                ).trials
            ]
            for arm in self.config.arms
        }


@pytest.fixture
def simulate(tmp_path):
    def build(config, name="one", **more):
        return Simulation(config, tmp_path / name, **more)

    return build
