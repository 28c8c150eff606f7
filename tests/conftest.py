import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no failure; examples are the same in every run.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("project")


def pytest_configure(config):
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.setdefault("COLUMNS", "120")


@pytest.fixture(scope="session")
def real_data():
    """Folder with mnist/ and fashion-mnist/ in the published files; absent, its tests skip."""
    named = os.environ.get("GSVAE_DATA")
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    for folder in (Path(named) if named else None, beside):
        if folder is not None and (folder / "mnist").is_dir():
            return folder
    pytest.skip("no folder with the published mnist files: set GSVAE_DATA to one")


@pytest.fixture(scope="session")
def real_study(tmp_path_factory):
    """Folder of a small study that was really trained, to its verdict and its report. Only read."""
    folder = tmp_path_factory.mktemp("real")
    command = [
        sys.executable,
        "-m",
        "gsvae_tune.cli",
        "run",
        "smoke",
        "--trials",
        "6",
        "--name",
        "real",
    ]
    subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return folder / "studies" / "real"


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server of this session; absent, its tests skip. Leave it running."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: the extra postgresql")
    from tests.search.postgres import Server, binaries

    if binaries() is None:
        pytest.skip("no PostgreSQL server is installed here")
    server = Server()
    yield server
    server.close()
