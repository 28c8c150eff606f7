"""The epochs that exhibits draw: of the trial that stands for each arm, and of whole searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from gsvae_tune.report.estimates import traces
from gsvae_tune.report.exhibits.exhibit import NothingToShow
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.search.space import ArmSpace
from gsvae_tune.study.records import TrialState

MOST = 1_000  # trials of an arm whose epochs are looked at; of more, so many at random
_COLUMNS = [
    "number", "replicate", "branch", "epoch", "tau", "control_loss_discrete",
    "control_loss_relaxed", "event",
]  # fmt: skip
_DRAWN = ("tau_min", "tau_max", "coupling")  # settings that say how a trial's tau may move


@dataclass(frozen=True)
class Run:
    """The trial that stands for an arm: its finalist, or before a verdict its search's best."""

    arm: str
    number: int
    what: str  # "finalist", "best trial, confirmed" or "best trial of the search"
    paths: pd.DataFrame  # as `estimates.traces.living`, not empty
    ended: pd.DataFrame  # as `estimates.traces.endings`
    setting: pd.Series  # its `_DRAWN` settings

    @property
    def replicates(self) -> int:
        """Replicates that finished an epoch."""
        return int(self.paths["replicate"].nunique())

    @property
    def name(self) -> str:
        return f"{self.arm}'s {self.what} (#{self.number})"


@dataclass(frozen=True)
class Search:
    """The trials of an arm's search that completed or failed, as far as they recorded epochs."""

    arm: str
    losses: pd.Series  # validation loss by number, NaN: failed; of trials with a sound epoch
    paths: pd.DataFrame  # as `estimates.traces.living`
    ended: pd.DataFrame  # as `estimates.traces.endings`
    settings: pd.DataFrame  # the `_DRAWN` settings by number
    unrecorded: int  # trials without a sound epoch on record
    pruned: int  # trials stopped by the scheduler; not among them
    of: int  # trials before at most `MOST` were taken

    @cached_property
    def complete(self) -> pd.DataFrame:
        """The epochs of trials that ended with a value, without replicates that ended early."""
        kept = self.paths[self.paths["number"].isin(self.losses.dropna().index)]
        if self.ended.empty:
            return kept.reset_index(drop=True)
        keys = ["number", "replicate"]
        early = pd.MultiIndex.from_frame(self.ended[keys])
        return kept[~pd.MultiIndex.from_frame(kept[keys]).isin(early)].reset_index(drop=True)

    @property
    def whole(self) -> int:
        """How many trials ended with a value and have epochs."""
        return int(self.complete["number"].nunique())


