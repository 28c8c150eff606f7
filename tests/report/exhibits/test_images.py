"""Images of models that are there, and a true sentence where they are not."""

import dataclasses
import json

import pytest
import torch

from gsvae_tune.report.exhibits import comparison, images
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.data import load_splits
from gsvae_tune.vae.network import StackedVAE
from tests.report.estimates.test_differences import judged
from tests.report.made import made_study

SMALL = {"model__hidden": (8,), "model__latents": 2, "model__categories": 3}


def saved(study, tmp_path, arms=("pair", "constant", "fixed-factor")):
    """The study in a folder, with a checkpoint of every trial of these arms; weights differ."""
    splits = load_splits(study.config.data, study.config.seed)
    paths = StudyPaths(tmp_path)
    for place, row in enumerate(study.trials.itertuples()):
        if row.arm not in arms:
            continue
        search = row.phase == "search"
        count = study.config.replicates if search else study.config.protocol.replicates
        seeds = [100 * place + replicate for replicate in range(count)]
        model = StackedVAE(study.config.model, splits.pixels, seeds)
        path = paths.trial(row.arm, row.number, row.phase).checkpoint
        path.parent.mkdir(parents=True, exist_ok=True)
        whose = json.dumps({"arm": row.arm, "phase": row.phase, "number": row.number})
        checkpoint.save(path, {"model": model.state_dict(), "trial": whose})
    recorded = {**study.recorded, "data": {"checksum": splits.checksum}}
    return dataclasses.replace(study, paths=paths, recorded=recorded)


def both(study):
    return [one.drawn() for one in images.exhibits(study)]


def titles(drawn):
    return [axes.get_title(loc="left") for axes in drawn.figure.axes]


def number_of(study, arm):
    return study.verdict.arms[arm].finalist.number


def test_finalists_stand_beside_each_other(tmp_path):
    study = saved(judged(made_study(trials=2, epochs=1, **SMALL)), tmp_path)
    pair, base = (f"{arm} #{number_of(study, arm)}" for arm in ("pair", "fixed-factor"))
    kept, dreamt = both(study)
    assert titles(kept) == ["original", pair, base]
    assert titles(dreamt) == [pair, base]
    assert "on all 270 validation images" in kept.finding
    assert "One seed of each" in kept.finding
    assert "In 1,000 samples of each" in dreamt.finding
    kept.encoded("svg")
    dreamt.encoded("png")


def test_the_validation_split_is_what_is_shown(tmp_path):
    study = saved(judged(made_study(trials=2, epochs=1, **SMALL)), tmp_path)
    splits = load_splits(study.config.data, study.config.seed)
    kept, _ = both(study)
    page = kept.figure.axes[0].images[0].get_array()
    assert (page[1:9, 1:9] == splits.validation[0].reshape(8, 8) / 255).all()


def test_models_are_loaded_once_for_both(tmp_path, monkeypatch):
    study = saved(judged(made_study(trials=2, epochs=1, **SMALL)), tmp_path)
    found = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda path: found.append(path) or load(path))
    both(study)
    assert len(found) == 2


def test_the_first_replicate_sound_in_both_is_shown(tmp_path):
    study = made_study(trials=2, epochs=1, **SMALL)
    rows = study.replicates
    lost = (rows.phase == "confirm") & (
        ((rows.arm == "pair") & (rows.replicate == 0))
        | ((rows.arm == "fixed-factor") & (rows.replicate == 1))
    )
    rows.loc[lost, ["diverged", "best_branch"]] = [True, None]
    kept, _ = both(saved(judged(study), tmp_path))
    assert "seed 2 of each" in " ".join(kept.figure.get_supxlabel().split())


def test_before_a_verdict_the_search_s_best_is_shown_and_called_so(tmp_path):
    kept, _ = both(saved(made_study(trials=2, epochs=1, confirmed=0, **SMALL), tmp_path))
    assert "No verdict yet" in kept.figure.get_supxlabel()


def test_without_a_pair_the_best_other_arm_is_shown(tmp_path):
    study = made_study(trials=2, epochs=1, **SMALL)
    config = study.config.model_copy(
        update={"arms": {arm: study.config.arms[arm] for arm in ("constant", "fixed-factor")}}
    )
    tables = {
        name: table[table.arm.isin(list(config.arms))]
        for name in ("trials", "replicates", "epochs")
        if (table := getattr(study, name)) is not None
    }
    study = judged(dataclasses.replace(study, config=config, **tables))
    kept, _ = both(saved(study, tmp_path))
    assert titles(kept)[1].startswith("constant #")


def test_one_arm_alone_is_shown_alone(tmp_path):
    study = made_study(trials=2, epochs=1, **SMALL)
    config = study.config.model_copy(update={"arms": {"pair": study.config.arms["pair"]}})
    kept, dreamt = both(saved(dataclasses.replace(study, config=config), tmp_path))
    assert len(titles(kept)) == 2
    assert len(titles(dreamt)) == 1


def test_lost_damaged_and_foreign_models_are_said(tmp_path):
    study = saved(judged(made_study(trials=2, epochs=1, **SMALL)), tmp_path)
    path = study.paths.trial("pair", number_of(study, "pair"), "confirm").checkpoint
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert all("cannot be read" in one.finding and one.figure is None for one in both(study))
    theirs = study.paths.trial("fixed-factor", number_of(study, "fixed-factor"), "confirm")
    path.write_bytes(theirs.checkpoint.read_bytes())
    assert all("is of another trial" in one.finding for one in both(study))
    path.unlink()
    assert all("is not there" in one.finding for one in both(study))


def test_weights_that_are_no_numbers_are_said(tmp_path):
    study = saved(judged(made_study(trials=2, epochs=1, **SMALL)), tmp_path)
    path = study.paths.trial("pair", number_of(study, "pair"), "confirm").checkpoint
    state = checkpoint.load(path)
    for tensor in state["model"].values():
        tensor.fill_(torch.nan)
    checkpoint.save(path, state)
    assert all("are no numbers" in one.finding for one in both(study))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"archive": True}, "an archive"),
        ({"recorded": {"data": {"checksum": "0" * 64}}}, "not those the study began with"),
    ],
)
def test_what_is_not_here_is_said(tmp_path, change, says):
    study = saved(judged(made_study(trials=2, epochs=1, **SMALL)), tmp_path)
    for one in both(dataclasses.replace(study, **change)):
        assert one.figure is None
        assert says in one.finding


def test_images_that_are_on_no_disk_are_said(tmp_path):
    study = saved(judged(made_study(trials=2, epochs=1, **SMALL)), tmp_path)
    elsewhere = {"source": "mnist", "dir": str(tmp_path / "nowhere")}
    data = study.config.data.model_copy(update=elsewhere)
    study = dataclasses.replace(study, config=study.config.model_copy(update={"data": data}))
    for one in both(study):
        assert one.figure is None
        assert "train-images-idx3-ubyte.gz of mnist was not found" in one.finding


def test_they_are_part_of_the_comparison():
    keys = [one.key for one in comparison.exhibits(made_study(trials=1))]
    assert keys[-2:] == ["comparison-reconstructions", "comparison-samples"]
