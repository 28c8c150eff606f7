"""Tables of studies that are empty, broken or half done have the columns of a whole one."""

import pandas as pd

from gsvae_tune.report.tables import EPOCHS, REPLICATES, TRIALS, build, write
from gsvae_tune.search.storage import TrialRow
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import ReplicateResult, TrialResult, TrialState, keep_lines

RECORD = {
    "epoch": 1, "wall_s": 0.5, "steps": 10, "tau": [[1.0, 2.0]], "train_loss_relaxed": [[3.0, 4.0]],
    "train_loss_discrete": None, "control_loss_discrete": [[5.0, None]],
    "control_loss_relaxed": [[6.0, 7.0]], "control_kl_nats": [[0.1, 0.2]],
    "val_neg_elbo_nats": [[8.0, 9.0]], "kl_nats": [[0.3, 0.4]], "active_units": [[1, 2]],
    "event": ["A_WON"],
}  # fmt: skip


def row(number, state, **more):
    values = {"value": None, "params": {"learning_rate": 0.1}, "stratum": "random", "error": None}
    return TrialRow(arm="pair", phase="search", number=number, state=state, **(values | more))


def types(frame):
    return {name: str(kind) for name, kind in frame.dtypes.items()}


def test_no_trials_give_empty_tables_with_the_same_columns(tmp_path):
    tables = build([], StudyPaths(tmp_path))
    for name, columns in (("trials", TRIALS), ("replicates", REPLICATES), ("epochs", EPOCHS)):
        assert list(tables[name]) == list(columns)
        assert types(tables[name]) == columns
    write(tables, StudyPaths(tmp_path))
    assert len(pd.read_parquet(StudyPaths(tmp_path).table("epochs"))) == 0


def test_every_number_lands_in_its_row(tmp_path):
    paths = StudyPaths(tmp_path)
    for number in range(3):
        paths.trial("pair", number).root.mkdir(parents=True)
    sound = ReplicateResult(0, 7, "a", 8.0, 0.3, 1, False, False, None, 10)
    TrialResult(TrialState.COMPLETE, 8.0, None, 1, 10, 0.5, "cpu", [sound]).write(
        paths.trial("pair", 0).result
    )
    lost = ReplicateResult(0, 7, None, None, None, None, True, False, "diverged: ...", 10)
    TrialResult(TrialState.FAILED, None, "diverged", 1, 10, 0.5, "cpu", [lost]).write(
        paths.trial("pair", 1).result
    )
    keep_lines(paths.trial("pair", 0).epochs, [RECORD])
    tables = build(
        [
            row(2, TrialState.RUNNING, params={"period": 3}),
            row(1, TrialState.FAILED, error="diverged"),
            row(0, TrialState.COMPLETE, value=8.0),
        ],
        paths,
    )
    trials, replicates, epochs = (tables[name] for name in ("trials", "replicates", "epochs"))
    assert trials.number.tolist() == [0, 1, 2]
    assert trials.state.tolist() == ["complete", "failed", "running"]
    assert trials.value.isna().tolist() == [False, True, True]
    assert trials.param_learning_rate.isna().tolist() == [False, False, True]
    assert replicates.diverged.tolist() == [False, True]
    assert types(replicates) == REPLICATES
    a, b = epochs.to_dict("records")
    assert (a["branch"], a["tau"], a["train_loss_relaxed"], a["active_units"]) == ("a", 1.0, 3.0, 1)
    assert (b["branch"], b["tau"], b["val_neg_elbo_nats"], b["kl_nats"]) == ("b", 2.0, 9.0, 0.4)
    assert pd.isna(b["control_loss_discrete"])
    assert epochs.train_loss_discrete.isna().all()
