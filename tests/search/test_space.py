"""Spaces: proofs at reading time, grids, agreement with the arms, the schema."""

import inspect
import json

import jsonschema
import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gsvae_tune.search import studies
from gsvae_tune.search.arms import ARMS, Arm, PairArm
from gsvae_tune.search.confirm import searched_arms
from gsvae_tune.search.samplers import make_sampler
from gsvae_tune.search.space import ArmSpace
from gsvae_tune.study.config import ArmConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.loading import parse
from gsvae_tune.tau import PairController


def space(settings, arm="pair"):
    return ArmSpace(
        arm, parse({"name": "s", "arms": {arm: {"space": settings}}}, "t").arms[arm], "t"
    )


def test_a_grid_has_every_legal_configuration_once():
    grid = space(
        {
            "rule_a": ["cool", "hold"],
            "factor_a": {"low": 0.5, "high": 0.9, "when": {"rule_a": "cool"}},
            "period": {"low": 1, "high": 3},
            "tau_start": {"low": 0.1, "high": 0.4, "log": True},
        }
    ).grid(3)
    assert len(grid) == (3 + 1) * 3 * 3
    assert len({json.dumps(params, sort_keys=True) for params in grid}) == len(grid)
    assert sorted({params["tau_start"] for params in grid}) == pytest.approx([0.1, 0.2, 0.4])
    assert {params["period"] for params in grid} == {1, 2, 3}
    assert all(("factor_a" in params) == (params["rule_a"] == "cool") for params in grid)


def test_a_grid_leaves_out_empty_ranges():
    grid = space(
        {
            "tau_start": {"low": 0.1, "high": 1.0},
            "tau_min": {"low": 0.05, "high": "tau_start"},
            "tau_max": {"low": "tau_start", "high": 5.0},
        }
    ).grid(2)
    assert len(grid) == 2 * (2 * 2 - 1)  # tau_min = tau_start = tau_max is no range
    assert all(params["tau_min"] < params["tau_max"] for params in grid)


def test_fixed_settings_and_single_choices_are_not_searched():
    arm = space({"tau_start": 0.7, "coupling": ["tournament"], "period": {"low": 2, "high": 4}})
    assert arm.searched == ["period"]
    settings = arm.settings({"period": 3})
    assert (settings.tau_start, settings.coupling, settings.period) == (0.7, "tournament", 3)
    with pytest.raises(ValueError, match="periods"):
        arm.settings({"periods": 3})


def test_a_condition_may_name_a_fixed_setting_or_a_default():
    active = {"factor_a": {"low": 0.5, "high": 0.9, "when": {"rule_a": "cool"}}}
    assert space({"rule_a": "cool", **active}).grid(2) == [{"factor_a": 0.5}, {"factor_a": 0.9}]
    assert space({"rule_a": "hold", **active}).grid(2) == [{}]
    assert space(active).grid(2) == [{"factor_a": 0.5}, {"factor_a": 0.9}]  # cool by default


def test_the_pairs_settings_are_the_controllers():
    controller = inspect.signature(PairController).parameters
    own = set(PairArm.model_fields) - {*Arm.model_fields, "signal"}
    told = {"replicates", "steps_per_epoch", "horizon", "collapse_kl", "guard_factor"}
    assert own == set(controller) - told
    for name in own:
        assert PairArm.model_fields[name].default == controller[name].default, name


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_trains_with_its_defaults(name):
    given = {} if ARMS[name].searched else {"tau_paths": [[(1.0, 0.5), (0.9, 0.4)]]}
    controller = ARMS[name](**given).controller([1, 2, 3], steps_per_epoch=10, epochs=5)
    assert controller.tau.shape == (3, 2)
    controller.update([[1.0, 2.0]] * 3, [[1.0, 1.0]] * 3)


def test_the_baselines_second_member_has_its_own_factor():
    controller = ARMS["fixed-factor"](factor_a=0.5, factor_b=0.8, tau_min=0.1).controller([0], 1, 1)
    assert controller.update([[1.0, 2.0]]).tolist() == [[0.5, 0.8]]


def test_the_schema_documents_every_key_and_accepts_the_shipped_studies():
    schema = studies.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(studies.shipped()) == ["controls", "digits", "fashion-mnist", "mnist", "smoke"]
    for path in studies.shipped().values():
        # YAML 1.1 reads 1e-3 as text; the schema is for the values our reader sees
        from gsvae_tune.study.loading import read_yaml

        validator.validate(read_yaml(path))
        assert yaml.safe_load(path.read_text())["description"]

    def undocumented(node, where):
        for key, value in node.get("properties", {}).items():
            if "description" not in value and key not in {"space", "method"}:
                yield f"{where}.{key}"
            yield from undocumented(value, f"{where}.{key}")

    everything = {"": schema, **schema["$defs"]}
    assert [key for name, node in everything.items() for key in undocumented(node, name)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"arms": {"pear": {"space": {}}}},
        {"arms": {"pair": {"space": {"tau_strat": 1.0}}}},
        {"arms": {"pair": {"space": {"rule_a": "chill"}}}},
        {"arms": {"pair": {"space": {"rule_a": ["cool", "chill"]}}}},
        {"arms": {"pair": {"space": {"coupling": {"low": 1, "high": 2}}}}},
        {"arms": {"pair": {"space": {}}}, "trials": 3},
        {},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, studies.schema())


