"""Every mistake in a study file: one message with file, key, value and what is legal."""

import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvae_tune.search import studies
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.loading import parse, read_value, read_yaml

GOOD = """
name: mine
arms:
  pair:
    space:
      learning_rate: {low: 1e-4, high: 1e-2, log: true}
      tau_start: 1.0
"""


@pytest.fixture
def complain(tmp_path):
    path = tmp_path / "mine.yaml"

    def check(text, **overrides):
        path.write_text(text)
        with pytest.raises(InputError) as caught:
            studies.load(
                str(path), {k.replace("__", "."): (v, f"--{k}") for k, v in overrides.items()}
            )
        return str(caught.value).replace(str(path), "mine.yaml")

    return check


def test_a_good_study(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    config = studies.load(str(path))
    assert config.arms["pair"].space["learning_rate"].low == 1e-4  # YAML 1.1 would read text
    path.write_text(GOOD.replace("name: mine\n", ""))
    assert studies.load(str(path)).name == "mine"  # the file's name


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("arms:", "arm:", ["mine.yaml: arm: unknown key", "did you mean arms?"]),
        ("pair:", "pare:", ["arms.pare: unknown method 'pare'", "pair, fixed-factor, constant", "(did you mean pair?)"]),
        ("tau_start:", "tau_stat:", ["arms.pair.space.tau_stat: unknown setting", "did you mean tau_start?"]),
        ("1.0", "hot", ["arms.pair.space.tau_start: 'hot' is not legal", "legal: a valid number"]),
        ("1.0", "7.0", ["tau_start = 7.0 does not stay below tau_max = 5.0", "tau_start in [tau_min, tau_max]"]),
        ("1.0", "0.01", ["tau_min = 0.05 does not stay below tau_start = 0.01"]),
        ("1.0", "-1", ["arms.pair.space.tau_start: -1 is not legal", "greater than 0"]),
        ("1.0", "1.0\n      tau_min: 3.0\n      tau_max: 2.0", ["tau_min = 3.0 does not stay below tau_max = 2.0"]),
        ("1.0", "1.0\n      tau_min: 1.0\n      tau_max: 1.0", ["tau_min = 1.0 does not stay below tau_max"]),
        ("1.0", "{low: 0.01, high: 3}", ["tau_min = 0.05 does not stay below tau_start in [0.01, 3.0]"]),
        ("1.0", "{low: 2, high: 1}", ["the range [2.0, 1.0] is empty", "legal: low < high"]),
        ("1.0", "{low: 1, high: tau_end}", ["its end 'tau_end' is no number and no earlier setting"]),
        ("1.0", "{low: 0.1, high: learning_rate}", ["the range may be empty"]),
        ("1.0", "1.0\n      rule_a: chill", ["rule_a: unknown rule 'chill'", "legal: hold, cool, warm, step-down"]),
        ("1.0", "1.0\n      rule_a: [cool, chill]", ["rule_a: unknown rule 'chill'"]),
        ("1.0", "1.0\n      coupling: love", ["unknown coupling 'love'", "legal: independent, follow-winner"]),
        ("1.0", "1.0\n      rule_a: {low: 1, high: 2}", ["a range on a setting that is no number"]),
        ("1.0", "1.0\n      signal: relaxed", ["signal: 'relaxed' is not legal", "'control-relaxed'"]),
        ("1.0", "1.0\n      period: 1.5", ["period: 1.5 is not legal", "a valid integer"]),
        ("1.0", "1.0\n      factor_a: {low: 0.5, high: 0.9, when: {rule_a: chill}}", ["factor_a.when.rule_a: unknown rule"]),
        ("1.0", "1.0\n      factor_a: {low: 0.5, high: 0.9, when: {rul: cool}}", ["'rul' is not set before it"]),
        ("1.0", "1.0\n      factor_a: {low: 0.5, high: 0.9, when: {rule_a: cool}}\n      rule_a: [cool, hold]", ["'rule_a' is not set before it"]),
        ("log: true", "logg: true", ["arms.pair.space.learning_rate.logg: unknown key", "did you mean log?"]),
        ("low: 1e-4", "low: 0.0", ["logarithmic range", "low > 0"]),
        ("name: mine", "name: ../mine", ['name: "../mine" is not legal', "letters, digits"]),
        ("name: mine", "name: mine\nname: yours", ["line 3: the key 'name' stands twice"]),
        ("name: mine", "name: mine\nseed: 1.5", ["seed: 1.5 is not legal", "a whole number"]),
        ("name: mine", "name: mine\nseed: true", ["seed: true is not legal", "a whole number"]),
        ("name: mine", "name: mine\nreplicates: 0", ["replicates: 0 is not legal", "greater than or equal to 1"]),
        ("name: mine", "name: mine\nsearch: {trials: 0}", ["search.trials: 0 is not legal"]),
        ("name: mine", "name: mine\nsearch: {sampler: tp}", ['search.sampler: "tp" is not legal', "'tpe', 'random'"]),
        ("name: mine", "name: mine\nresources: {gpus_per_trial: 2.5}", ["resources.gpus_per_trial: 2.5 is not legal", "less than or equal to 1"]),
        ("name: mine", "name: mine\ndata: {source: cifar}", ['data.source: "cifar" is not legal']),
        ("name: mine", "name: mine\ndata: {control: 0.5, validation: 0.4, test: 0.2}", ["leave no training images", "a sum below 1"]),
        ("name: mine", "name: mine\nmodel: {hidden: []}", ["model.hidden: [] is not legal", "at least one entry"]),
        ("name: mine", "name: mine\ntraining: 3", ["training: 3 is not legal", "a mapping"]),
        ("name: mine", "name: mine\ntraining: {epochs: .inf}", ["training.epochs"]),
        ("name: mine", "name: !!python/object:os.system x", ["is not valid YAML"]),
        ("name: mine", "name: [", ["is not valid YAML"]),
        ("1.0", "null", ["tau_start: null is no value", "legal: a number, text, true or false"]),
        ("1.0", "[[1.0]]", ["tau_start: [1.0] is no value"]),
        ("1.0", "[]", ["tau_start: choices is []", "at least one value"]),
        ("1.0", "{choices: [1.0], value: 1.0}", ["'value' does not go with 'choices'", "legal: choices, when"]),
        ("1.0", "{low: 0.5, high: [1]}", ["high is [1]", "a number or the name of a setting"]),
        ("1.0", "1.0\n      period: {low: 1, high: 3, when: 3}", ["period: when is 3", "legal: {setting: value}"]),
        ("1.0", "1.0\n      period: {low: 1, high: 3, when: {rule_a: []}}", ["when.rule_a is []"]),
        ("1.0", "1.0\n      period: 1:30", ["period: '1:30' is not legal"]),
        ("name: mine", "name: mine\ntraining: {epochs: 010}", ['training.epochs: "010" is not legal', "a whole number"]),
        ("name: mine", "name: mine\ntraining: {evaluation_samples: 1000000000000000000000}", ["evaluation_samples"]),
        ("name: mine", "name: mine\nresources: {cpus_per_trial: 1e-9}", ["greater than or equal to 0.01"]),
        ("name: mine", "name: mine\nresources: {gpus_per_trial: 1e-320}", ["legal: 0, or a fraction from 0.01 to 1"]),
        ("name: mine", "? !!binary aGk=\n: 1", ["mine.yaml"]),
        ("name: mine", "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 9) + "]\n" for n in range(1, 12)), ["grows beyond 10000 values"]),
    ],
)  # fmt: skip
def test_mistakes(complain, old, new, said):
    assert old in GOOD
    message = complain(GOOD.replace(old, new, 1))
    for part in said:
        assert part in message
    assert "mine.yaml" in message


