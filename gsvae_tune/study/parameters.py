"""A setting in a search space: fixed, a choice, or a range; each may hang on other settings.

What the settings are called and which values they take is known one layer up
(`gsvae_tune.search.arms`).
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = bool | int | float | str


class Frozen(BaseModel):
    """No unknown keys, no silent conversions, no change after construction."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Range(Frozen):
    """A numeric setting between two ends; an end may be the name of another setting."""

    low: float | str
    """lower end, or the name of an earlier setting"""
    high: float | str
    """upper end, or the name of an earlier setting"""
    log: bool = False
    """sample the logarithm uniformly"""
    when: dict[str, Scalar | list[Scalar]] | None = None
    """sample only where the named settings have one of these values"""

    @model_validator(mode="after")
    def _not_empty(self) -> Range:
        low, high = self.low, self.high
        if not isinstance(low, str) and not isinstance(high, str) and low >= high:
            raise ValueError(f"the range [{low}, {high}] is empty; legal: low < high")
        if self.log and not isinstance(low, str) and low <= 0:
            raise ValueError(f"low is {low} on a logarithmic range; legal: low > 0")
        return self


class Choice(Frozen):
    """A setting that takes one of several values."""

    choices: list[Scalar] = Field(min_length=1)
    """the values"""
    when: dict[str, Scalar | list[Scalar]] | None = None
    """sample only where the named settings have one of these values"""

    @model_validator(mode="after")
    def _distinct(self) -> Choice:
        if len(set(self.choices)) < len(self.choices):  # to Optuna 1, 1.0 and true are equal
            raise ValueError(f"choices {self.choices} repeat a value; legal: distinct values")
        return self


class Fixed(Frozen):
    """A setting that is not searched."""

    value: Scalar
    """the value"""


Parameter = Range | Choice | Fixed


def read_parameter(raw: Any) -> Parameter:
    """Read the three ways to write a parameter: a value, a list of choices, a mapping.

    Shapes are checked here, so that a mistake gives one message and not one per alternative.

    Raises:
        ValueError: saying what is legal.
    """
    if isinstance(raw, Range | Choice | Fixed):
        return raw
    if isinstance(raw, list):
        raw = {"choices": raw}
    elif not isinstance(raw, dict):
        raw = {"value": raw}
    if raw.get("when") is not None:
        _require_condition(raw["when"])
    if "choices" in raw:
        _require_keys(raw, Choice)
        _require_scalars("choices", raw["choices"])
        return Choice.model_validate(raw)
    if "value" in raw:
        _require_keys(raw, Fixed)
        _require_scalars("value", [raw["value"]])
        return Fixed.model_validate(raw)
    for end in ("low", "high"):
        if end in raw and (isinstance(raw[end], bool | list | dict) or raw[end] is None):
            raise ValueError(f"{end} is {raw[end]!r}; legal: a number or the name of a setting")
    return Range.model_validate(raw)


def _require_keys(raw: dict[str, Any], kind: type[Choice | Fixed]) -> None:
    for key in raw:
        if key not in kind.model_fields:
            legal = ", ".join(kind.model_fields)
            raise ValueError(
                f"{key!r} does not go with {next(iter(kind.model_fields))!r}; legal: {legal}"
            )


def _require_scalars(key: str, values: Any) -> None:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{key} is {json.dumps(values)}; legal: a list of at least one value")
    for value in values:
        if not _is_scalar(value):
            raise ValueError(
                f"{json.dumps(value)} is no value; legal: a number, text, true or false; a "
                "parameter is a value, a list of values, or {low, high, log, when}"
            )


def _require_condition(when: Any) -> None:
    legal = "legal: {setting: value}, or {setting: [value, ...]}"
    if not isinstance(when, dict) or not when:
        raise ValueError(f"when is {json.dumps(when)}; {legal}")
    for key, values in when.items():
        listed = values if isinstance(values, list) else [values]
        if not listed or not all(_is_scalar(value) for value in listed):
            raise ValueError(f"when.{key} is {json.dumps(values)}; {legal}")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)
