"""The notebooks run from top to bottom on a small study that was really trained."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from gsvae_tune.report.exhibits.exhibit import Drawn
from gsvae_tune.report.exhibits.gallery import SECTIONS, show
from gsvae_tune.study.errors import InputError
from tests.report.made import judged_study

ANALYSIS = Path(__file__).parent.parent / "analysis"
NOTEBOOKS = sorted(ANALYSIS.glob("*.ipynb"))


def code(book):
    return "\n".join(cell.source for cell in book.cells if cell.cell_type == "code")


def parameters(book):
    (cell,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, real_study, tmp_path):
    book = nbformat.read(path, as_version=4)
    cell = parameters(book)
    other = tmp_path / "other"
    shutil.copytree(real_study, other)
    if "FOLDERS" in cell.source:
        cell.source = f"FOLDERS = [{str(real_study)!r}, {str(other)!r}]"
    else:
        cell.source = f"FOLDER = {str(real_study)!r}"
    NotebookClient(book, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output.data["text/html"]
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]
    figures = [text for text in shown if "data:image/png" in text]
    assert len(figures) >= 2
    errors = [
        output for cell in book.cells for output in cell.get("outputs", [])
        if output.output_type in {"error", "stream"}
    ]  # fmt: skip
    assert errors == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin(path):
    book = nbformat.read(path, as_version=4)
    assert book.cells[0].cell_type == "markdown"
    assert all(not cell.get("outputs") for cell in book.cells)
    assert all(len(cell.source.splitlines()) <= 6 for cell in book.cells)
    assert not re.search(r"import (numpy|scipy|sklearn|matplotlib)|np\.|plt\.|def ", code(book))
    folders = re.findall(r'"(studies/[^"]+)"', parameters(book).source)
    assert folders
    assert all((ANALYSIS / folder / "study.json").is_file() for folder in folders)


def test_the_notebooks_show_every_exhibit():
    text = "\n".join(code(nbformat.read(path, as_version=4)) for path in NOTEBOOKS)
    asked = set(re.findall(r'show\(study, "([^"]+)"\)', text))
    study = judged_study()
    keys = {one.key for section in SECTIONS for one in section.exhibits(study)}
    assert asked <= keys
    assert {"search-expected", "search-fidelity", "search-footprint", "search-parallel"} >= (
        keys - asked
    )


def test_an_exhibit_shows_itself():
    study = judged_study()
    one = next(iter(SECTIONS[0].exhibits(study))).drawn()
    assert isinstance(one, Drawn)
    assert one.exhibit.title in one._repr_html_()
    assert "data:image/png" in one._repr_html_()


def test_an_unknown_exhibit_is_told_the_known_ones():
    with pytest.raises(InputError, match="sensitivity-start"):
        show(judged_study(), "sensitivity-stat")
    with pytest.raises(InputError, match="across-start"):
        show([judged_study()], "sensitivity-start")
