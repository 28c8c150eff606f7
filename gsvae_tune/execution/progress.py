"""What the user sees while a study runs: a live table, or plain lines without a terminal."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from gsvae_tune.study.config import Phase, StudyConfig
from gsvae_tune.study.records import TrialResult, TrialState

PLAIN_S = 15.0  # seconds between plain lines while nothing ends


@dataclass(frozen=True)
class Which:
    """A trial's name."""

    arm: str
    phase: Phase
    number: int

    def __str__(self) -> str:
        return f"{'' if self.phase == 'search' else self.phase + ' '}#{self.number}"


@dataclass
class ArmProgress:
    """One arm: its trials and confirmations, how many ended, the best of the search so far."""

    budget: int  # trials of the search
    to_confirm: int
    ended: int = 0
    confirmed: int = 0
    failed: int = 0
    best: float | None = None
    best_number: int | None = None

    def add(self, which: Which, state: TrialState, value: float | None) -> None:
        self.failed += state is TrialState.FAILED
        if which.phase != "search":
            self.confirmed += 1
            return
        self.ended += 1
        better = value is not None and (self.best is None or value < self.best)
        if state is TrialState.COMPLETE and better:
            self.best, self.best_number = value, which.number


@dataclass
class RunningTrial:
    which: Which
    begun_at: int | None = None  # epochs done when this run took it up
    trained: float = 0.0  # epochs, the share of the one under way included
    value: float | None = None
    tau_a: float | None = None
    tau_b: float | None = None


class StudyProgress:
    """The state of a run, and its picture."""

    def __init__(self, config: StudyConfig, arms: dict[str, ArmProgress], slots: int) -> None:
        self.name, self.arms, self.slots = config.name, arms, slots
        self.epochs = config.training.epochs
        # What an epoch of a trial costs, in epochs of one replicate.
        self._cost: dict[Phase, int] = {
            "search": config.replicates,
            "confirm": config.protocol.replicates,
        }
        self.running: dict[Which, RunningTrial] = {}
        self._began = time.monotonic()
        self._trained = 0.0  # by this run, in ended trials; epochs of one replicate

    def started(self, which: Which) -> None:
        self.running[which] = RunningTrial(which)

    def reported(self, which: Which, report: dict[str, Any]) -> None:
        trial = self.running.setdefault(which, RunningTrial(which))
        if trial.begun_at is None:
            trial.begun_at = math.floor(report["trained"])
        trial.trained, trial.value = report["trained"], report["value"]
        trial.tau_a, trial.tau_b = report["tau_a"], report["tau_b"]

    def ended(self, which: Which, result: TrialResult) -> None:
        trial = self.running.pop(which, None)
        begun_at = (trial and trial.begun_at) or 0
        self._trained += max(0, result.epochs - begun_at) * self._cost[which.phase]
        self.arms[which.arm].add(which, result.state, result.value)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the pace so far; None before there is one."""
        running = list(self.running.values())
        done = self._trained + sum(
            (t.trained - (t.begun_at or 0)) * self._cost[t.which.phase] for t in running
        )
        left: float = self.epochs * sum(
            (arm.budget - arm.ended) * self._cost["search"]
            + (arm.to_confirm - arm.confirmed) * self._cost["confirm"]
            for arm in self.arms.values()
        )
        left -= sum(trial.trained * self._cost[trial.which.phase] for trial in running)
        return None if done == 0 else max(0.0, self.elapsed_s * left / done)

    def line(self) -> str:
        """One plain line."""
        arms = ", ".join(
            name
            + (f" {arm.ended}/{arm.budget}" if arm.budget else "")
            + (f" best {arm.best:.3f}" if arm.best else "")
            + (f" confirmed {arm.confirmed}/{arm.to_confirm}" if arm.to_confirm else "")
            for name, arm in self.arms.items()
        )
        return f"{arms}; running {len(self.running)}; {self._times()}"

    def _times(self) -> str:
        eta = self.eta_s
        left = "estimating what is left" if eta is None else f"about {duration(eta)} left"
        return f"{duration(self.elapsed_s)} elapsed, {left}"

    def __rich__(self) -> Group:
        arms = Table(title=f"study {escape(self.name)}", title_justify="left", expand=False)
        for column in ("arm", "", "trials", "confirmed", "failed", "best (nats)", "trial"):
            arms.add_column(column, justify="left" if column in ("arm", "") else "right")
        for name, arm in self.arms.items():
            arms.add_row(
                name,
                ProgressBar(
                    total=max(1, arm.budget + arm.to_confirm),
                    completed=arm.ended + arm.confirmed,
                    width=24,
                ),
                f"{arm.ended}/{arm.budget}" if arm.budget else "-",
                f"{arm.confirmed}/{arm.to_confirm}" if arm.to_confirm else "-",
                str(arm.failed) if arm.failed else "-",
                "-" if arm.best is None else f"{arm.best:.3f}",
                "-" if arm.best_number is None else f"#{arm.best_number}",
            )
        running = Table(title="running", title_justify="left", expand=False)
        for column in ("arm", "trial", "epoch", "tau a", "tau b", "neg. ELBO (nats)"):
            running.add_column(column, justify="left" if column == "arm" else "right")
        for trial in list(self.running.values())[:12]:
            running.add_row(
                trial.which.arm,
                str(trial.which),
                f"{math.floor(trial.trained)}/{self.epochs}",
                *(
                    "-" if v is None else f"{v:.3f}"
                    for v in (trial.tau_a, trial.tau_b, trial.value)
                ),
            )
        return Group(arms, running, Text(self._times()))


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class View(Protocol):
    """Shows a run; a context manager around it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def changed(self, ended: tuple[Which, TrialResult] | None = None) -> None:
        """Called after every change of the state; ``ended`` is a trial that just ended."""


class LiveView:
    """A table that renews itself, for a terminal."""

    def __init__(self, progress: StudyProgress, console: Console) -> None:
        # get_renderable: the table is drawn when it is shown, not at every report.
        self._live = Live(
            console=console, refresh_per_second=4, get_renderable=progress.__rich__, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def changed(self, ended: tuple[Which, TrialResult] | None = None) -> None:
        pass


class PlainView:
    """A line for each trial that ends, and one now and then, for logs."""

    def __init__(self, progress: StudyProgress, console: Console) -> None:
        self._progress, self._console = progress, console
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def changed(self, ended: tuple[Which, TrialResult] | None = None) -> None:
        if ended is not None:
            which, result = ended
            value = "" if result.value is None else f" {result.value:.3f} nats"
            why = "".join(f" ({said})" for said in (result.error, result.note) if said)
            self._say(f"{which.arm} {which} {result.state.value}{value}{why}")
        if ended is not None or time.monotonic() - self._shown > PLAIN_S:
            self._say(self._progress.line())
            self._shown = time.monotonic()

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def make_view(progress: StudyProgress, console: Console) -> View:
    return (LiveView if console.is_terminal else PlainView)(progress, console)
