"""From the search to the verdict on a real Ray: confirmation, pairing, the test split, all arms."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch

from gsvae_tune.execution import runner
from gsvae_tune.report import summary
from gsvae_tune.search.arms import ARMS
from gsvae_tune.search.confirm import searched_arms
from gsvae_tune.search.studies import check
from gsvae_tune.study.errors import InputError, UnfinishedError
from gsvae_tune.study.loading import parse
from gsvae_tune.study.openings import read_openings
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TestResult, TrialResult, read_json_lines
from gsvae_tune.study.seeds import replicate_seed
from gsvae_tune.vae import checkpoint
from tests.execution.test_runner import assert_same

HASHES = ["init_hash", "order_hash", "noise_hash"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One whole smoke study that several tests read."""
    return {"out": str(tmp_path_factory.mktemp("whole"))}


@pytest.fixture
def whole(kept, smoke, run):
    if "tables" not in kept:
        config = smoke(out=kept["out"], protocol__until="verdict", training__epochs=12)
        kept["done"], kept["tables"] = run(config)
        kept["config"], kept["paths"] = config, StudyPaths.of(config.out, config.name)
    return kept


def test_the_best_of_each_arm_are_confirmed_and_tested(whole):
    assert (whole["done"].trained, whole["done"].tested) == (6 + 2, 2)
    trials, replicates = whole["tables"]["trials"], whole["tables"]["replicates"]
    for arm in whole["config"].arms:
        own = trials[trials.arm == arm]
        searched, confirmed = (own[own.phase == phase] for phase in ("search", "confirm"))
        assert confirmed.number.tolist() == [searched.set_index("number").value.idxmin()]
        folder = whole["paths"].trial(arm, int(confirmed.number.iloc[0]), "confirm")
        test = TestResult.read(folder.test)
        assert [row.replicate for row in test.replicates] == list(range(6))
        assert test.reopened is None
    tested = replicates.test_neg_elbo_nats.notna()
    assert (tested == (replicates.phase == "confirm")).all()
    measured = replicates[tested]
    assert (measured.test_iwae_nats <= measured.test_neg_elbo_nats + 1.0).all()
    assert measured.code_perplexity.between(1.0, 4.0).all()
    assert measured.vertex_share.between(0.0, 1.0).all()
    assert set(measured.iwae_samples) == {20}


def test_every_opening_is_in_the_ledger_file(whole):
    openings = read_openings(whole["paths"])
    trials = whole["tables"]["trials"]
    confirmed = trials[trials.phase == "confirm"]
    assert {(o.arm, o.number) for o in openings} == set(
        zip(confirmed.arm, confirmed.number, strict=True)
    )
    assert not any(opening.again for opening in openings)


def test_replicates_are_paired_across_arms_and_fresh(whole):
    replicates = whole["tables"]["replicates"]
    for phase in ("search", "confirm"):
        own = replicates[replicates.phase == phase]
        assert (own.groupby("replicate")[[*HASHES, "seed"]].nunique() == 1).all().all()
        seeds = [replicate_seed(0, phase, int(r)) for r in own.replicate.unique()]
        assert sorted(own.seed.unique()) == sorted(seeds)
    for key in [*HASHES, "seed"]:
        search = set(replicates[replicates.phase == "search"][key])
        assert not search & set(replicates[replicates.phase == "confirm"][key])


def test_the_verdict_is_written_and_says_it_is_paired(whole):
    config, paths = whole["config"], whole["paths"]
    verdict = summary.judge(config, paths, None, whole["tables"])
    (one,) = json.loads(paths.verdict.read_text())["comparisons"]
    assert one["paired"]
    assert one["n"] == 6
    assert one["metric"] == "test_neg_elbo_nats"
    given = verdict.arms["pair"].compute
    assert given.steps == 2 * (3 * 2 + 6) * 12 * 8  # members x replicates x epochs x batches
    assert given.steps == verdict.arms["fixed-factor"].compute.steps


def test_the_same_seed_gives_the_same_tables_and_another_run_nothing(whole, smoke, run):
    _, again = run(smoke(protocol__until="verdict", training__epochs=12, resources__cpus=1))
    assert_same(whole["tables"], again)
    before = {p: p.stat().st_mtime_ns for p in whole["paths"].trials.rglob("*")}
    done, _ = run(whole["config"])
    assert (done.trained, done.tested) == (0, 0)
    assert before == {p: p.stat().st_mtime_ns for p in whole["paths"].trials.rglob("*")}


