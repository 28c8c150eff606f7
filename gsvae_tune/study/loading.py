"""YAML text -> `StudyConfig`, with errors that name file, key, value and what is legal."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError

MAX_BYTES = 100_000  # a dense file of so many takes PyYAML half a second
MAX_DEPTH = 32  # levels of lists and mappings
MAX_ENTRIES = 256  # of one list or mapping
MAX_VALUES = 10_000  # of a file, aliases written out; ten characters of text count as one more
_SHOWN_FAULTS = 20
_SHOWN_CHARACTERS = 80  # of a key or a value
_SECRET = "storage"  # noqa: S105 - a key whose value may hold a password: no message shows it

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


class _Fault(yaml.MarkedYAMLError):
    """YAML that is well formed and none of a study's."""

    def __init__(self, problem: str, at: Any) -> None:
        super().__init__(problem=problem, problem_mark=at.start_mark)


class _Loader(yaml.SafeLoader):
    """Safe YAML with JSON's types: 1e-3 is a number, dates are text, keys are unique text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read a value and all that is in it, while the bounds allow."""
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH + 1 or self._nodes > 2 * MAX_VALUES:  # keys are nodes too
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _too_deep(event) if self._depth > MAX_DEPTH else _too_large(event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _too_deep(at: Any) -> _Fault:
    return _Fault(f"nests deeper than {MAX_DEPTH} levels", at)


def _too_large(at: Any) -> _Fault:
    return _Fault(f"grows beyond {MAX_VALUES} values, aliases written out", at)


_TAG = "tag:yaml.org,2002:"
_KEYS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null")}
_SURROGATE = re.compile("[\ud800-\udfff]")
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regex)
        for tag, regex in resolvers
        if tag.removeprefix(_TAG) not in ("timestamp", "float", "int", "bool", "value")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(
        r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|^[-+]?\.inf$|^\.nan$"
    ),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    _TAG + "int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _TAG + "bool", re.compile(r"^([Tt]rue|[Ff]alse|TRUE|FALSE)$"), list("tTfF")
)


def _read_scalar(kind: str, read: Callable[[str], Any]) -> Callable[[_Loader, yaml.Node], Any]:
    """Return a constructor for scalars, which may also bear their tag in so many words."""

    def construct(loader: _Loader, node: yaml.Node) -> Any:
        try:
            return read(str(loader.construct_scalar(node)))  # type: ignore[arg-type]
        except (ValueError, KeyError, OverflowError) as error:
            raise _Fault(f"what stands here is no {kind} that can be read", node) from error

    return construct


def _read_mapping(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):  # tagged !!map
        raise _Fault("what stands here is no mapping", node)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _float(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


# What is not listed (binary, timestamp, set, ...) is no tag of a study.
_Loader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag]
    for tag in (None, _TAG + "null", _TAG + "str", _TAG + "seq")
} | {
    _TAG + "map": _read_mapping,
    _TAG + "int": _read_scalar("whole number", int),
    _TAG + "float": _read_scalar("number", _float),
    _TAG + "bool": _read_scalar("true or false", _bool),
}