MERGED = "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 32))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 30_000, "line 1: nests deeper than 32 levels"),
        ("a: " + "[" * 31 + "]" * 31, "a: unknown key"),  # as deep as is legal
        ("a: " + "[" * 32 + "]" * 32, "nests deeper than 32 levels"),
        ("a0: &a0 1\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100)), "nests deeper than 32 levels"),
        ("a0: &a0 {x: 1}\n" + MERGED, "grows beyond 10000 values, aliases written out"),
        ("a: &a " + "x" * 50_000 + "\nb: [*a, *a, *a]", "line 2: grows beyond 10000 values"),
        ("a: &a [*a]", "line 1: an alias stands inside what it names"),
        ("a: &a {<<: *a}", "an alias stands inside what it names"),
        ("a: [" + "x," * 257 + "]", "has 257 entries; legal: at most 256"),
        ("[" + "[],[]," * 15_000, "grows beyond 10000 values"),
        ("? [1]\n: 1", "line 1: a key is no text"),
        ('1: x\n"1": x', "the key '1' stands twice"),
        ("null: 1", "null: unknown key"),
        ("name: !!set {a}", "could not determine a constructor for the tag"),
        ("name: !!map x", "line 1: what stands here is no mapping"),
        ("seed: !!int ''", "what stands here is no whole number that can be read"),
        ("seed: " + "9" * 5000, "what stands here is no whole number that can be read"),
        ("seed: 1e999", "seed: Infinity is not legal"),
        ("seed: .nan", "seed: NaN is not legal"),
        ("seed: !!bool maybe", "what stands here is no true or false that can be read"),
        ('name: "\\ud800"', "line 1: a text holds half a character"),
        ('name: "\\UFFFFFFFF"', "is not valid YAML"),
        ("name: \0", "is not valid YAML"),
        ("k" * 900 + ": 1", r"kkk\.\.\.: unknown key"),
    ],
)  # fmt: skip
def test_what_yaml_can_do_is_bounded(complain, text, said):
    message = complain(text)
    assert re.search(said, message)
    assert message.startswith("mine.yaml")
    assert len(message) < 1000


