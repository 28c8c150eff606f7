"""Each damage is found under its name, mended where it can be, and nothing else is touched."""

import json
import platform
import shutil

import pandas as pd
import pytest
from rich.console import Console

from gsvae_tune.cli import doctoring
from gsvae_tune.cli.__main__ import app, guarded
from gsvae_tune.cli.application import SafeConsole
from gsvae_tune.doctor import checks
from gsvae_tune.doctor.examination import examine, treat
from gsvae_tune.doctor.findings import Severity
from gsvae_tune.execution import trial
from gsvae_tune.execution.runner import run_study
from gsvae_tune.execution.trial import run_trial
from gsvae_tune.report import summary
from gsvae_tune.search import studies
from gsvae_tune.search.storage import open_storage
from gsvae_tune.study.faults import Fault
from gsvae_tune.study.lease import driver_lease
from gsvae_tune.study.records import TrialResult, read_json, write_json
from gsvae_tune.vae.data import load_splits
from tests.doctor.making import everything, go_on, hashes, owner, quiet, remaining, tables_of


def look(paths, url=None):
    return examine(paths, url, quiet)


def fix(paths, url=None):
    return treat(paths, url, quiet, quiet)


def codes(report):
    return [one.code for one in report.findings if one.severity is not Severity.NOTE]


def rewrite(path, **changes):
    value = read_json(path)
    for key, new in changes.items():
        part = value
        *parents, last = key.split("__")
        for parent in parents:
            part = part[int(parent) if parent.isdecimal() else parent]
        part[last] = new
    write_json(path, value)


def cut(path, size=-20):
    path.write_bytes(path.read_bytes()[:size])


def flip(path, where=0.5):
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 0x10
    path.write_bytes(content)


def swap(one, other):
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def append(path, content):
    with path.open("ab") as file:
        file.write(content)


def replace_line(path, number, line):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = line
    path.write_bytes(b"".join(lines))


def journal_value(paths):
    """Make the journal say another value of a trial that ended."""
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    number, line = next((i, x) for i, x in enumerate(lines) if b'"op_code":6' in x)
    record = json.loads(line)
    record["values"] = [record["values"][0] + 1.0]
    lines[number] = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    paths.journal.write_bytes(b"".join(lines))


def journal_param(paths):
    """Make the journal say another learning rate."""
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    number, line = next((i, x) for i, x in enumerate(lines) if b'"learning_rate":' in x)
    record = json.loads(line)
    record["params"]["learning_rate"] *= 1.001
    lines[number] = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    paths.journal.write_bytes(b"".join(lines))