class Recordings:
    """A study's epochs, arm by arm; each arm's are read once."""

    def __init__(self, study: LoadedStudy) -> None:
        self.study = study
        self._searches: dict[str, Search] = {}

    @cached_property
    def runs(self) -> list[Run]:
        """The trial that stands for each arm, in the study's order; arms without one are missing.

        Raises:
            NothingToShow: no arm has one.
        """
        self._require_epochs()
        found = [run for arm in self.study.arms if (run := self._run(arm)) is not None]
        if not found:
            raise NothingToShow(
                "No trial that ended with a value has an epoch on record in which its losses were "
                "finite."
            )
        return found

    def searches(self, least: int) -> list[Search]:
        """Return the searched arms of which at least so many trials have a value and epochs.

        Raises:
            NothingToShow: there is none.
        """
        self._require_epochs()
        found = [self._search(arm) for arm in self.study.searched_arms]
        enough = [search for search in found if search.whole >= least]
        if not enough:
            counts = ", ".join(f"{one.arm} {one.whole}" for one in found)
            raise NothingToShow(
                f"Too few trials ended with a value and have sound epochs on record: at least "
                f"{least} of an arm, and there are {counts}."
            )
        return enough

    def _require_epochs(self) -> None:
        if self.study.epochs.empty:
            raise NothingToShow(
                "This study is simulated: nothing was trained, and there are no epochs."
                if self.study.config.simulate
                else f"No epoch is on record, of {len(self.study.trials)} trials."
            )

    @cached_property
    def _places(self) -> dict[Any, Any]:
        return self.study.epochs.groupby(["arm", "phase"]).indices

    def _epochs(self, arm: str, phase: str, numbers: Sequence[int]) -> pd.DataFrame:
        places = self._places.get((arm, phase), np.empty(0, dtype=np.intp))
        of_trial = self.study.epochs["number"].to_numpy()[places]
        return self.study.epochs[_COLUMNS].take(places[np.isin(of_trial, numbers)])

    def _trials(self, arm: str, phase: str) -> pd.DataFrame:
        trials = self.study.trials
        return trials[(trials["arm"] == arm) & (trials["phase"] == phase)]

    def _run(self, arm: str) -> Run | None:
        found = self._standing(arm)
        if found is None:
            return None
        number, phase, what = found
        epochs = self._epochs(arm, phase, [number])
        ended = traces.endings(epochs)
        paths = traces.living(epochs, ended)
        setting = self._settings(self.study.original(arm), [number]).iloc[0]
        return None if paths.empty else Run(arm, number, what, paths, ended, setting)

    def _standing(self, arm: str) -> tuple[int, str, str] | None:
        """Return the number and phase of the trial that stands for an arm, and what it is."""
        verdict, original = self.study.verdict, self.study.original(arm)
        if verdict is not None and arm in verdict.arms:
            finalist = verdict.arms[arm].finalist
            if finalist is not None:
                return finalist.number, "confirm", "finalist"
        best = self.study.best(original)
        if best is None:
            return None
        again = self._trials(arm, "confirm")
        if ((again["number"] == best) & (again["state"] != TrialState.RUNNING.value)).any():
            return best, "confirm", "best trial, confirmed"
        return (best, "search", "best trial of the search") if arm == original else None

    def _search(self, arm: str) -> Search:
        if arm not in self._searches:
            self._searches[arm] = self._read(arm)
        return self._searches[arm]

    def _read(self, arm: str) -> Search:
        trials = self._trials(arm, "search")
        failed = trials["state"] == TrialState.FAILED.value
        valued = (trials["state"] == TrialState.COMPLETE.value) & trials["value"].notna()
        values = trials[valued | failed].set_index("number")["value"].where(
            valued[valued | failed].to_numpy()
        )  # fmt: skip
        of = len(values)
        if of > MOST:
            values = values.sample(MOST, random_state=np.random.default_rng(0)).sort_index()
        epochs = self._epochs(arm, "search", [int(number) for number in values.index])
        ended = traces.endings(epochs)
        paths = traces.living(epochs, ended)
        recorded = values[values.index.isin(paths["number"].unique())]
        return Search(
            arm=arm,
            losses=recorded,
            paths=paths,
            ended=ended,
            settings=self._settings(arm, [int(number) for number in recorded.index]),
            unrecorded=len(values) - len(recorded),
            pruned=int((trials["state"] == TrialState.PRUNED.value).sum()),
            of=of,
        )

    def _settings(self, arm: str, numbers: Sequence[int]) -> pd.DataFrame:
        """Return the settings that say how tau may move, of trials of a search; None: no such one.

        As the trial was trained: searched, fixed in the study, or left at their defaults.
        """
        space = ArmSpace(arm, self.study.config.arms[arm], str(self.study.paths.study))
        fields = space.arm.model_fields
        names = [name for name in _DRAWN if name in fields]
        columns = [f"param_{name}" for name in space.searched]
        rows = self._trials(arm, "search").set_index("number").reindex(columns=columns)
        rows = rows[rows.index.isin(numbers)] if names else rows.iloc[:0]
        found = {}
        for number, row in zip(rows.index, rows.itertuples(index=False), strict=True):
            drawn = dict(zip(space.searched, row, strict=True))
            params = {
                name: int(value) if fields[name].annotation is int else value
                for name, value in drawn.items()
                if not pd.isna(value)
            }
            try:
                settings = space.settings(params)
            except ValueError:  # drawn from a space that is no longer this one
                continue
            found[number] = {name: getattr(settings, name) for name in names}
        table = pd.DataFrame.from_dict(found, orient="index", columns=list(_DRAWN))
        table = table.reindex(list(numbers))
        return table.astype({"tau_min": "float64", "tau_max": "float64", "coupling": "object"})


def left_out(searches: Sequence[Search], arms: Sequence[str], least: int) -> str:
    """Return the end of a caption: what of the searches is not drawn; "" where nothing is missing.

    Args:
        searches: those that are drawn.
        arms: all searched arms.
        least: trials that an arm needs.
    """
    drawn = {search.arm for search in searches}
    few = [arm for arm in arms if arm not in drawn]
    pruned = sum(search.pruned for search in searches)
    blank = sum(search.unrecorded for search in searches)
    sampled = [search.arm for search in searches if search.of > MOST]
    notes = [
        (few, f"Not drawn, with fewer than {least} trials: {', '.join(few)}."),
        (pruned, f"Left out: {pruned} trials stopped early by the scheduler."),
        (blank, f"{blank} trials have no sound epoch on record."),
        (sampled, f"Of {', '.join(sampled)}, {MOST:,} trials drawn at random."),
    ]
    return " ".join(note for there, note in notes if there)
