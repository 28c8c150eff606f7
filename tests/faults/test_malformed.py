"""Whatever a study or a data file holds: one message, exit code 2, within 2 s and 500 MB."""

import contextlib
import io
import os
import re
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from gsvae_tune.cli import application, catalogue, measuring  # noqa: F401 - they register verbs
from gsvae_tune.cli import studies as _verbs  # noqa: F401
from gsvae_tune.search import studies
from gsvae_tune.study.config import DataConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.vae.data import TRAIN_IMAGES, load_splits
from tests.faults import hostile
from tests.faults.cost import MOST_BYTES, Cost

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def command(*args):
    """Call the command line in this process; return exit code and what stands on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = application.guarded(lambda **how: application.app(args=[*args], **how))
    assert out.getvalue() == ""
    return code, err.getvalue()


def examples(count):
    """Settings for so many examples; what is made of them takes hypothesis itself long."""
    return settings(max_examples=count, suppress_health_check=list(HealthCheck))


@pytest.fixture
def cost(record_property, request):
    cost = Cost()
    yield cost
    for name in ("blocks", "worst_s", "worst_bytes"):
        record_property(name, getattr(cost, name))
    print(  # noqa: T201 - shown by -s
        f"{cost.blocks} files, at most {cost.worst_s:.2f} s and {cost.worst_bytes / 1e6:.0f} MB"
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("run", "none.yaml")  # what is imported at the first call is not counted
    return tmp_path


def test_the_meter_sees_memory_and_time():
    cost = Cost()
    with pytest.raises(AssertionError), cost:
        held = np.ones(600 * 2**20, np.uint8)
    assert cost.bytes > MOST_BYTES
    assert len(held) > 0
    del held
    with cost:
        pass
    assert cost.bytes < 50e6


def counts(ordinary, faults):
    return pytest.mark.parametrize(
        "count", [ordinary, pytest.param(faults, marks=pytest.mark.faults)]
    )


@counts(60, 1000)
def test_a_malformed_study_gives_one_message(count, folder, cost):
    @examples(count)
    @given(hostile.malformed_studies)
    def check(study):
        name, content = study
        path = folder / name
        path.write_bytes(content)
        try:
            try:
                studies.load(str(path))
            except InputError:
                pass
            else:
                assume(False)  # a legal study by chance
            with cost:
                code, err = command("run", str(path))
        finally:
            path.unlink()
        assert code == 2
        assert err.strip().startswith("error: ")
        assert "Traceback" not in err
        assert hostile.SECRET not in err
        assert not UNSAFE.search(err)
        assert len(err) < 20_000
        assert list(folder.iterdir()) == []  # nothing was begun

    check()
    assert cost.blocks >= count


def write_data(folder, kind, content):
    """Write a data file; return the source that names it."""
    if kind == "npz":
        (folder / "mine.npz").write_bytes(content)
        return f"npz:{folder / 'mine.npz'}"
    path = folder / (TRAIN_IMAGES.removesuffix(".gz") if kind == "plain" else TRAIN_IMAGES)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    return f"idx:{folder}"


@counts(20, 200)
def test_a_malformed_data_file_gives_one_message(count, folder, cost, tmp_path_factory):
    @examples(count)
    @given(hostile.malformed_data)
    def check(file):
        place = tmp_path_factory.mktemp("data")
        source = write_data(place, *file)
        legal = False
        with cost, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_splits(DataConfig(source=source), 0)
                legal = True
            except InputError as error:
                said = str(error)
        assume(not legal)
        assert str(place) in said
        assert "legal:" in said
        assert len(said) < 2000

    check()
    assert cost.blocks >= count


@pytest.mark.parametrize("number", range(6))
def test_the_command_refuses_malformed_data(number, folder, cost):
    kinds = [
        ("npz", hostile.npz([("images.npy", b"")])),
        ("npz", b""),
        ("npz", hostile.npz([("images.npy", hostile.npy_header(hostile.HEADERS[0]))])),
        ("packed", hostile.packed_zeros()),
        ("plain", b"short"),
        ("pipe", b""),
    ]
    source = write_data(folder, *kinds[number])
    with cost:
        code, err = command("run", "smoke", "--set", f"data.source={source}")
    assert code == 2
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not (folder / "studies/smoke/study.json").exists()
