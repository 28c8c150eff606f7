"""The verb that moves a study to another storage: copy-storage."""

from __future__ import annotations

from typing import Annotated

import typer

from gsvae_tune.cli.application import StorageFlag, app, console, find_studies_in
from gsvae_tune.study.errors import InputError

JOURNAL = "journal"


@app.command("copy-storage")
def copy_storage(
    folder: Annotated[str, typer.Argument(help="A study's folder.", metavar="DIR")],
    to: Annotated[
        str,
        typer.Option(
            help="URL of the database to copy to, or journal: the file in the study's folder.",
            metavar="URL|journal",
        ),
    ],
    storage: StorageFlag = None,
) -> None:
    """Copy a study's trials to another storage, where it then goes on; the old one is a backup."""
    from gsvae_tune.search.transfer import transfer
    from gsvae_tune.study.passwords import without_password

    found = find_studies_in(folder)
    if len(found) > 1:
        raise InputError(f"holds {len(found)} studies", where=folder, legal="one study's folder")
    target = None if to == JOURNAL else to
    copied = transfer(
        found[0], storage, target, lambda text: console.print(text, highlight=False, markup=False)
    )
    place = found[0].journal if target is None else without_password(target)
    earlier = f", {copied.before} of them by an earlier copy" if copied.before else ""
    onward = "without --storage" if target is None else f"with --storage {place}"
    console.print(
        f"{copied.trials} trials are in {place}{earlier}; each was read back and is the same\n"
        f"backup: {copied.backup}\n"
        f"next: the command that began this study, {onward}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