def _load(text: str) -> Any:
    """Read one YAML document within the bounds.

    Raises:
        yaml.YAMLError: it is none, or goes beyond them.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _weigh(node, {})  # first, for merging mappings writes them out
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _weigh(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return how many values stand in a node and how deep, as if every alias were written out.

    Each node is looked at once. Keys become the text that stands there: 1 and "1" are one key.

    Raises:
        yaml.YAMLError: out of bounds, an alias inside itself, or a key that is no text or twice.
    """
    if id(node) in known:
        seen = known[id(node)]
        if seen is None:
            raise _Fault("an alias stands inside what it names", node)
        return seen
    if isinstance(node, yaml.ScalarNode):
        if _SURROGATE.search(node.value):
            raise _Fault("a text holds half a character (a surrogate)", node)
        known[id(node)] = 1 + len(node.value) // 10, 0
        return 1 + len(node.value) // 10, 0
    known[id(node)] = None
    if len(node.value) > MAX_ENTRIES:
        raise _Fault(f"has {len(node.value)} entries; legal: at most {MAX_ENTRIES}", node)
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        inner = [part for pair in node.value for part in pair]
    else:
        inner = node.value
    count, depth = 1, 0
    for part in inner:
        values, levels = _weigh(part, known)
        count, depth = count + values, max(depth, levels)
    if count > MAX_VALUES:
        raise _too_large(node)
    if depth >= MAX_DEPTH:
        raise _too_deep(node)
    known[id(node)] = count, depth + 1
    return count, depth + 1


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for place, (key, value) in enumerate(node.value):
        if key.tag == _TAG + "merge":
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag not in _KEYS:
            raise _Fault("a key is no text", key)
        if key.value in seen:
            raise _Fault(f"the key {_cut(key.value)!r} stands twice", key)
        seen.add(key.value)
        text = yaml.ScalarNode(_TAG + "str", key.value, key.start_mark, key.end_mark)
        node.value[place] = (text, value)  # the key itself may be a value elsewhere, by an alias


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: not readable, beyond the bounds above, not YAML in UTF-8, or not a mapping.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise InputError("cannot be read: it is no file", where=str(path))
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(content) > MAX_BYTES:
        raise InputError(f"has {size} bytes", where=str(path), legal=f"at most {MAX_BYTES}")
    try:
        value = _load(content.decode())
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        where = str(path)
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            where += f", line {mark.line + 1}"
        problem = _cut(getattr(error, "problem", None) or str(error).partition("\n")[0])
        known = isinstance(error, _Fault)
        raise InputError(
            problem if known else f"is not valid YAML: {problem}", where=where
        ) from error
    if not isinstance(value, dict):
        raise InputError("holds no study", where=str(path), legal="a mapping of keys to values")
    return value


def read_value(text: str, where: str) -> Any:
    """Return a single YAML value, read as a study file's are.

    Raises:
        InputError: not YAML, or beyond its bounds.
    """
    try:
        if len(text) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} characters")  # noqa: TRY301 - said like the others
        return _load(text)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        shown = "it" if where.endswith(_SECRET) else repr(_cut(text))
        raise InputError(f"{shown} is no YAML value", where=where) from error


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
        text = json.dumps(raw, default=str, ensure_ascii=False)
        return StudyConfig.model_validate_json(text.encode())
    except ValidationError as error:
        raise InputError(_explain(error, where, origins or {})) from error
    except UnicodeEncodeError as error:
        raise InputError("holds text that is no Unicode", where=where) from error
    except (RecursionError, TypeError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=where) from error


def _explain(error: ValidationError, where: str, origins: Mapping[str, str]) -> str:
    lines = []
    faults = error.errors(include_url=False)
    for fault in faults[:_SHOWN_FAULTS]:
        path = [_cut(str(part)) for part in fault["loc"]]
        key = ".".join(path)
        set_here = (k for k in origins if f"{key}.".startswith(f"{k}."))
        origin = origins.get(next(set_here, ""))
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
            # The whole study, and what stands under the secret key, are not for showing.
            secret = not path or path[0] == _SECRET
            shown = f"{'what stands here' if secret else _short(fault['input'])} is not legal"
            lines.append(f"{head}: {problem if said else shown}")
            lines.append(f"  legal: {legal}")
    if len(faults) > _SHOWN_FAULTS:
        lines.append(f"{where}: and {len(faults) - _SHOWN_FAULTS} more")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return _cut(json.dumps(_without_secret(value), default=str, ensure_ascii=False))


def _without_secret(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "..." if key == _SECRET else _without_secret(inner) for key, inner in value.items()
        }
    return [_without_secret(inner) for inner in value] if isinstance(value, list) else value


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


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