def test_shipped_studies_are_legal():
    for name in studies.shipped():
        config = studies.load(name)
        assert config.name == name
        assert {"pair", "fixed-factor"} <= set(config.arms)
        # Its best value depends on tau: a fixed one would favour an arm.
        assert all("learning_rate" in config.arms[arm].space for arm in searched_arms(config))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"tau_start": {"low": 0.6, "high": 4.0}, "factor_a": {"low": 0.5, "high": "tau_start"}},
         "factor_a: 4.0 is not legal"),
        ({"tau_start": {"low": 0.6, "high": 4.0}, "period": {"low": "tau_start", "high": 10}},
         "its end 'tau_start' is no number and no earlier setting"),
        ({"tau_min": [0.5, 1.0], "tau_max": [1.0, 2.0], "tau_start": 1.0},
         "does not stay below tau_max"),
        ({"rule_a": ["cool", "hold"], "tau_min": 1.5,
          "tau_start": {"low": 2.0, "high": 3.0, "when": {"rule_a": "cool"}}},
         "does not stay below tau_start in [1.0, 3.0]"),
        ({"period": {"low": 1, "high": 1e23}}, "period"),
        ({"tau_min": {"low": 0.1, "high": 1.0}, "tau_start": 1.0, "tau_max": {"low": 1.0, "high": 5.0}},
         "does not stay below tau_max"),
        ({"tau_start": 1.0, "tau_min": {"low": 0.1, "high": "tau_start"},
          "tau_max": {"low": "tau_start", "high": 5.0}}, "does not stay below tau_max"),
        ({"rule_a": ["cool", "hold"], "factor_a": {"low": 0.5, "high": 0.9, "when": {"rule_a": "warm"}}},
         "rule_a is never 'warm'"),
    ],
)  # fmt: skip
def test_spaces_with_illegal_configurations_are_refused(raw, said):
    with pytest.raises(InputError) as caught:
        space(raw)
    assert said in str(caught.value)


@settings(max_examples=400)
@given(st.data())
def test_whatever_space_is_accepted_draws_only_legal_configurations(data):
    number = st.sampled_from([0.05, 0.3, 1.0, 2.5, 5.0])
    when = st.sampled_from([None, {"rule_a": "cool"}, {"coupling": ["tournament"]}])

    def parameter(earlier):
        end = st.one_of(number, st.sampled_from(earlier)) if earlier else number
        ranges = st.fixed_dictionaries(
            {"low": end, "high": end}, optional={"log": st.booleans(), "when": when}
        )
        choices = st.lists(number, min_size=1, max_size=3, unique=True)
        return st.one_of(number, choices, ranges)

    raw = {"rule_a": ["cool", "hold"], "coupling": ["tournament", "independent"]}
    for key in data.draw(st.permutations(["tau_start", "tau_min", "tau_max"])):
        raw[key] = data.draw(parameter([k for k in raw if k.startswith("tau")]))
    try:
        arm = space(raw)
    except InputError:
        return
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(8):
        drawn = arm.settings(arm.suggest(study.ask()))
        assert drawn.tau_min <= drawn.tau_start <= drawn.tau_max
        controller = drawn.controller([0], steps_per_epoch=1, epochs=1)
        assert controller.tau.tolist() == [[drawn.tau_start] * 2]


def test_the_gp_sampler_which_draws_ends_exactly_stays_legal():
    arm = space(
        {
            "tau_start": {"low": 0.1, "high": 4.0, "log": True},
            "tau_min": {"low": 0.05, "high": "tau_start", "log": True},
            "tau_max": {"low": "tau_start", "high": 5.0, "log": True},
        }
    )
    study = optuna.create_study()
    for number in range(14):
        study.sampler = make_sampler("gp", 0, number)
        params = arm.suggest(trial := study.ask())
        assert arm.settings(params).controller([0], 1, 1).tau[0, 0] == params["tau_start"]
        assert params["tau_min"] < params["tau_max"]
        study.tell(trial, -params["tau_start"] + params["tau_max"] - params["tau_min"])


def test_a_single_choice_has_its_condition():
    arm = space({"coupling": ["tournament", "independent"],
                 "smoothing": {"choices": [0.9], "when": {"coupling": "tournament"}}})  # fmt: skip
    assert arm.settings({"coupling": "tournament"}).smoothing == 0.9
    assert arm.settings({"coupling": "independent"}).smoothing == 0.0


def test_a_grid_too_large_to_be_a_plan_is_refused():
    with pytest.raises(InputError, match="the grid has more than 5000 configurations"):
        studies.load("digits", {"search.sampler": ("grid", "--sampler")})


def test_a_grid_smaller_than_the_budget_is_refused():
    with pytest.raises(InputError, match=r"more than arm .*'s grid holds(.|\n)*legal: at most"):
        studies.load(
            "smoke", {"search.sampler": ("grid", "--sampler"), "search.trials": (9999, "--trials")}
        )


def test_a_learned_temperature_needs_an_estimator_with_a_gradient():
    with pytest.raises(InputError, match="'reinmax' gives tau no gradient"):
        ArmSpace("learned-tau", ArmConfig(space={"estimator": ["soft", "reinmax"]}), "mine.yaml")