def test_an_alias_and_a_merged_mapping_are_what_they_name(complain, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "a: &a {x: &k 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: &d {<<: *a, x: 9}, z: *d}\n*k : *k\n"
    )
    assert read_yaml(path) == {
        "a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 9, "y": 2, "z": {"x": 9, "y": 2}}, "1": 1,
    }  # fmt: skip


def test_files_in_another_encoding_and_what_never_ends(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(InputError, match="is not valid YAML: 'utf-8' codec"):
        studies.load(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="it is no file"):
        studies.load(str(path))


def test_many_faults_are_one_message_of_bearable_length(complain):
    message = complain("\n".join(f"{'k' * 300}{n}: 1" for n in range(100)))
    assert message.count("unknown key") == 19  # and one: no arms
    assert message.endswith("and 81 more")
    assert len(message) < 10_000


@pytest.mark.parametrize(
    "text",
    ["storage: [URL]", "storage: {a: URL}", "name: {storage: URL}", "storage: &s URL\nstorage: *s",
     "storage: !!int URL", "storage: !!map URL", "storage: URL\nname: [", "storage: URL\nseed: x", "- storage: URL",
     'storage: URL\narms: 1\nname: "\\ud800"', "storage: 'URL\n", "storage: {URL: 1}", "storage: URL: 1"],
)  # fmt: skip
def test_no_message_shows_a_storage(complain, text):
    assert "secret" not in complain(text.replace("URL", "postgresql://me:secret@host/db"))


def test_a_value_on_the_command_line_is_bounded_too():
    for text in ("[" * 100, "&a [*a]", "x" * 100_001, "!!python/object:os.system x"):
        with pytest.raises(InputError, match=r"--set x: '.* is no YAML value") as caught:
            read_value(text, "--set x")
        assert len(str(caught.value)) < 200
    with pytest.raises(InputError, match="--set storage: it is no YAML value"):
        read_value("[secret", "--set storage")


@pytest.mark.parametrize(
    "name", ["..", ".", ".x", "a/b", "/a", "a\n", "\na", "a\\b", "", "é", "a\0", "-a"]
)
def test_no_name_leaves_its_folder(name):
    """An end of line is no end of text: names are whole or refused."""
    raw = {"name": "mine", "arms": {"pair": {}}}
    for wrong in (raw | {"name": name}, raw | {"arms": {name: {"method": "pair"}}}):
        with pytest.raises(InputError, match="is not legal"):
            parse(wrong, "mine.yaml")


def test_a_flag_is_named_in_its_mistake(complain):
    message = complain(GOOD, search__trials=0)
    assert message.startswith("--search__trials: search.trials: 0 is not legal")


def test_files_that_are_none(complain, tmp_path):
    assert "holds no study" in complain("[1, 2]")
    assert "at most 100000" in complain("#" * 100_001)
    with pytest.raises(InputError, match="No such file"):
        studies.load(str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match=r"no study named 'digit'(.|\n)*did you mean digits"):
        studies.load("digit")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "arms", "pair", "space", "low", "x"]), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["name", "data", "model", "training", "search", "arms", "resources", "seed"]),
)  # fmt: skip
def test_whatever_stands_in_a_study_there_is_a_study_or_one_message(value, key):
    raw = {"name": "mine", "arms": {"pair": {"space": {}}}} | {key: value}
    message = None
    try:
        studies.check(parse(raw, "mine.yaml"), "mine.yaml")
    except InputError as error:  # and no other
        message = str(error)
    assert message is None or "mine.yaml" in message


def test_identity_leaves_out_where_and_how_long(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)

    def digest(**overrides):
        return studies.load(
            str(path), {k.replace("__", "."): (v, "--x") for k, v in overrides.items()}
        ).digest()

    same = digest(
        search__trials=99, out="elsewhere", resources__cpus=1, data__dir="x", description="y"
    )
    assert same == digest()
    for change in (
        {"seed": 1},
        {"replicates": 9},
        {"training__epochs": 3},
        {"search__sampler": "random"},
    ):
        assert digest(**change) != digest()
    assert digest(model__hidden=[9]) != digest()
    assert digest(data__source="npz:here") == digest(data__source="npz:there")  # checksums tell


def test_the_resolved_study_reads_itself_back(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    config = studies.load(str(path))
    again = StudyConfig.model_validate_json(json.dumps(config.model_dump(mode="json")))
    assert again == config
