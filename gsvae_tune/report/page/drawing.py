"""Drawing all figures of a report, in as many processes as there are cores."""

from __future__ import annotations

import base64
import gc
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from gsvae_tune.report.exhibits import across
from gsvae_tune.report.exhibits.exhibit import Drawn, Exhibit
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.report.page.content import Content
from gsvae_tune.study.records import write_atomic

FAILED = "This figure could not be drawn, which should not have happened:"

# Beyond this a figure with thousands of points is smaller, and quicker to show, as pixels.
_LARGEST_SVG = 250_000  # bytes
_PER_INCH = 118  # pixels of the page
_TOGETHER = 3  # exhibits of a section in a row, drawn by one process
_MOST_PROCESSES = 4  # each holds the libraries, some 200 MB


@dataclass(frozen=True)
class Shown:
    """An exhibit as the page shows it."""

    key: str
    title: str
    reading: str
    finding: str
    caption: str  # n, intervals, what is left out: as it stands in the figure
    image: str | None  # a data URI; None: there is nothing to draw
    width: int = 0  # pixels
    height: int = 0


@dataclass(frozen=True)
class Plan:
    """All that a report draws: each study's exhibits, and those over all of them."""

    contents: list[Content]
    across: list[Exhibit]
    folder: Path | None  # in which the figures are written; None writes none
    kinds: Sequence[str]  # formats of those files: svg, png, pdf

    @classmethod
    def of(cls, studies: Sequence[LoadedStudy], folder: Path | None, kinds: Sequence[str]) -> Plan:
        over_all = list(across.exhibits(studies)) if len(studies) > 1 else []
        return cls([Content.of(study) for study in studies], over_all, folder, kinds)

    @property
    def exhibits(self) -> list[Exhibit]:
        """Those over all studies first, then study by study."""
        return [*self.across, *(one for content in self.contents for one in content.exhibits)]

    def groups(self) -> list[range]:
        """Return the places of exhibits that one process had better draw: neighbours share work."""
        sizes = [len(self.across)]
        sizes += [len(part.exhibits) for content in self.contents for part in content.parts]
        found, first = [], 0
        for size in sizes:
            last = first + size
            found += [range(n, min(n + _TOGETHER, last)) for n in range(first, last, _TOGETHER)]
            first = last
        return found

    def shown(self, place: int) -> Shown:
        """Draw the exhibit at this place of `exhibits` and write its files."""
        return encode(_drawn(self.exhibits[place]), self.folder, self.kinds)


def draw(plan: Plan, drawn: Callable[[str], None]) -> list[Shown]:
    """Draw all exhibits of a plan, in its order.

    Args:
        plan: what is to be drawn.
        drawn: called with each exhibit's title once it is there.
    """
    titles = [one.title for one in plan.exhibits]
    found: dict[int, Shown] = {}
    groups = plan.groups()
    processes = min(_MOST_PROCESSES, os.cpu_count() or 1, len(groups))
    if processes > 1:
        try:
            for places, shown in _in_processes(plan, groups, processes):
                found |= zip(places, shown, strict=True)
                for place in places:
                    drawn(titles[place])
        except (BrokenProcessPool, OSError):
            pass  # killed, or not let live: what is left is drawn here
    for place, title in enumerate(titles):
        if place not in found:
            found[place] = plan.shown(place)
            drawn(title)
    return [found[place] for place in range(len(titles))]


def _in_processes(
    plan: Plan, groups: Sequence[range], processes: int
) -> Iterator[tuple[range, list[Shown]]]:
    # A copy of this process has all that is loaded. Where other threads may hold locks (OpenMP's
    # too, which torch and scikit-learn use: the copy would hang), a fresh one loads it again.
    threads = threading.active_count() > 1 or {"torch", "sklearn"} & sys.modules.keys()
    may_fork = sys.platform == "linux" and not threads
    context = multiprocessing.get_context("fork" if may_fork else "spawn")
    studies = [content.study for content in plan.contents]
    arguments = (studies, plan.folder, plan.kinds)
    gc.freeze()  # what is loaded already is no garbage, and a copy need not look through it
    with ProcessPoolExecutor(processes, context, _begin, arguments) as pool:
        waiting: dict[Future[list[Shown]], range] = {
            pool.submit(_work, group): group for group in groups
        }
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_plan: list[Plan] = []  # of this process, where it is one that draws


def _begin(studies: list[LoadedStudy], folder: Path | None, kinds: Sequence[str]) -> None:
    gc.set_threshold(50_000)  # figures are many small objects: looking for cycles took 15 %
    _plan.append(Plan.of(studies, folder, kinds))


def _work(places: range) -> list[Shown]:
    return [_plan[0].shown(place) for place in places]


def _drawn(exhibit: Exhibit) -> Drawn:
    """Draw an exhibit; a mistake of ours in one figure costs the reader no other."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd numbers: the page is what is read
            return exhibit.drawn()
    except Exception as error:  # noqa: BLE001 - said in the figure's place
        said = f"{FAILED} {type(error).__name__}: {error}. Please report it."
        return Drawn(exhibit, None, said)


def encode(drawn: Drawn, folder: Path | None, kinds: Sequence[str]) -> Shown:
    """Return an exhibit as the page shows it, and write its files."""
    exhibit, figure = drawn.exhibit, drawn.figure
    if figure is None:
        if folder is not None:  # of an earlier report
            for kind in kinds:
                (folder / f"{exhibit.key}.{kind}").unlink(missing_ok=True)
        return Shown(exhibit.key, exhibit.title, exhibit.reading, drawn.finding, "", None)
    files = {"svg": drawn.encoded("svg")}
    if len(files["svg"]) > _LARGEST_SVG or "png" in kinds:
        files["png"] = drawn.encoded("png")
    if "pdf" in kinds:
        files["pdf"] = drawn.encoded("pdf")
    if folder is not None:
        for kind in kinds:
            write_atomic(folder / f"{exhibit.key}.{kind}", files[kind])
    as_pixels = len(files["svg"]) > _LARGEST_SVG
    kind, content = ("png", files["png"]) if as_pixels else ("svg+xml", files["svg"])
    image = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    width, height = (round(_PER_INCH * float(inches)) for inches in figure.get_size_inches())
    caption = " ".join(figure.get_supxlabel().split())
    texts = (exhibit.key, exhibit.title, exhibit.reading, drawn.finding, caption)
    return Shown(*texts, image, width, height)
