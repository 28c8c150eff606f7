"""The verdict as a user reads it in the terminal: finalists, differences, reasons, compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gsvae_tune.report.summary import StudyStatus, settings_table, shown
from gsvae_tune.report.verdict import MEASURED, Comparison, Finalist, Verdict
from gsvae_tune.study.parameters import Scalar

_ABREAST = 4  # configurations beside each other in 80 columns


def verdict_tables(
    verdict: Verdict, seen: StudyStatus, trials: pd.DataFrame
) -> Iterator[RenderableType]:
    """Yield what `gsvae-tune run` prints at the end: finalists, verdicts, reasons, compute."""
    yield _finalists(verdict)
    yield from _settings(verdict, seen, trials)
    if verdict.comparisons:
        yield _differences(verdict)
    for one in verdict.comparisons:
        yield (
            f"[bold]{one.arm} - {one.baseline}: {one.verdict}.[/bold] {escape(one.reason)}"
            f"{_other_than_finalist(verdict, one)}"
        )
    if not verdict.comparisons:
        yield "One arm alone: there is nothing to compare it with."
    yield _measured(verdict)
    yield _compute(verdict)
    yield _winners_curse(verdict, seen)
    if seen.simulated:
        yield f"[bold]Nothing was trained[/bold]: the numbers come from {escape(seen.simulated)}."
    else:
        yield _legend(verdict)


def _other_than_finalist(verdict: Verdict, one: Comparison) -> str:
    """Say so where it is not the finalists that are compared."""
    finalist = verdict.arms[one.arm].finalist
    if finalist is None or one.arm_trial == finalist.number:
        return ""
    return f" (On trial #{one.arm_trial}, which the search liked best.)"


def _settings(
    verdict: Verdict, seen: StudyStatus, trials: pd.DataFrame
) -> Iterator[RenderableType]:
    settings = {
        f"{name} #{arm.finalist.number}": _params(trials, name, arm.finalist)
        for name, arm in verdict.arms.items()
        if arm.finalist is not None and seen.arms[name].budget
    }
    if len(settings) <= _ABREAST:
        yield settings_table("their settings", settings)
        return
    yield "their settings"
    for heading, params in settings.items():
        yield f"  {heading}: " + ", ".join(f"{escape(k)} {shown(v)}" for k, v in params.items())


def _differences(verdict: Verdict) -> Table:
    table = Table(title="verdicts", title_justify="left")
    for column in ("comparison", "difference (nats)", "p", "verdict"):
        left = column in ("comparison", "verdict")
        table.add_column(
            column, justify="left" if left else "right", no_wrap=column != "comparison"
        )
    for one in verdict.comparisons:
        style = {"supported": "bold green", "not supported": "yellow"}.get(one.verdict, "")
        table.add_row(
            f"{one.arm} - {one.baseline}",
            _with_interval(one),
            "-" if one.p_holm is None else f"{one.p_holm:.2g}",
            one.verdict,
            style=style,
        )
    return table


def _finalists(verdict: Verdict) -> Table:
    name = "IWAE bound" if verdict.metric == "test_iwae_nats" else "ELBO"
    table = Table(
        title=f"finalists: negative {name} with one-hot codes, nats; lower is better",
        title_justify="left",
    )
    for column in ("arm", "trial", "searched", "fresh seeds", "test", "±", "failed"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, known in verdict.arms.items():
        best = known.finalist
        if best is None:
            table.add_row(arm, *"------")
            continue
        table.add_row(
            arm,
            f"#{best.number}",
            _plain(best.search_nats),
            _plain(best.confirmed_nats),
            _plain(best.test_nats),
            _plain(best.test_sd_nats),
            f"{best.failed} of {best.replicates}" if best.failed else "-",
        )
    return table


def _measured(verdict: Verdict) -> Table:
    """The codes behind the losses: means over the finalists' sound replicates."""
    found = {arm: known.finalist.on_test for arm, known in verdict.arms.items() if known.finalist}
    samples = [v["iwae_samples"] for v in found.values() if v["iwae_samples"] is not None]
    iwae = f"IWAE-{min(samples):g}" if samples else "IWAE"
    table = Table(title="finalists on the test split, nats", title_justify="left")
    for column in ("arm", "neg. ELBO", iwae, "KL", "active", "used", "sharp", "gap"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, values in found.items():
        shown = [values[name] for name in MEASURED if name != "iwae_samples"]
        digits = (3, 3, 2, 1, 1, 2, 3)
        table.add_row(
            arm, *("-" if v is None else f"{v:.{n}f}" for v, n in zip(shown, digits, strict=True))
        )
    table.caption = (
        "active: latents that change with the image. used: categories of a latent in use. sharp: "
        "share of relaxed samples within 0.2 of one-hot. gap: what the loss with relaxed "
        "codes differs by, which is why nothing is ranked on it."
    )
    table.caption_justify = "left"
    return table


def _winners_curse(verdict: Verdict, seen: StudyStatus) -> str:
    curses = [
        f"{arm} {known.finalist.winners_curse_nats:+.3f}"
        for arm, known in verdict.arms.items()
        if known.finalist
        and known.finalist.winners_curse_nats is not None
        and seen.arms[arm].budget
    ]
    orders = [
        f"{arm} {known.rank_stability:+.3g}"
        for arm, known in verdict.arms.items()
        if known.rank_stability is not None and seen.arms[arm].budget
    ]
    kept = (
        f" Order of the confirmed kept (+1) or turned (-1): {', '.join(orders)}." if orders else ""
    )
    return f"Winner's curse, fresh seeds minus search: {', '.join(curses) or '-'}.{kept}"


def _compute(verdict: Verdict) -> Table:
    table = Table(title="what each arm was given", title_justify="left")
    for column in ("arm", "tried", "confirmed", "steps", "samples", "device-s"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, known in verdict.arms.items():
        given = known.compute
        table.add_row(
            arm,
            *(
                f"{n:,}"
                for n in (given.configurations, given.confirmed, given.steps, given.samples)
            ),
            f"{given.device_seconds:,.0f}",
        )
    return table


def _legend(verdict: Verdict) -> str:
    seen = "which nothing had seen" if verdict.reopened is None else "not for the first time"
    level = 100 * (1 - verdict.alpha / max(1, len(verdict.comparisons)))
    return (
        "Each arm's best configurations were trained again on fresh seeds and measured on the test "
        f"split, {seen}. A difference below 0: the first is better. In brackets its {level:.4g} % "
        "interval over seeds and over what searching again may change; p over seeds alone, by the "
        f"sign-flip test, Holm over {len(verdict.comparisons)}. [bold]supported[/bold]: better, "
        "beyond both. [bold]not supported[/bold]: worse, or no gain that matters. "
        "[bold]inconclusive[/bold]: neither can be said."
    )


def _params(trials: pd.DataFrame, arm: str, finalist: Finalist) -> dict[str, Scalar]:
    row = trials[(trials.arm == arm) & (trials.phase == "search")].set_index("number")
    settings: dict[Any, Any] = row.loc[finalist.number].filter(like="param_").dropna().to_dict()
    return {key.removeprefix("param_"): value for key, value in settings.items()}


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _with_interval(one: Comparison) -> str:
    if one.effect_nats is None or one.wide_low is None:
        return "-" if one.effect_nats is None else f"{one.effect_nats:+.3f} [?]"
    return escape(f"{one.effect_nats:+.3f} [{one.wide_low:+.3f}, {one.wide_high:+.3f}]")
