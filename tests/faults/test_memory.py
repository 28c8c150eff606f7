"""Trials that take more memory than there is: they end, say what would fit, and nothing else does."""

import re
from pathlib import Path

import pytest
import yaml

from gsvae_tune.search import studies
from tests.faults.conftest import Victim

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def test_a_limit_is_kept_and_what_would_fit_fits(tmp_path):
    flags = ["--until", "search", "--set", "faults.give_up_after=3"]
    code, output = Victim(tmp_path, "smoke", flags).run("--set", "faults.trial_memory_gb=0.005")
    assert code == 3, output
    assert "the first trials all failed for the same reason (3 of 3)" in output
    assert "out of memory on the host" in output
    fits = re.search(r"--set (faults\.trial_memory_gb=[\d.]+) would fit", output)[1]
    Victim(tmp_path / "anew", "smoke", flags).finish("--set", fits)


def test_what_the_machine_kills_ends_alone(tmp_path):
    """One arm asks for gigabytes; Ray's memory monitor kills its processes, and no other's."""
    raw = yaml.safe_load(studies.shipped()["smoke"].read_text())
    greedy = {"estimator": "gumbel-rao", "rao_samples": 1000}
    raw["arms"]["greedy"] = {"method": "constant", "space": greedy}
    raw["model"] |= {"latents": 32, "categories": 32}
    raw["search"]["trials"], raw["faults"] = 2, {"retries": 1}
    path = tmp_path / "greedy.yaml"
    path.write_text(yaml.safe_dump(raw))
    used = 1 - _meminfo("MemAvailable") / _meminfo("MemTotal")
    limits = {
        "RAY_memory_usage_threshold": f"{used + 2.5e9 / _meminfo('MemTotal'):.3f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    victim = Victim(tmp_path, path, ["--until", "search", "--cpus", 1], limits)
    output = victim.finish()
    trials = victim.tables()["trials"].set_index("arm")
    assert trials.loc["greedy", "fault"].tolist() == ["host_memory"] * 2, output
    assert trials.loc["greedy", "error"].str.contains("--cpus-per-trial").all()
    assert (trials.drop(index="greedy").state == "complete").all()


def _meminfo(key):
    text = Path("/proc/meminfo").read_text()
    return 1024 * int(re.search(rf"^{key}: *(\d+)", text, re.MULTILINE)[1])
