"""What went wrong in a study, for the reader of its result: a line a kind of fault."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gsvae_tune.study.faults import Fault

_NAMED = 4  # trials of a kind


def trouble_tables(trials: pd.DataFrame) -> Iterator[RenderableType]:
    """Yield what `gsvae-tune run` prints of trials that failed, collapsed or were mended.

    Args:
        trials: the table of that name.
    """
    found = trials[trials.fault.notna()]
    if len(found):
        table = Table(title="what went wrong", title_justify="left")
        table.add_column("fault")
        table.add_column("trials", justify="right")
        table.add_column("which, and what is known of the first")
        for key, rows in found.groupby("fault"):
            names = ", ".join(name_of(row) for row in rows.head(_NAMED).itertuples())
            more = ", ..." if len(rows) > _NAMED else ""
            fault = Fault[str(key).upper()]
            known = rows.error.dropna().head(1).str.removeprefix(f"{fault.value}; ").tolist()
            detail = f": {known[0]}" if known else ""
            table.add_row(fault.value, str(len(rows)), escape(f"{names}{more}{detail}"))
        yield table
    lost = trials[trials.error.notna() & trials.fault.isna() & (trials.state == "complete")]
    for row in lost.itertuples():
        yield escape(
            f"note: {name_of(row)}: {row.error}; gsvae-tune doctor DIR --fix may bring it back"
        )
    for row in trials[trials.note.notna()].itertuples():
        yield escape(f"note: {name_of(row)}: {row.note}")


def name_of(row: object) -> str:
    arm, phase, number = (getattr(row, key) for key in ("arm", "phase", "number"))
    return f"{arm} {'' if phase == 'search' else f'{phase} '}#{number}"
