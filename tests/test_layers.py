"""Imports run downward only; each outside library is known to its layer alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gsvae_tune

ROOT = Path(gsvae_tune.__file__).parent
ORDER = ["study", "tau", "vae", "search", "report", "execution", "doctor", "bench", "cli"]
SIBLINGS = [{"execution", "report"}]
OWNERS = {
    "ray": {"execution", "bench"},
    "optuna": {"search", "bench"},
    "torch": {"vae", "execution", "bench"},
    "pandas": {"report", "cli"},
    "typer": {"cli"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            yield node.module


def layer(name):
    return name.split(".")[1] if name.startswith("gsvae_tune.") else None


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own == "__init__":
        own = "cli"  # the package itself: a door to all of it, opened when it is asked for
    for name in imports(path):
        other = layer(name)
        if other is not None and other != own:
            assert ORDER.index(other) < ORDER.index(own), f"{own} imports {name}"
            assert {own, other} not in SIBLINGS, f"{own} imports {name}"
        top = name.partition(".")[0]
        if top in OWNERS:
            assert own in OWNERS[top], f"{own} imports {name}"


def test_the_core_needs_numpy_alone():
    allowed = {"numpy", "gsvae_tune", "__future__"} | set(sys.stdlib_module_names)
    for path in (ROOT / "tau").glob("*.py"):
        assert {name.partition(".")[0] for name in imports(path)} <= allowed
        assert {layer(name) for name in imports(path)} <= {None, "tau"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("gsvae_tune", ["torch", "ray", "optuna", "pandas", "pydantic"]),
        ("gsvae_tune.tau", ["torch", "ray", "optuna", "pandas", "pydantic"]),
        ("gsvae_tune.cli.__main__", ["torch", "ray", "optuna", "pandas", "sklearn"]),
        ("gsvae_tune.vae.data", ["torch", "ray", "optuna"]),
        ("gsvae_tune.search.studies", ["torch", "ray"]),
        ("gsvae_tune.report.tables", ["torch", "ray"]),
        ("gsvae_tune.report.verdict", ["torch", "ray"]),
    ],
)
def test_importing_stays_cheap(module, absent):
    code = f"import sys, {module}; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_has_two_jobs():
    for path in FILES:
        assert path.stem not in {"utils", "common", "helpers"}
        assert path.stem == "__init__" or path.stem not in sys.stdlib_module_names
        assert len(path.read_text().splitlines()) <= 450, path


def test_only_the_test_phase_can_see_the_test_split():
    users = {str(p.relative_to(ROOT)) for p in FILES if "load_test_split" in p.read_text()}
    assert users == {"vae/data.py", "execution/testing.py"}
    openers = {str(p.relative_to(ROOT)) for p in FILES if "execution.testing" in p.read_text()}
    assert openers == {"execution/runner.py"}  # right after the opening is written down
