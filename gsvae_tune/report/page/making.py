"""A whole report: its studies, its page, its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.report.page.content import Content
from gsvae_tune.report.page.drawing import Plan, Shown, draw
from gsvae_tune.report.page.grids import Grid, cell
from gsvae_tune.report.page.rendering import (
    ShownPart,
    StudyPage,
    refuse_other,
    render,
    write_page,
)
from gsvae_tune.study.errors import InputError


@dataclass(frozen=True)
class Report:
    """One page on one study or several."""

    plan: Plan
    place: Path

    @classmethod
    def of(cls, studies: Sequence[LoadedStudy], place: Path, kinds: Sequence[str]) -> Report:
        """Plan a report; nothing is drawn or written yet.

        Args:
            studies: what it is about, at least one.
            place: the page.
            kinds: formats of the files of figures (svg, png, pdf), which a report on one study
                writes beside its page.

        Raises:
            InputError: what stands at `place` is no report.
        """
        refuse_other(place)
        folder = None
        if len(studies) == 1 and kinds:
            paths = studies[0].paths
            own = place.absolute() == paths.page
            folder = paths.figures if own else place.with_name(f"{place.stem}-figures")
            if not own and folder.exists() and not place.exists():
                raise InputError(
                    "is there already, and not from an earlier report",
                    where=str(folder),
                    legal="figures are written beside the page, to a folder of its name",
                    next_step="--output FILE",
                )
        return cls(Plan.of(studies, folder, kinds), place)

    @property
    def figures(self) -> int:
        return len(self.plan.exhibits)

    def write(self, drawn: Callable[[str], None], refresh_s: int | None = None) -> None:
        """Draw everything and write it, the page last.

        Args:
            drawn: called with each exhibit's title once it is drawn.
            refresh_s: the page reloads itself after so many seconds.
        """
        contents = self.plan.contents
        if self.plan.folder is not None:
            contents[0].study.paths.refuse_links()
            self.plan.folder.mkdir(parents=True, exist_ok=True)
        shown = iter(draw(self.plan, drawn))
        over_all = [next(shown) for _ in self.plan.across]
        pages = [_page(f"s{place}", content, shown) for place, content in enumerate(contents)]
        title = contents[0].study.name if len(contents) == 1 else f"{len(contents)} studies"
        page = render(title, pages, over_all, _side_by_side(contents), refresh_s)
        write_page(self.place, page)


def _page(prefix: str, content: Content, shown: Iterator[Shown]) -> StudyPage:
    """Return a study's place in the page, taking its exhibits from what is shown next."""
    parts = [
        ShownPart(part.section, [next(shown) for _ in part.exhibits]) for part in content.parts
    ]
    findings = {one.key: one.finding for part in parts for one in part.exhibits}
    return StudyPage(prefix, content, parts, content.answers(findings))


def _side_by_side(contents: Sequence[Content]) -> Grid:
    """Return the studies, a row a finalist."""
    headers = [("study", ""), ("state", ""), ("arm", ""), ("finalist", "trial"),
               ("test", "negative ELBO on the test split, nats"), ("±", "over replicates"),
               ("against the baseline", "verdict")]  # fmt: skip
    rows = []
    for content in contents:
        verdict = content.study.verdict
        words = {one.arm: one.verdict for one in content.comparisons
                 if one.baseline == content.study.config.protocol.baseline}  # fmt: skip
        for arm, known in (verdict.arms if verdict is not None else {}).items():
            if (best := known.finalist) is not None:
                rows.append(
                    [cell(content.study.name), cell(content.state), cell(arm), cell(best.number),
                     cell(best.test_nats, 3), cell(best.test_sd_nats, 3), cell(words.get(arm))]
                )  # fmt: skip
        if verdict is None:
            rows.append([cell(content.study.name), cell(content.state), *[cell(None)] * 5])
    return Grid("side-by-side", "Finalists", headers, rows,
                "Losses of different data sets, or binarizations, are not comparable.")  # fmt: skip