def test_a_run_killed_in_the_test_phase_goes_on_under_its_opening(smoke, run, tmp_path):
    config = smoke(protocol__until="verdict", search__trials=1)
    _, tables = run(config)
    paths = StudyPaths.of(config.out, config.name)
    openings = paths.openings.read_bytes()
    lost = paths.trial("pair", 0, "confirm").test
    before = lost.read_bytes()
    lost.unlink()
    done, again = run(config)
    assert done.tested == 1
    assert lost.read_bytes() == before
    assert paths.openings.read_bytes() == openings
    assert_same(tables, again)


def test_confirmed_models_that_are_lost_are_trained_again_to_the_same_end(smoke, run, tmp_path):
    config = smoke(protocol__until="confirm", search__trials=1)
    run(config)
    paths = StudyPaths.of(config.out, config.name)
    lost, cut, forgotten = (
        paths.trial("pair", 0, "confirm").checkpoint,
        paths.trial("fixed-factor", 0, "confirm").checkpoint,
        paths.trial("fixed-factor", 0, "confirm").epochs,
    )
    records = [record | {"wall_s": 0} for record in read_json_lines(forgotten)]
    results = {p: p.read_bytes() for p in paths.trials.glob("*/*/result.json")}
    weights = {path: checkpoint.load(path)["model"] for path in (lost, cut)}
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    forgotten.unlink()
    done, tables = run(smoke(protocol__until="verdict", search__trials=1))
    assert (done.trained, done.tested) == (0, 2)
    assert results == {p: p.read_bytes() for p in paths.trials.glob("*/*/result.json")}
    assert records == [record | {"wall_s": 0} for record in read_json_lines(forgotten)]
    for path, before in weights.items():
        again = checkpoint.load(path)["model"]
        assert all(torch.equal(again[key], value) for key, value in before.items())
    assert not list(paths.trials.glob("*/*/again"))
    whole = smoke(protocol__until="verdict", search__trials=1, out=str(tmp_path / "whole"))
    assert_same(run(whole)[1], tables)


def test_a_lost_model_that_comes_out_otherwise_is_not_measured(smoke, run):
    config = smoke(protocol__until="confirm", search__trials=1)
    run(config)
    folder = StudyPaths.of(config.out, config.name).trial("pair", 0, "confirm")
    folder.checkpoint.unlink()
    stands = TrialResult.read(folder.result)
    dataclasses.replace(stands, value=stands.value + 1.0).write(folder.result)
    with pytest.raises(UnfinishedError, match=r"the test of pair #0 stopped: .*trained again it"):
        run(smoke(protocol__until="verdict", search__trials=1))
    assert not folder.test.exists()


def test_phase_by_phase_is_the_same_as_at_once(smoke, run, tmp_path):
    _, at_once = run(smoke(protocol__until="verdict", search__trials=2))
    out = str(tmp_path / "steps")
    did = []
    for until in ("search", "confirm", "verdict"):
        done, tables = run(smoke(protocol__until=until, search__trials=2, out=out))
        did.append((done.trained, done.tested))
    assert did == [(4, 0), (2, 0), (0, 2)]
    assert_same(at_once, tables)


def test_searching_on_after_the_test_is_refused_before_anything_happens(smoke, run, tmp_path):
    config = smoke(protocol__until="verdict", search__trials=1)
    run(config)
    paths = StudyPaths.of(config.out, config.name)
    before = {p: p.read_bytes() for p in paths.root.rglob("*.json*") if p != paths.holder}
    with pytest.raises(
        InputError, match=r"the test split was opened on .*, after 2 trials; what 2 more find"
    ):
        run(smoke(protocol__until="verdict", search__trials=2))
    assert before == {p: p.read_bytes() for p in before}
    reason = {"protocol__until": "verdict", "protocol__reopen_test": "a reviewer asked"}
    done, tables = run(smoke(search__trials=4, **reason))
    assert done.trained >= 6
    if done.tested:
        marked = tables["replicates"].test_reopened.dropna()
        assert set(marked) == {"a reviewer asked"}


