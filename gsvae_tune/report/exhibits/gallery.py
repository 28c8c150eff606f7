"""All exhibits of a study, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gsvae_tune.report.exhibits import (
    across,
    comparison,
    importance,
    searching,
    sensitivity,
    traces,
)
from gsvae_tune.report.exhibits.exhibit import Drawn, Exhibit
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.study.errors import InputError


@dataclass(frozen=True)
class Section:
    """Exhibits that belong together."""

    key: str
    title: str
    about: str
    exhibits: Callable[[LoadedStudy], Iterator[Exhibit]]


SECTIONS = [
    Section(
        "comparison",
        "Is the pair better than the baseline?",
        "The best configurations of each arm, trained again on fresh seeds and measured on the "
        "sealed test split, seed by seed. This section alone is evidence; what follows explores.",
        comparison.exhibits,
    ),
    Section(
        "sensitivity",
        "How much do tau's settings matter?",
        "Every trial of the search, by validation negative ELBO with one-hot codes, a loss that "
        "does not contain tau.",
        sensitivity.exhibits,
    ),
    Section(
        "importance",
        "Which setting matters most?",
        "What a model of the search says of each setting, and how far that model can be believed.",
        importance.exhibits,
    ),
    Section(
        "traces",
        "What did the temperatures do?",
        "Both members' temperatures and losses, epoch by epoch.",
        traces.exhibits,
    ),
    Section(
        "search",
        "Can I believe the search?",
        "How far it got, what more trials would bring, and how much of its best is luck.",
        searching.exhibits,
    ),
]


def show(study: LoadedStudy | Sequence[LoadedStudy], key: str) -> Drawn:
    """Return one exhibit, drawn; a notebook shows it with its question and its answer.

    Args:
        study: a study, or several for the exhibits over all of them.
        key: of the exhibit, such as sensitivity-start.

    Raises:
        InputError: there is no such exhibit.
    """
    if isinstance(study, LoadedStudy):
        exhibits = [one for section in SECTIONS for one in section.exhibits(study)]
    else:
        exhibits = list(across.exhibits(study))
    found = {one.key: one for one in exhibits}
    if key not in found:
        raise InputError(f"no exhibit {key!r}", where="show", legal=", ".join(found))
    return found[key].drawn()
