"""The README tells the truth: its commands, its code, its map."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

import gsvae_tune
from gsvae_tune.cli.__main__ import app
from gsvae_tune.search import studies

ROOT = Path(gsvae_tune.__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def test_the_two_commands_stand_there():
    assert "\npip install -c constraints.txt -e . && gsvae-tune run\n" in README
    assert "\npip install -c constraints.txt -e '.[test]' && pytest\n" in README


def test_every_command_has_flags_and_studies_that_exist():
    commands = [
        line
        for language, block in BLOCKS
        if language in {"", "sh"}
        for line in re.findall(r"^(?:.*&& )?(gsvae-tune .*)$", block, re.MULTILINE)
    ]
    assert len(commands) > 5
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        verb = get_command(app)
        while words and words[0] in getattr(verb, "commands", {}):
            verb = verb.commands[words.pop(0)]
        known = {option for parameter in verb.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, command
        if verb.name == "run" and words and not words[0].startswith("--"):
            assert words[0] in studies.shipped() or words[0].endswith(".yaml"), command


def test_the_controller_in_ones_own_loop():
    """The ten lines of the README, run as they stand around a made-up model."""
    (code,) = [
        block for language, block in BLOCKS if language == "python" and "PairController" in block
    ]
    lines = [
        line for line in code.splitlines() if line.strip() and not line.strip().startswith("#")
    ]
    assert len(lines) <= 10
    seen = []

    class Model:
        def __init__(self, start):
            self.weight = start

        def load_state_dict(self, state):
            self.weight = state

        def state_dict(self):
            return self.weight

    def train_one_epoch(model, tau):
        model.weight, model.tau = model.weight - 0.1, tau
        seen.append(tau)

    def held_out_loss(model):
        return model.weight + np.log(model.tau / 0.4) ** 2

    names = {
        "models": [Model(5.0), Model(5.0)], "epochs": 12,
        "train_one_epoch": train_one_epoch, "held_out_loss": held_out_loss,
    }  # fmt: skip
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - it is our own text
    taus = np.array(seen).reshape(12, 2)
    assert taus[0].tolist() == [1.0, 1.0]
    assert (taus[1:, 0] < taus[1:, 1]).all()
    assert abs(np.log(taus[-1] / 0.4)).max() < abs(np.log(1.0 / 0.4))  # went to the better one


def test_a_study_by_hand(tmp_path, monkeypatch):
    (code,) = [
        block for language, block in BLOCKS if language == "python" and "load_study" in block
    ]
    (tmp_path / "analysis").symlink_to(ROOT / "analysis")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - it is our own text
    assert (tmp_path / "start.pdf").read_bytes().startswith(b"%PDF")


def test_the_map_names_every_file_and_no_other():
    (tree,) = [block for _, block in BLOCKS if block.startswith("gsvae_tune/\n")]
    mapped, folder = set(), []
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folder = [*folder[:depth], name]
        if not name.endswith("/"):
            mapped.add("".join(folder))
            assert len(line.split()) > 3, line  # says what it is
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "gsvae_tune").rglob("*.py")
        if path.stem != "__init__"
    }
    assert {name for name in mapped if name.startswith("gsvae_tune/")} == files
    shipped = {f"search_spaces/{name}.yaml" for name in studies.shipped()}
    assert {name for name in mapped if name.startswith("search_spaces/")} == shipped
    assert all((ROOT / name).exists() for name in mapped)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a source checkout")
def test_the_wheel_carries_the_studies_and_runs_from_any_folder(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    assert (site / "gsvae_tune/py.typed").is_file()
    code = "import gsvae_tune.cli.__main__ as c; print(c.__file__); c.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "spaces", "digits"],
        cwd=tmp_path, env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    where, _, text = done.stdout.partition("\n")
    assert where.startswith(str(site))
    assert text == studies.shipped()["digits"].read_text()
