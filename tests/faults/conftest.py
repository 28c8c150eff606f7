"""Real studies in processes of their own, to be killed, filled and damaged."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gsvae_tune.search import studies
from gsvae_tune.study.paths import StudyPaths

COMMAND = [sys.executable, "-m", "gsvae_tune.cli", "run", "--no-report"]
TABLES = ("trials", "replicates", "epochs")
# What may differ between an interrupted study and one that was not: how long it took, and what it
# says of having been interrupted.
TIMES = {"trials": ["wall_s", "ended_s", "note"], "replicates": [], "epochs": ["wall_s"]}


class Victim:
    """A study that is run, killed and run again by its command.

    Args:
        out: the folder for its folder.
        study: the study's name or file.
        flags: of `gsvae-tune run`.
        environment: more variables for the processes.
        name: of its folder, where it is not the study's.
    """

    def __init__(self, out, study="smoke", flags=(), environment=None, name=None):
        self.command = [*COMMAND, str(study), "--out", str(out), *map(str, flags)]
        name = name or studies.load(str(study), {}).name
        self.paths = StudyPaths(Path(out).absolute() / name)
        self.environment = os.environ | (environment or {})

    def start(self, *more):
        return subprocess.Popen(
            [*self.command, *map(str, more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    def run(self, *more, timeout=600):
        """Run to the end; return exit code and output."""
        process = self.start(*more)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert "Traceback" not in output, output
        return process.returncode, output

    def finish(self, *more):
        code, output = self.run(*more)
        assert code == 0, output
        return output

    def killed_after(self, seconds):
        """Run, and kill the driver after so long; return whether it was still going."""
        process = self.start()
        time.sleep(seconds)
        going = process.poll() is None
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        assert going or process.returncode == 0, output
        return going

    def tables(self):
        return {name: pd.read_parquet(self.paths.table(name)) for name in TABLES}

    def results(self):
        """Return the bytes of every trial's result that is there."""
        return {
            str(path.relative_to(self.paths.root)): path.read_bytes()
            for path in self.paths.trials.glob("*/*/result.json")
        }


def assert_same_tables(found, wanted):
    """Every value bitwise, but for times."""
    for name in TABLES:
        seen, due = (tables[name].drop(columns=TIMES[name], errors="ignore")
                     for tables in (found, wanted))  # fmt: skip
        pd.testing.assert_frame_equal(seen, due, check_exact=True)


@pytest.fixture(scope="session")
def study_file(tmp_path_factory):
    """The smoke study made longer: about a minute of training on one slot, to a verdict."""
    raw = yaml.safe_load(studies.shipped()["smoke"].read_text())
    raw["name"] = "victim"
    raw["training"] |= {"epochs": 60, "checkpoint_s": 0.2}
    raw["search"]["trials"] = 6
    raw["faults"] = {"retries": 1000}
    path = tmp_path_factory.mktemp("study") / "victim.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture(scope="session")
def reference(study_file, tmp_path_factory):
    """The study, run once without interruption on one slot."""
    victim = Victim(tmp_path_factory.mktemp("whole"), study_file, ["--cpus", 1])
    victim.finish()
    return victim


def trial_processes():
    """Return the ids of Ray's processes that train trials (their titles say so)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::ImplicitFunc"):
            found.append(int(folder.name))
    return found


def children_of(process):
    """Return the ids of a process and all that came from it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            continue
    found = {process}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found