@pytest.mark.parametrize("metric", ["neg_elbo", "iwae"])
def test_every_arm_and_every_estimator_trains_confirms_and_is_judged(run, tmp_path, metric):
    """All of them are real: same members, steps and samples, finite losses, one verdict each."""
    estimators = ["straight-through", "gumbel-rao", "reinmax", "decoupled"]
    names = list(ARMS) if metric == "neg_elbo" else ["fixed-factor"]
    arms = {name: {"space": {}} for name in names} | {
        f"by-{estimator}": {"method": "constant", "space": {"estimator": estimator}}
        for estimator in (estimators if metric == "neg_elbo" else estimators[:1])
    }
    raw = {
        "name": "all", "out": str(tmp_path), "replicates": 2, "arms": arms,
        "data": {"source": "digits", "limit": 300},
        "model": {"hidden": [16], "latents": 3, "categories": 4},
        "training": {"epochs": 3, "batch_size": 50}, "search": {"trials": 1},
        "protocol": {"replicates": 3, "top": 1, "iwae_samples": 3, "metric": metric,
                     "compute_tolerance": 1000.0},
        "resources": {"gpus_per_trial": 0.0},
    }  # fmt: skip
    config = parse(raw, "test")
    check(config, "test")
    _, tables = run(config)
    trials, replicates = tables["trials"], tables["replicates"]
    assert set(trials.state) == {"complete"}
    assert trials.steps.nunique() == 1
    confirmed = replicates[replicates.phase == "confirm"]
    assert set(confirmed.arm) == set(config.arms)
    assert np.isfinite(confirmed.test_neg_elbo_nats).all()
    assert (confirmed.groupby("replicate")[HASHES].nunique() == 1).all().all()
    paths = StudyPaths.of(config.out, config.name)
    verdict = summary.judge(config, paths, None, tables)
    assert {arm.compute.steps for arm in verdict.arms.values()} == {2 * (2 + 3) * 3 * 6}
    assert {arm.compute.configurations for arm in verdict.arms.values()} == {1}
    assert all(one.paired for one in verdict.comparisons)
    if metric == "iwae":
        assert {one.metric for one in verdict.comparisons} == {"test_iwae_nats"}
        return
    assert len(verdict.comparisons) == len(arms)  # each against the baseline, and pair - yoked
    # what the yoked arm trained at is what the pair had trained at on another seed
    replayed = [r["tau"] for r in read_json_lines(paths.trial("yoked", 0, "confirm").epochs)]
    original = [r["tau"] for r in read_json_lines(paths.trial("pair", 0, "confirm").epochs)]
    assert replayed == [[taus[1], taus[2], taus[0]] for taus in original]
    learned = [r["tau"] for r in read_json_lines(paths.trial("learned-tau", 0).epochs)]
    assert learned[0] == [[1.0, 0.5]] * 2
    assert learned[1] != learned[0]
    assert searched_arms(config) == [arm for arm in arms if arm != "yoked"]


def test_a_lost_result_of_a_confirmation_stops_what_would_say_what_is_not_so(smoke, run):
    config = smoke(protocol__until="verdict", search__trials=1)
    run(config)
    paths = StudyPaths.of(config.out, config.name)
    lost = paths.trial("pair", 0, "confirm").result
    lost.write_text("")
    before = {path: path.read_bytes() for path in paths.root.glob("*.json")}
    for call in (summary.export, summary.build_tables):
        with pytest.raises(
            InputError, match=r"missing or damaged(.|\n)*gsvae-tune doctor .* --fix"
        ):
            call(config, paths, None)
    assert before == {path: path.read_bytes() for path in before}


def test_images_that_change_under_a_run_are_not_measured(smoke, run, tmp_path):
    images = (np.random.default_rng(0).random((300, 8, 8)) > 0.5).astype(np.uint8) * 255
    file = tmp_path / "mine.npz"
    np.savez(file, images=images)
    source = {"data__source": f"npz:{file}", "data__limit": None, "search__trials": 1}
    run(smoke(protocol__until="confirm", **source))
    checked = runner.check_study

    def then_change(*args):
        np.savez(file, images=255 - images)
        return checked(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "check_study", then_change)
        with pytest.raises(InputError, match="the images are not those the study began with"):
            run(smoke(protocol__until="verdict", **source))
    assert not list(tmp_path.rglob("test.json"))


def test_a_foreign_model_is_trained_again_and_not_measured(smoke, run, tmp_path):
    config = smoke(protocol__until="confirm", search__trials=1)
    run(config)
    paths = StudyPaths.of(config.out, config.name)
    one, other = (paths.trial(arm, 0, "confirm").checkpoint for arm in config.arms)
    before = one.read_bytes()
    one.write_bytes(other.read_bytes())
    _, tables = run(smoke(protocol__until="verdict", search__trials=1))
    assert checkpoint.load(one)["trial"] == json.loads(json.dumps(_whose(before)))
    whole = smoke(protocol__until="verdict", search__trials=1, out=str(tmp_path / "whole"))
    assert_same(run(whole)[1], tables)


def _whose(content):
    return torch.load(io.BytesIO(content), weights_only=True)["trial"]