# name, damage, the code it is found under
BOTH = [
    ("journal lost", lambda p: p.journal.unlink(), "journal-missing"),
    ("journal torn", lambda p: append(p.journal, b'{"op_code":4,"wor'), "journal-torn"),
    ("journal, bad line", lambda p: replace_line(p.journal, 8, b'{"op_co\n'), "journal-damaged"),
    ("journal, no record", lambda p: replace_line(p.journal, 8, b"17\n"), "journal-damaged"),
    ("journal, no operation", lambda p: replace_line(p.journal, 8, b'{"op_code":99}\n'), "journal-damaged"),
    ("journal, bad last line", lambda p: append(p.journal, b"\x00\xff\n"), "journal-damaged"),
    ("journal emptied", lambda p: p.journal.write_bytes(b""), "trial-unknown"),
    ("journal cut", lambda p: cut(p.journal, p.journal.stat().st_size // 2), "journal-torn"),
    ("journal, params", journal_param, "ledger-differs"),
    ("config lost", lambda p: p.trial("pair", 1).config.unlink(), "config-missing"),
    ("config cut", lambda p: cut(p.trial("pair", 1).config), "config-damaged"),
    ("config, params", lambda p: rewrite(p.trial("pair", 1).config, params__tau_start=0.3), "config-damaged"),
    ("config, settings", lambda p: rewrite(p.trial("pair", 1).config, settings__pull=0.7), "config-damaged"),
    ("config, stratum", lambda p: rewrite(p.trial("pair", 1).config, stratum="r"), "config-damaged"),
    ("configs swapped", lambda p: swap(p.trial("pair", 1).config, p.trial("pair", 2).config), "config-damaged"),
    ("result lost", lambda p: p.trial("pair", 1).result.unlink(), "result-missing"),
    ("result cut", lambda p: cut(p.trial("pair", 1).result), "result-damaged"),
    ("result, value", lambda p: rewrite(p.trial("pair", 1).result, value=1.0), "result-damaged"),
    ("result, text for a number", lambda p: rewrite(p.trial("pair", 1).result, steps="many"), "result-damaged"),
    ("result, seed", lambda p: rewrite(p.trial("pair", 1).result, replicates__0__seed=3), "result-damaged"),
    ("results swapped", lambda p: swap(p.trial("pair", 1).result, p.trial("pair", 0).result), "result-damaged"),
    ("confirmed result lost", lambda p: next(p.trials.glob("pair/confirm-*/result.json")).unlink(), "result-missing"),
    ("trial's folder lost", lambda p: shutil.rmtree(p.trial("pair", 1).root), "config-missing"),
    ("table lost", lambda p: p.table("trials").unlink(), "tables-missing"),
    ("table cut", lambda p: cut(p.table("replicates")), "tables-wrong"),
    ("tables lost", lambda p: shutil.rmtree(p.tables), "tables-missing"),
    ("verdict cut", lambda p: cut(p.verdict), "verdict-damaged"),
    ("verdict lost", lambda p: p.verdict.unlink(), "verdict-missing"),
    ("verdict, another", lambda p: rewrite(p.verdict, comparisons__0__verdict="supported"), "verdict-wrong"),
    ("digest", lambda p: rewrite(p.study, digest="0" * 64), "study-digest"),
]  # fmt: skip
TRAINED = [
    ("journal, value", journal_value, "ledger-differs"),
    ("epochs torn", lambda p: append(p.trial("pair", 1).epochs, b'{"epoch":4,"wal'), "epochs-torn"),
    ("epochs, one too many", lambda p: append(p.trial("pair", 1).epochs, b"[]\n"), "epochs-damaged"),
    ("result, steps", lambda p: rewrite(p.trial("pair", 1).result, steps=1), "result-damaged"),
    ("result, time", lambda p: rewrite(p.trial("pair", 1).result, ended_s="noon"), "result-damaged"),
    ("result, seconds", lambda p: rewrite(p.trial("pair", 1).result, wall_s=1e9), "result-damaged"),
    ("yoked result lost", lambda p: next(p.trials.glob("yoked/confirm-*/result.json")).unlink(), "result-missing"),
]  # fmt: skip


def mended(study, damage, code):
    config, paths = study
    tables, verdict, before = tables_of(paths), read_json(paths.verdict), hashes(paths.root)
    damage(paths)
    damaged = hashes(paths.root)
    touched = {name for name in before if damaged.get(name) != before[name]}
    asleep = everything(paths.root)
    found = look(paths)
    assert code in codes(found)
    assert found.mendable
    assert everything(paths.root) == asleep  # looking changes nothing
    done = fix(paths)
    assert done.left == []
    assert code in [one.code for one in done.findings if one.done]
    for name in tables:
        pd.testing.assert_frame_equal(tables_of(paths)[name], tables[name])
    assert read_json(paths.verdict) == verdict
    # What was sound is as it was; what was not is beside it.
    after = hashes(paths.root)
    sound = before.keys() - touched - ({"optuna.journal"} if "ledger" in code else set())
    assert {name: after.get(name) for name in sound} == {name: before[name] for name in sound}
    assert {name for name in after.keys() - before.keys() if ".damaged" not in name} == set()
    asleep = everything(paths.root)
    again = fix(paths)
    assert again.findings == look(paths).findings == [one for one in done.findings if not one.done]
    assert everything(paths.root) == asleep  # the second time nothing is done
    assert remaining(config, paths) == 0
    return done


@pytest.mark.parametrize(("damage", "code"), [x[1:] for x in BOTH], ids=[x[0] for x in BOTH])
def test_a_damage_to_a_simulated_study_is_found_and_mended(simulated, damage, code):
    mended(simulated, damage, code)


# Those of a simulated study that have other files to agree with in a trained one.
AGAIN = {
    "journal lost", "journal, bad line", "journal, params", "config, params", "config, settings",
    "configs swapped", "result lost", "result cut", "result, seed", "results swapped",
    "confirmed result lost", "tables lost", "verdict lost",
}  # fmt: skip
ALL = [x for x in BOTH if x[0] in AGAIN] + TRAINED


@pytest.mark.parametrize(("damage", "code"), [x[1:] for x in ALL], ids=[x[0] for x in ALL])
def test_a_damage_to_a_trained_study_is_found_and_mended(trained, damage, code):
    mended(trained, damage, code)


def test_a_run_after_the_mending_has_nothing_to_do(simulated):
    config, paths = simulated
    paths.trial("pair", 1).config.unlink()
    cut(paths.trial("pair", 2).result)
    assert fix(paths).left == []
    paths.journal.unlink()
    shutil.rmtree(paths.tables)
    assert fix(paths).left == []
    done = run_study(config, Console(quiet=True))
    assert (done.trained, done.tested) == (0, 0)


def confirmed(paths, arm="pair"):
    (root,) = paths.trials.glob(f"{arm}/confirm-*")
    return type(paths.trial(arm, 0))(root)


LOST = [
    ("study.json lost", lambda p: p.study.unlink(), "study-missing"),
    ("study.json cut", lambda p: cut(p.study), "study-damaged"),
    ("study.json is no study", lambda p: p.study.write_text("[]"), "study-damaged"),
    ("a setting changed", lambda p: rewrite(p.study, config__seed=5), "study-digest"),
    ("an illegal setting", lambda p: rewrite(p.study, config__seed=-5), "study-damaged"),
    ("another format", lambda p: rewrite(p.study, format_version=99), "study-version"),
    ("another study's id", lambda p: rewrite(p.study, id="f" * 16), "storage-foreign"),
    ("openings lost", lambda p: p.openings.unlink(), "openings-missing"),
    ("openings cut", lambda p: cut(p.openings), "openings-damaged"),
    ("an opening lost", lambda p: replace_line(p.openings, 1, b""), "test-unopened"),
    ("test.json lost", lambda p: confirmed(p).test.unlink(), "test-missing"),
    ("test.json cut", lambda p: cut(confirmed(p).test), "test-damaged"),
    ("test.json of another opening", lambda p: rewrite(confirmed(p).test, opened="never"), "test-damaged"),
    ("test.json, a branch", lambda p: rewrite(confirmed(p).test, replicates__0__branch="c"), "test-damaged"),
    ("epochs lost", lambda p: p.trial("pair", 0).epochs.unlink(), "epochs-missing"),
    ("epochs cut", lambda p: cut(p.trial("pair", 0).epochs), "epochs-missing"),
    ("an epoch is damaged", lambda p: replace_line(p.trial("pair", 0).epochs, 2, b"{\n"), "epochs-missing"),
    ("an epoch is none", lambda p: replace_line(p.trial("pair", 0).epochs, 2, b"{}\n"), "epochs-damaged"),
    ("an epoch stands twice", lambda p: append(p.trial("pair", 0).epochs, p.trial("pair", 0).epochs.read_bytes()), "epochs-damaged"),
    ("result and checkpoint lost", lambda p: [p.trial("pair", 0).result.unlink(), p.trial("pair", 0).checkpoint.unlink()], "result-missing"),
    ("yoked config lost", lambda p: confirmed(p, "yoked").config.unlink(), "config-missing"),
    ("trial's folder lost", lambda p: shutil.rmtree(p.trial("pair", 0).root), "result-missing"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "code"), [x[1:] for x in LOST], ids=[x[0] for x in LOST])
def test_what_is_lost_is_said_with_what_to_do(trained, damage, code):
    _, paths = trained
    damage(paths)
    asleep = everything(paths.root)
    found = look(paths)
    assert code in codes(found)
    assert everything(paths.root) == asleep
    assert all(one.fix and one.problem for one in found.findings)
    kept = {path: path.read_bytes() for path in paths.root.rglob("result.json")}
    done = fix(paths)
    assert not any(one.mend for one in done.findings if not one.done)
    assert {path: path.read_bytes() for path in kept} == kept


NOTED = [
    ("driver killed", lambda p: rewrite(p.holder, released=False), "driver-dead"),
    ("driver.json damaged", lambda p: p.holder.write_text("{"), "driver-damaged"),
    ("checkpoint damaged", lambda p: flip(p.trial("pair", 0).checkpoint), "checkpoint-damaged"),
    ("confirmed model damaged", lambda p: flip(confirmed(p).checkpoint), "checkpoint-damaged"),
    ("confirmed model of another", lambda p: shutil.copy(confirmed(p, "yoked").checkpoint, confirmed(p).checkpoint), "checkpoint-damaged"),
    ("checkpoint before left", lambda p: shutil.copy(p.trial("pair", 0).checkpoint, p.trial("pair", 0).previous), "previous-left"),
    ("journal's lock left", lambda p: p.root.joinpath("optuna.journal.lock").touch(), "journal-lock"),
    ("temporary file left", lambda p: p.trial("pair", 0).root.joinpath(".result.json.17.tmp").write_text("{"), "temporary-left"),
    ("link out", lambda p: p.root.joinpath("link").symlink_to("/etc/passwd"), "link-outside"),
    ("anyone may write", lambda p: p.verdict.chmod(0o666), "mode"),
    ("no arm", lambda p: p.trials.joinpath("none").mkdir(), "arm-unknown"),
    ("not begun", lambda p: p.trial("pair", 3).root.mkdir(), None),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "code"), [x[1:] for x in NOTED], ids=[x[0] for x in NOTED])
def test_what_is_harmless_is_noted(trained, damage, code):
    _, paths = trained
    ended = {"term": 1, "pid": 1, "host": platform.node(), "since": "then", "released": True}
    write_json(paths.holder, ended)
    before = hashes(paths.root)
    damage(paths)
    found = look(paths)
    assert codes(found) == []
    assert [one.code for one in found.findings] == [code] * (code is not None)
    if found.mendable:
        done = fix(paths)
        assert [one.done for one in done.findings] == [True]
        assert hashes(paths.root) == before
    else:
        assert fix(paths) == found


def interrupt(study):
    """Search one trial on, and stop in its second epoch with two checkpoints written."""
    config, paths = study
    search = config.search.model_copy(update={"trials": config.search.trials + 1})
    training = config.training.model_copy(update={"checkpoint_s": 1e-9})
    protocol = config.protocol.model_copy(update={"until": "search"})
    config = config.model_copy(
        update={"search": search, "training": training, "protocol": protocol}
    )

    def die(report):
        if report["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_on(config, paths, die)
    (folder,) = {p.parent for p in paths.trials.glob("*/3/epochs.jsonl")}
    return config, type(paths.trial("pair", 0))(folder)


UNFINISHED = [
    ("nothing", lambda f: None, None),
    ("checkpoint damaged", lambda f: flip(f.checkpoint), "checkpoint-damaged"),
    ("checkpoint gone", lambda f: f.checkpoint.unlink(), "checkpoint-missing"),
    ("both damaged", lambda f: [flip(f.checkpoint), flip(f.previous)], "previous-damaged"),
    ("epochs torn", lambda f: append(f.epochs, b'{"ep'), "epochs-torn"),
    ("epochs damaged", lambda f: replace_line(f.epochs, 1, b"{\n"), "epochs-damaged"),
    ("epochs strange", lambda f: replace_line(f.epochs, 1, b"[1]\n"), "epochs-damaged"),
    ("config damaged", lambda f: cut(f.config), "config-damaged"),
    ("config lost", lambda f: f.config.unlink(), None),
    ("a result that is none", lambda f: f.result.write_text("{"), "result-damaged"),
    ("another's result", lambda f: shutil.copy(f.root.parent / "0/result.json", f.result), "result-damaged"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "code"), [x[1:] for x in UNFINISHED], ids=[x[0] for x in UNFINISHED]
)
def test_an_unfinished_trial_is_made_fit_to_go_on(trained, damage, code):
    config, folder = interrupt(trained)
    paths = trained[1]
    damage(folder)
    found = look(paths)
    assert "unfinished" in [one.code for one in found.findings]
    assert code is None or code in [one.code for one in found.findings]
    done = fix(paths)
    assert done.left == []
    go_on(config, paths)
    ended = TrialResult.read(folder.result)
    for path in folder.root.iterdir():
        if path.name != "config.json":
            path.unlink()
    result = alone(config, folder)  # from nothing, it is the same
    assert [row.val_neg_elbo_nats for row in result.replicates] == [
        row.val_neg_elbo_nats for row in ended.replicates
    ]


def test_a_failed_trials_result_is_written_from_the_ledger(trained, monkeypatch):
    config, paths = trained
    search = config.search.model_copy(update={"trials": config.search.trials + 1})
    protocol = config.protocol.model_copy(update={"until": "search"})

    def fail(*_):
        raise ValueError("no such thing")

    monkeypatch.setattr(trial, "_training", fail)
    go_on(config.model_copy(update={"search": search, "protocol": protocol}), paths)
    path = paths.trial("pair", 3).result
    before = TrialResult.read(path)
    assert (before.fault, before.error) == (Fault.ERROR, "ValueError: no such thing")
    path.unlink()
    assert fix(paths).left == []
    after = TrialResult.read(path)
    assert (after.state, after.error, after.fault) == (before.state, before.error, before.fault)
    assert "from the ledger" in after.note


def alone(config, folder):
    assigned = read_json(folder.config)
    return run_trial(
        {key: assigned[key] for key in ("arm", "phase", "number", "params")}, study=config,
        splits=load_splits(config.data, config.seed), paths=folder, gpu_fraction=0.0,
        every_epoch=True, report=quiet, pause=quiet, term=1,
    )  # fmt: skip


def test_an_untold_result_is_told(simulated):
    _, paths = simulated
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    tells = [n for n, line in enumerate(lines) if b'"op_code":6' in line]
    paths.journal.write_bytes(b"".join(lines[: tells[-1]]))
    found = look(paths)
    assert ("result-untold", Severity.NOTE) in [(x.code, x.severity) for x in found.findings]
    assert codes(found) == []
    assert "result-untold" in [one.code for one in fix(paths).findings if one.done]
    assert look(paths).findings == []


def test_a_trial_that_does_not_fit_is_left_to_its_owner(simulated):
    _, paths = simulated
    paths.journal.unlink()
    rewrite(paths.trial("pair", 1).config, params__tau_start=99.0, settings__tau_start=99.0)
    found = look(paths)
    refused = [one for one in found.findings if one.code == "trial-unknown"]
    assert {one.subject for one in refused} >= {"trials/pair/1", "trials/pair/2"}
    assert all(one.severity is Severity.DAMAGE for one in refused)
    kept = hashes(paths.root)
    left = fix(paths).left
    assert "trial-unknown" in [one.code for one in left]
    assert {k: v for k, v in hashes(paths.root).items() if k in kept} == kept


def test_both_say_different_things_and_neither_can_be_asked(trained):
    """A journal that differs from one folder, while another folder is gone: nothing is rewritten."""
    _, paths = trained
    journal_param(paths)
    shutil.rmtree(paths.trial("fixed-factor", 2).root)
    journal = paths.journal.read_bytes()
    left = fix(paths).left
    assert "ledger-differs" in [one.code for one in left]
    assert paths.journal.read_bytes() == journal
    assert not list(paths.root.glob("optuna.journal.*"))


def test_a_running_study_is_looked_at_and_left_alone(simulated):
    _, paths = simulated
    paths.table("trials").unlink()
    append(paths.journal, b'{"op')
    with driver_lease(paths, quiet):
        before = hashes(paths.root)
        for report in (look(paths), fix(paths)):
            assert report.driver is not None
            assert report.left == []
            assert "driver-alive" in [one.code for one in report.findings]
        assert hashes(paths.root) == before
    assert {"journal-torn", "tables-missing"} <= set(codes(look(paths)))


def test_a_study_that_was_just_begun(simulated):
    _, paths = simulated
    for path in (paths.journal, paths.openings, paths.verdict):
        path.unlink()
    shutil.rmtree(paths.trials)
    shutil.rmtree(paths.tables)
    assert fix(paths).left == look(paths).left == []
    (paths.trials / "pair").mkdir(parents=True)
    assert look(paths).left == []
    interrupted = paths.trial("pair", 0)
    interrupted.root.mkdir()
    assert look(paths).left == []


def test_a_disk_that_is_nearly_full_is_noted(simulated, monkeypatch):
    monkeypatch.setattr(checks, "_ROOM_BYTES", 2**80)
    assert [one.code for one in look(simulated[1]).findings] == ["disk"]


def test_nothing_behind_a_link_is_mended(trained, tmp_path):
    _, paths = trained
    outside = tmp_path / "outside"
    shutil.move(paths.trial("pair", 1).root, outside)
    paths.trial("pair", 1).root.symlink_to(outside)
    append(outside / "epochs.jsonl", b"torn")
    (outside / "result.json").unlink()
    before = everything(outside)
    left = fix(paths).left
    assert {"epochs-torn", "result-missing"} & {one.code for one in left}
    assert everything(outside) == before


def test_a_study_in_a_database(tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    paths = in_database(tmp_path, url)
    assert look(paths, url).findings == []
    assert codes(look(paths)) == ["storage-elsewhere"]
    assert codes(look(paths, f"sqlite:///{tmp_path / 'none.db'}")) == ["storage-unreachable"]
    assert not (tmp_path / "none.db").exists()
    tables = tables_of(paths)
    (tmp_path / "trials.db").unlink()
    open_storage(url, paths)  # an empty one
    assert codes(look(paths, url)) == ["trial-unknown"]
    assert fix(paths, url).left == []
    for name, table in tables_of(paths).items():
        pd.testing.assert_frame_equal(table, tables[name])
    assert look(paths, url).findings == []


def in_database(folder, url):
    given = {"simulate.table": "valley", "search.trials": 3, "out": str(folder), "storage": url}
    config = studies.load("smoke", {key: (value, "--test") for key, value in given.items()})
    done = run_study(config, Console(quiet=True))
    built = summary.export(config, done.paths, url)
    summary.judge(config, done.paths, url, built)
    return done.paths


# The command ------------------------------------------------------------------------------------


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*args, width=80):
        monkeypatch.setattr(doctoring, "console", SafeConsole(width=width, emoji=False))
        code = guarded(lambda **how: app(args=["doctor", *map(str, args)], **how))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def test_the_command_and_its_exit_codes(cli, simulated):
    _, paths = simulated
    code, out, _ = cli(paths.root)
    assert (code, "healthy" in out) == (0, True)
    cut(paths.verdict)
    cut(paths.trial("pair", 0).result)
    code, out, _ = cli(paths.root.parent)
    assert code == 3
    *table, last = out.splitlines()
    assert max(map(len, table)) == 80
    assert last == f"next: gsvae-tune doctor {paths.root.parent} --fix"
    (report,) = json.loads(cli(paths.root, "--json")[1])
    assert set(report) == {"study", "folder", "driver", "healthy", "findings"}
    assert report["healthy"] is False
    assert {one["code"] for one in report["findings"] if one["severity"] != "note"} == {
        "verdict-damaged", "result-damaged",
    }  # fmt: skip
    for one in report["findings"]:
        assert set(one) == {"code", "study", "subject", "problem", "severity", "fix", "done"}
    code, out, _ = cli(paths.root, "--fix")
    assert (code, out.count("mended")) == (0, 2)
    code, out, _ = cli(paths.root, "--fix", "--json")
    assert (code, json.loads(out)[0]["findings"]) == (0, [])


def test_wrong_input(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    for args in (["nowhere"], ["empty"], ["x" * 5000], ["."], []):
        code, _, err = cli(*args)
        assert code == 2
        assert err


def test_a_study_without_its_study_file_is_diagnosed(cli, simulated):
    _, paths = simulated
    own = owner(paths)
    paths.study.unlink()
    for folder in (paths.root, paths.root.parent):
        code, out, _ = cli(folder, "--json")
        (report,) = json.loads(out)
        assert code == 3
        assert [one["code"] for one in report["findings"]] == ["study-missing"]
        assert own in report["findings"][0]["fix"]  # with which it can be made anew


def test_many_findings_of_a_kind_are_one_row(cli, simulated):
    _, paths = simulated
    for path in paths.trials.glob("*/*/config.json"):
        path.unlink()
    for number in range(3, 12):
        paths.trial("pair", number).root.mkdir()
    for index in range(12):
        (paths.root / f"link{index}").symlink_to("/etc")
    code, out, _ = cli(paths.root, width=300)
    assert code == 3
    assert "and 11 more like it" in " ".join(out.split())
