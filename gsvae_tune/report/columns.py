"""Every column of a study's tables: its type, its unit, what it means.

The tables are built after these; `gsvae-tune columns` and the report's page print them. Beside
them the table of trials has a column ``param_NAME`` for each setting that an arm searches, with
the type of its values and empty where a trial's arm does not search it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gsvae_tune.search.arms import ARMS

NATS = "nats/example"


@dataclass(frozen=True)
class Column:
    """One column; a unit of "" is a name, a count or a pure number."""

    dtype: str  # pandas's
    unit: str
    meaning: str


_KEY = {
    "arm": Column("string", "", "the training method, by its name in the study"),
    "phase": Column(
        "string", "", "search, or confirm: a trial trained again on fresh seeds under its number"
    ),
    "number": Column("int64", "", "the trial's number in its arm, from 0, in order of suggestion"),
}
_REPLICATE = Column(
    "int64", "", "place of the seed in the trial, from 0; the same seed in all arms"
)
_STEPS = "optimizer steps of each of its two members"

TABLES: dict[str, dict[str, Column]] = {
    "trials": _KEY
    | {
        "stratum": Column(
            "string", "", "where the configuration comes from: random, the sampler's name, confirm"
        ),
        "state": Column(
            "string", "",
            "complete, pruned (stopped early by the scheduler), failed, or running (not ended yet)",
        ),
        "value": Column(
            "float64", NATS,
            "what ranks trials, lower is better: negative ELBO with one-hot codes on the "
            "validation split, of each replicate's best_branch, mean over replicates",
        ),
        "epochs": Column("Int64", "epochs", "epochs that it trained"),
        "steps": Column("Int64", "steps", _STEPS),
        "wall_s": Column(
            "float64", "s", "seconds of training, interruptions not counted; simulated ones too"
        ),
        "ended_s": Column(
            "float64", "s", "when it ended: since 1970 (UTC); simulated: since the study's start"
        ),
        "device": Column("string", "", "what it trained on: a GPU's name, or cpu"),
        "compiled": Column("string", "", "yes, or no and why: whether torch.compile was used"),
        "fault": Column(
            "string", "",
            "kind of fault: diverged, collapsed, device_memory, host_memory, node_lost, "
            "time_limit, error; empty: none",
        ),
        "error": Column("string", "", "the fault in a sentence, with what is known of it"),
        "note": Column("string", "", "what went wrong on the way and was mended"),
    },
    "replicates": _KEY
    | {
        "replicate": _REPLICATE,
        "seed": Column("int64", "", "all that is random in the replicate follows from it"),
        "best_branch": Column(
            "string", "",
            "a or b: the lower one-hot loss on the control split at the end; empty: it ended early",
        ),
        "val_neg_elbo_nats": Column(
            "float64", NATS, "negative ELBO of that branch, one-hot codes, validation split"
        ),
        "test_neg_elbo_nats": Column(
            "float64", NATS, "the same on the test split; of confirmed trials, once it was opened"
        ),
        "test_iwae_nats": Column(
            "float64", NATS, "negative IWAE bound of that branch, one-hot codes, test split"
        ),
        "iwae_samples": Column("Int64", "samples/image", "samples in that bound"),
        "kl_nats": Column("float64", NATS, "KL term of that branch, validation split"),
        "active_units": Column(
            "Int64", "latents", "latents of that branch whose code changes with the image, "
            "validation split",
        ),
        "test_kl_nats": Column("float64", NATS, "KL term of that branch, test split"),
        "test_active_units": Column("Int64", "latents", "active_units on the test split"),
        "tau": Column("float64", "", "temperature of that branch in the last epoch"),
        "code_perplexity": Column(
            "float64", "categories",
            "categories of a latent in use on the test split, 1 to all, mean over latents",
        ),
        "vertex_share": Column(
            "float64", "",
            "share, 0 to 1, of relaxed samples within 0.2 of a one-hot code, test split",
        ),
        "relaxed_gap_nats": Column(
            "float64", NATS, "relaxed minus one-hot negative ELBO at tau, test split"
        ),
        "test_reopened": Column(
            "string", "", "why the test split was opened again for it; empty: it was shut before"
        ),
        "diverged": Column("bool", "", "a loss was not finite and the replicate ended"),
        "collapsed": Column("bool", "", "at the end its codes carried no information"),
        "ended": Column("string", "", "why it ended early; empty: it did not"),
        "steps": Column("int64", "steps", _STEPS),
        "init_hash": Column(
            "string", "", "of its initial weights; equal hashes prove that seeds are paired"
        ),
        "order_hash": Column("string", "", "of the order of its images in all epochs"),
        "noise_hash": Column("string", "", "of its Gumbel noise, the first step of each epoch"),
    },
    "epochs": _KEY
    | {
        "replicate": _REPLICATE,
        "branch": Column("string", "", "a or b: which of the two members"),
        "epoch": Column("int64", "epochs", "which epoch, from 1"),
        "tau": Column(
            "float64", "", "temperature the epoch was trained at; a learned one: at its start"
        ),
        "train_loss_relaxed": Column(
            "float64", NATS, "mean training loss, relaxed codes; empty for one-hot estimators"
        ),
        "train_loss_discrete": Column(
            "float64", NATS, "mean training loss, one-hot codes; empty for relaxed estimators"
        ),
        "control_loss_discrete": Column(
            "float64", NATS,
            "negative ELBO, one-hot codes, control split: what the controller is told, by default",
        ),
        "control_loss_relaxed": Column(
            "float64", NATS, "negative ELBO, relaxed codes at tau, control split"
        ),
        "control_kl_nats": Column("float64", NATS, "KL term, control split"),
        "val_neg_elbo_nats": Column(
            "float64", NATS, "negative ELBO, one-hot codes, validation split"
        ),
        "kl_nats": Column("float64", NATS, "KL term, validation split"),
        "active_units": Column(
            "Int64", "latents", "latents whose code changes with the image, validation split"
        ),
        "event": Column(
            "string", "",
            "what the controller did after the epoch, for both branches: A_WON, B_WON, TIE, "
            "WAITED, COLLAPSED, SCHEDULED, REPLAYED, WALKED, LEARNED, ENDED",
        ),
        "steps": Column("int64", "steps", "optimizer steps of the member so far"),
        "wall_s": Column(
            "float64", "s", "seconds since the trial began, interruptions not counted"
        ),
    },
}  # fmt: skip

PARAM = "param_"  # how a column of a searched setting begins
_UNITS = {
    "period": "epochs", "margin": NATS, "rate_a": "1/step",
    "rate_b": "1/step", "refresh_steps": "steps", "rao_samples": "samples",
}  # fmt: skip


def types(table: str) -> dict[str, str]:
    """Return the pandas type of each column that the table always has, in order."""
    return {name: column.dtype for name, column in TABLES[table].items()}


def settings() -> dict[str, Column]:
    """Return the columns ``param_NAME`` that the table of trials may have, by name.

    A setting means what its arm's documentation says; where arms differ, each is said.
    """
    found: dict[str, dict[str, list[str]]] = {}
    dtypes: dict[str, str] = {}
    for method, arm in ARMS.items():
        for name, field in arm.model_fields.items() if arm.searched else ():
            found.setdefault(name, {}).setdefault(str(field.description), []).append(method)
            dtypes[name] = _dtype(field.annotation)
    return {
        f"{PARAM}{name}": Column(dtypes[name], _UNITS.get(name, ""), _said(meanings))
        for name, meanings in found.items()
    }


def _said(meanings: dict[str, list[str]]) -> str:
    if len(meanings) == 1:
        return next(iter(meanings))
    return "; ".join(f"{', '.join(arms)}: {meaning}" for meaning, arms in meanings.items())


def _dtype(annotation: object) -> str:
    """Return the type of a column in which every trial of the study has a value."""
    kinds = {bool: "bool", int: "int64", float: "float64"}
    return next((name for kind, name in kinds.items() if annotation is kind), "str")
