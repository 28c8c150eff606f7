"""Finding and reading studies: a file, or the name of one that is shipped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gsvae_tune.search
from gsvae_tune.search.arms import ARMS
from gsvae_tune.search.confirm import searched_arms
from gsvae_tune.search.space import ArmSpace
from gsvae_tune.study.config import ARM_NAME, StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.loading import legal_keys, override, parse, read_yaml
from gsvae_tune.study.parameters import Choice, Fixed, Range
from gsvae_tune.study.paths import expand

SIMULATED = "-simulated"  # end of the name of every study that trains nothing
VALLEY = "valley"  # the formula that stands for a table


def shipped() -> dict[str, Path]:
    """Return the shipped studies by name; in a wheel they lie inside the package."""
    package = Path(gsvae_tune.search.__file__).parent.parent
    for folder in (package / "search_spaces", package.parent / "search_spaces"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def find(study: str) -> Path:
    """Return the file of a study given by name or path.

    Raises:
        InputError: there is none.
    """
    known = shipped()
    if study in known:
        return known[study]
    path = expand(study, "STUDY")
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    raise InputError(
        f"no study named {study!r}",
        legal=f"a .yaml file, or one of {legal_keys(study, list(known))}",
        next_step="gsvae-tune spaces",
    )


def load(study: str, overrides: Mapping[str, tuple[Any, str]] | None = None) -> StudyConfig:
    """Read and check a study.

    Args:
        study: a file, or the name of a shipped one.
        overrides: dotted key -> (value, the flag that set it).

    Raises:
        InputError: with file, key, value and what is legal.
    """
    path = find(study)
    raw = read_yaml(path)
    raw.setdefault("name", path.stem)
    for key, (value, flag) in (overrides or {}).items():
        override(raw, key, value, flag)
    config = parse(raw, str(path), {key: flag for key, (_, flag) in (overrides or {}).items()})
    check(config, str(path))
    return _simulated(config) if config.simulate else config


def _simulated(config: StudyConfig) -> StudyConfig:
    """Keep a simulated study out of the folder of the one that trains; note what its table holds.

    Raises:
        InputError: the table is no file.
    """
    assert config.simulate is not None  # noqa: S101 - the caller saw it
    name, simulate = config.name, config.simulate
    if not name.endswith(SIMULATED):
        name = name[: 64 - len(SIMULATED)] + SIMULATED
    checksum = None
    if simulate.table != VALLEY:
        path = expand(simulate.table, "simulate.table")
        if not path.is_file():
            raise InputError(
                f"{simulate.table!r} is no file",
                where="simulate.table (--simulate)",
                legal=f"{VALLEY}, or a .parquet or .csv of trials, as in a study's tables folder",
            )
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    simulate = simulate.model_copy(update={"checksum": checksum})
    return config.model_copy(update={"name": name, "simulate": simulate})


def check(config: StudyConfig, where: str) -> None:
    """Check what only the arms know.

    Raises:
        InputError: with file, key, value and what is legal.
    """
    for name, arm in config.arms.items():
        space = ArmSpace(name, arm, where)
        if not space.arm.searched:
            _check_of(config, name, where)
        elif config.search.sampler == "grid":
            size = len(space.grid(config.search.grid_points))
            if size < config.search.trials:
                raise InputError(
                    f"search.trials: {config.search.trials} is more than arm {name}'s grid holds",
                    where=where,
                    legal=f"at most {size} (search.grid_points: {config.search.grid_points})",
                )

    _check_protocol(config, where)


def _check_of(config: StudyConfig, arm: str, where: str) -> None:
    legal = searched_arms(config)
    if config.arms[arm].of not in legal:
        raise InputError(
            f"arms.{arm}.of: {config.arms[arm].of!r} is no searched arm of the study",
            where=where,
            legal=", ".join(legal) or "an arm with a search beside it",
        )


def _check_protocol(config: StudyConfig, where: str) -> None:
    protocol, arms = config.protocol, list(config.arms)
    legal = ", ".join(arms)
    if config.search.scheduler == "asha" and protocol.until != "search":
        raise InputError(
            "search.scheduler: asha explores: it stops trials of one arm by those of another",
            where=where,
            legal="fifo for a verdict, or --until search (protocol.until)",
        )
    if len(arms) > 1 and protocol.comparisons is None and protocol.baseline not in arms:
        raise InputError(
            f"protocol.baseline: {protocol.baseline!r} is no arm of the study",
            where=where,
            legal=legal,
        )
    for pair in protocol.comparisons or ():
        if len(set(pair)) < 2 or not set(pair) <= set(arms):
            raise InputError(
                f"protocol.comparisons: [{', '.join(pair)}] does not compare two arms of the study",
                where=where,
                legal=f"[arm, baseline], two of: {legal}",
            )
    for arm in config.simulate.effects if config.simulate else ():
        if arm not in arms:
            raise InputError(
                f"simulate.effects: {arm!r} is no arm of the study", where=where, legal=legal
            )


def schema() -> dict[str, Any]:
    """Return the JSON schema of a study file: every key, its meaning, its bounds."""
    base = StudyConfig.model_json_schema()
    definitions = base["$defs"]
    for kind in (Range, Choice):  # a search space may use them; StudyConfig names them all
        definitions.setdefault(kind.__name__, kind.model_json_schema())
    definitions.setdefault(Fixed.__name__, Fixed.model_json_schema())
    arms: dict[str, Any] = {}
    own = definitions.pop("ArmConfig")
    for name, arm in ARMS.items():
        settings = {}
        for key, field in arm.model_json_schema()["properties"].items():
            value = {k: v for k, v in field.items() if k not in ("title", "description", "default")}
            forms = [
                value,
                {"type": "array", "items": value, "minItems": 1},
                {"$ref": "#/$defs/Choice"},
                {"$ref": "#/$defs/Fixed"},
            ]
            if field.get("type") in ("number", "integer"):
                forms.append({"$ref": "#/$defs/Range"})
            settings[key] = {
                "anyOf": forms,
                "description": field["description"],
                "default": field.get("default"),
            }
        arms[name] = {
            "type": "object",
            "description": (arm.__doc__ or "").splitlines()[0],
            "properties": own["properties"]
            | {
                "method": {"const": name},
                "space": {
                    "type": "object",
                    "properties": settings if arm.searched else {},
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        }
    base["properties"]["arms"] = {
        "type": "object",
        "description": "the methods compared, each with its own search space",
        "properties": arms,
        "propertyNames": {"pattern": ARM_NAME},
        # An arm of another name says its method.
        "additionalProperties": {
            "anyOf": [arm | {"required": ["method"]} for arm in arms.values()]
        },
        "minProperties": 1,
    }
    base["required"] = ["arms"]  # the name defaults to the file's
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **base}
