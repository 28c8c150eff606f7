"""optuna-dashboard, the real one in a real browser, opens a study's journal and leaves it alone."""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest
from rich.console import Console

from gsvae_tune.search import studies


@pytest.fixture
def dashboard():
    """Serve a journal; give the server's address."""
    command = shutil.which("optuna-dashboard")
    if command is None:
        pytest.skip("no optuna-dashboard on the PATH: the extra dashboard")
    servers = []

    def serve(journal):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        servers.append(subprocess.Popen([command, str(journal), "--port", str(port)], **quiet))
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/studies", timeout=5).close()  # noqa: S310
            except OSError:
                assert servers[-1].poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            else:
                return address

    yield serve
    for server in servers:
        server.terminate()
        server.wait(20)


@pytest.fixture
def shown(tmp_path):
    """Open a page in headless Chromium; give the text that stands on it once it is drawn."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on the PATH")
    sandbox = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []

    def call(url):
        words = ["--headless", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
        words += [*sandbox, "--virtual-time-budget=15000", "--dump-dom", url]
        done = subprocess.run(
            [browser, *words], capture_output=True, text=True, timeout=120, check=True
        )
        text = re.sub(r"(?s)<(style|script).*?</\1>", " ", done.stdout)
        return " ".join(re.sub(r"<[^>]+>", " ", text).split())

    return call


@pytest.mark.slow
def test_it_lists_our_arms_and_shows_their_trials(dashboard, shown, tmp_path):
    from gsvae_tune.execution.runner import run_study
    from gsvae_tune.search.storage import open_storage, read_trials
    from gsvae_tune.study.studyfile import read_study

    given = {"simulate.table": "valley", "search.trials": 4, "out": str(tmp_path)}
    config = studies.load("smoke", {key: (value, key) for key, value in given.items()})
    paths = run_study(config, Console(quiet=True)).paths
    rows = list(read_trials(config, paths, open_storage(None, paths), read_study(paths)["id"]))
    before = paths.journal.read_bytes()
    address = dashboard(paths.journal)
    home = shown(f"{address}/dashboard/")
    for name in ("pair", "fixed-factor", "pair/confirm", "fixed-factor/confirm"):
        assert f"smoke-simulated/{name} " in f"{home} "
    trials = shown(f"{address}/dashboard/studies/0/trials")
    first = next(row for row in rows if row.arm == "pair" and row.number == 0)
    for part in (
        *(f"Trial {number} Complete" for number in range(4)),
        "Best Trial",
        str(first.value),
    ):
        assert part in trials
    for name, value in first.params.items():
        assert f"{name} {value}" in trials
    assert "Parameter" in trials
    assert paths.journal.read_bytes() == before  # looking changes nothing
    assert [path.name for path in paths.root.glob("optuna.journal*")] == ["optuna.journal"]
