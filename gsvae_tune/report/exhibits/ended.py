"""The trials of the search as the exhibits of sensitivity count them: failed ones among them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from gsvae_tune.report.estimates.marginal import fence
from gsvae_tune.report.exhibits.exhibit import listed, require_trials
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.search.ledger import RANDOM_STRATUM
from gsvae_tune.study.records import TrialState

SOUND = 8  # random trials from which they are summed up by themselves


def ended(study: LoadedStudy) -> dict[str, pd.DataFrame]:
    """Return each arm's trials of the search that ran to their end, or failed.

    Columns number, value (nats; NaN where it failed), failed, random, and the settings that the arm
    searches. Arms with fewer than `ENOUGH` values are left out.

    Raises:
        NothingToShow: no arm has so many.
    """
    return require_trials({arm: _ended(study, arm) for arm in study.searched_arms})


def _ended(study: LoadedStudy, arm: str) -> pd.DataFrame:
    table = study.trials
    own = table[(table.arm == arm) & (table.phase == "search")]
    own = own[own.state.isin([TrialState.COMPLETE.value, TrialState.FAILED.value])]
    value = own.value.where(np.isfinite(own.value) & (own.state == TrialState.COMPLETE.value))
    names = [setting.name for setting in study.settings[arm]]
    columns = {
        "number": own.number, "value": value, "failed": value.isna(),
        "random": (own.stratum == RANDOM_STRATUM).fillna(value=False).astype(bool),
    }  # fmt: skip
    settings = {
        name: own.get(f"param_{name}", pd.Series(np.nan, index=own.index)) for name in names
    }
    return pd.DataFrame(columns | settings).sort_values("number").reset_index(drop=True)


def cut(frames: Mapping[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], float]:
    """Return the frames with what is drawn and averaged, and the loss at the top of the axes, nats.

    New columns: loss_nats, at most that top, and the top itself for failed trials; beyond, whether
    a loss was cut. The top is the `fence` of all arms' losses together, or that of the random
    trials if it is higher: a sampler's many good trials do not put the random ones out of sight.
    """
    values = np.concatenate([frame.value for frame in frames.values()])
    random = values[np.concatenate([frame.random for frame in frames.values()])]
    top = fence(values)
    if np.isfinite(random).sum() >= SOUND:
        top = max(top, fence(random))
    return {
        arm: frame.assign(
            loss_nats=frame.value.fillna(np.inf).clip(upper=top), beyond=frame.value > top
        )
        for arm, frame in frames.items()
    }, top


def strata(own: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return what is summed up: the random trials if there are enough, and all if that is more.

    Args:
        own: trials with a column random.

    Returns:
        (`RANDOM_STRATUM` or "all", its trials); what findings speak of comes first.
    """
    random = own[own.random]
    found = [(RANDOM_STRATUM, random)] if len(random) >= SOUND else []
    return found if found and len(random) == len(own) else [*found, ("all", own)]


def counted(study: LoadedStudy, frames: Mapping[str, pd.DataFrame]) -> str:
    """Say how many trials of these arms there are, and what became of those without a loss."""
    sizes = {arm: len(frame) for arm, frame in frames.items()}
    if len(set(sizes.values())) == 1 and len(sizes) > 1:
        said = f"{next(iter(sizes.values())):,} trials of each arm"
    else:
        said = listed(f"{size:,} trials of {arm}" for arm, size in sizes.items())
    own = study.trials[study.trials.arm.isin(list(sizes)) & (study.trials.phase == "search")]
    failed = sum(int(frame.failed.sum()) for frame in frames.values())
    pruned = int((own.state == TrialState.PRUNED.value).sum())
    running = int((own.state == TrialState.RUNNING.value).sum())
    said += f", {failed:,} of them failed" if failed else ""
    said += f"; {pruned:,} more were stopped early and have no full loss" if pruned else ""
    said += f"; {running:,} more have not ended yet" if running else ""
    return said + "."


def left_out(study: LoadedStudy, frames: Mapping[str, pd.DataFrame]) -> str:
    """Name the arms without trials enough, whose failures would else go unsaid."""
    own = study.trials[study.trials.phase == "search"]
    left = []
    for arm in study.searched_arms:
        if arm not in frames:
            states = own.state[own.arm == arm]
            failed = int((states == TrialState.FAILED.value).sum())
            left.append(f"{arm} ({len(states)}, of which {failed} failed)")
    return f" Too few trials to show: {listed(left)}." if left else ""


def at_the_edge(frames: Mapping[str, pd.DataFrame], top: float) -> str:
    """Say what stands at the top of the axes, in a sentence with a space before it, or nothing."""
    beyond = sum(int(frame.beyond.sum()) for frame in frames.values())
    failed = sum(int(frame.failed.sum()) for frame in frames.values())
    parts = []
    if beyond:
        largest = max(float(frame.value.max()) for frame in frames.values())
        parts.append(f"{beyond:,} larger losses (the largest {largest:,.4g})")
    if failed:
        parts.append(f"{failed:,} failed trials")
    return f" At the edge, and counted as {top:.4g} nats: {' and '.join(parts)}." if parts else ""


def failures(frames: Mapping[str, pd.DataFrame]) -> str:
    """Say how many trials failed, and what they count as; nothing where none did."""
    failed = {arm: int(frame.failed.sum()) for arm, frame in frames.items() if frame.failed.any()}
    if not failed:
        return ""
    start = " Failed trials count as losses, as bad as the worst shown: "
    if len(failed) > 4:
        return f"{start}{sum(failed.values()):,} of {sum(map(len, frames.values())):,}."
    said = listed(f"{arm} {count} of {len(frames[arm])}" for arm, count in failed.items())
    return f"{start}{said}."


def span(low: float, high: float) -> str:
    """Return "0.2 to 0.5", each end as `figured`; one value if they are equal."""
    ends = [figured(low), figured(high)]
    return " to ".join(ends) if ends[0] != ends[1] else f"about {ends[0]}"


def figured(value: float) -> str:
    """Return two figures of a value, without exponents from 100 on."""
    return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"
