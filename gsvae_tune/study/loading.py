"""YAML text -> `StudyConfig`, with errors that name file, key, value and what is legal."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000

# pydantic's own phrases are kept where they name the bound; these say what they leave out.
_LEGAL = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "too_short": "at least one entry",
    "list_type": "a list",
    "tuple_type": "a list",
}


_PATTERNS = {
    "name": "letters, digits, '.', '_' and '-', a letter or digit first, at most 64",
    "data.source": "digits, mnist, fashion-mnist, idx:DIR or npz:FILE",
}


class _Loader(yaml.SafeLoader):
    """Safe YAML with JSON's types: 1e-3 is a number, dates are text, keys are unique."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regex)
        for tag, regex in resolvers
        if not tag.endswith((":timestamp", ":float", ":int", ":bool"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|^[-+]?\.inf$|^\.nan$"),
    list("-+0123456789."),
)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9]\d*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^([Tt]rue|[Ff]alse|TRUE|FALSE)$"), list("tTfF")
)


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        if key is not None and key != "<<":
            seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: not readable, too large, not YAML, or not a mapping.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(content) > MAX_BYTES:
        raise InputError(f"has {len(content)} bytes", where=str(path), legal=f"at most {MAX_BYTES}")
    try:
        value = yaml.load(content, Loader=_Loader)  # noqa: S506 - derived from SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        where = str(path)
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            where += f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"is not valid YAML: {problem}", where=where) from error
    if not isinstance(value, dict):
        raise InputError("holds no study", where=str(path), legal="a mapping of keys to values")
    if _expanded(value, {}) > MAX_NODES:
        raise InputError(
            f"grows beyond {MAX_NODES} values", where=str(path), legal="fewer nested aliases"
        )
    return value


def _expanded(value: Any, known: dict[int, int]) -> int:
    """Count values as if every alias were written out; each is looked at once."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = MAX_NODES + 1  # an alias inside itself never ends
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_expanded(one, known) for one in inner)
    return known[id(value)]


def read_value(text: str, where: str) -> Any:
    """Return a single YAML value, read as a study file's are.

    Raises:
        InputError: not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{text!r} is no YAML value", where=where) from error


def override(raw: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set a dotted ``key`` in a raw mapping, in place.

    Raises:
        InputError: a part of the key is no mapping; ``origin`` is the flag that asked.
    """
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            raise InputError(f"{'.'.join(parents[: depth + 1])} holds no keys", where=origin)
    raw[last] = value


def parse(
    raw: Mapping[str, Any], where: str, origins: Mapping[str, str] | None = None
) -> StudyConfig:
    """Validate a raw mapping.

    Args:
        raw: keys to values, as YAML gives them.
        where: the file, for messages.
        origins: dotted key -> flag that set it, for messages.

    Raises:
        InputError: one message with every fault.
    """
    try:
        # Through JSON: strict types, and lists where the model has tuples.
        return StudyConfig.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise InputError(_explain(error, where, origins or {})) from error
    except (RecursionError, TypeError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=where) from error


def _explain(error: ValidationError, where: str, origins: Mapping[str, str]) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        path = [str(part) for part in fault["loc"]]
        key = ".".join(path)
        origin = next((flag for set_key, flag in origins.items() if key == set_key), None)
        head = f"{origin or where}: {key or 'the study'}"
        if fault["type"] == "extra_forbidden":
            lines.append(f"{head}: unknown key")
            lines.append(f"  legal: {legal_keys(path[-1], _fields_at(path[:-1]))}")
        elif fault["type"] == "missing":
            lines.append(f"{head}: missing")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            problem, _, said = message.partition("; legal: ")
            legal = said or _LEGAL.get(fault["type"]) or message.removeprefix("Input should be ")
            legal = _PATTERNS.get(key, legal) if "pattern" in fault["type"] else legal
            shown = "" if said else f"{_short(fault['input'])} is not legal"
            lines.append(f"{head}: {problem if said else shown}")
            lines.append(f"  legal: {legal}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def legal_keys(unknown: str, known: list[str]) -> str:
    """List the legal keys, the nearest to a misspelled one first."""
    close = difflib.get_close_matches(unknown, known, n=1)
    listed = ", ".join(known)
    return f"{listed} (did you mean {close[0]}?)" if close else listed


def _fields_at(path: list[str]) -> list[str]:
    """Return the keys of the configuration that stands at ``path``."""
    model: type[BaseModel] = StudyConfig
    for part in path:
        found = model.model_fields.get(part)
        if found is None:
            continue  # a key of a dict of models, such as an arm's name
        inner = [found.annotation, *get_args(found.annotation)]
        models = [t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)]
        if not models:
            break
        model = models[0]
    if path[:1] == ["arms"] and "space" in path:
        return ["value", "choices", "low", "high", "log", "when"]
    return list(model.model_fields)
