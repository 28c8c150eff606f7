"""One arm's search space: checked against the arm, suggested through Optuna, enumerated as a grid.

Settings are suggested in the order in which the study lists them. A range's end may name an earlier
setting, ``when`` makes a setting conditional on earlier ones. That tau_min <= tau_start <= tau_max
holds in EVERY configuration is proved when the study is read, so that no trial is spent on an
illegal one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from pydantic import ValidationError

from gsvae_tune.search.arms import ARMS, Arm, arm_of
from gsvae_tune.study.config import ArmConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.loading import legal_keys
from gsvae_tune.study.parameters import Choice, Fixed, Parameter, Range, Scalar

MAX_GRID = 5_000  # configurations; more take seconds to list and are no plan for a study

Suggest = Callable[[str, optuna.distributions.BaseDistribution], Any]


@dataclass(frozen=True)
class SearchedSetting:
    """A setting that is searched, with the values it can take in any configuration."""

    name: str
    choices: tuple[Scalar, ...] | None  # None: a number between `low` and `high`
    low: float | None
    high: float | None
    log: bool
    default: Scalar
    when: tuple[str, ...]  # the settings it hangs on; it is missing where they switch it off
    description: str


class ArmSpace:
    """The space of one arm.

    Args:
        name: the arm's, which may be its method's, a key of `ARMS`.
        config: the arm as the study gives it.
        where: the file, for messages.

    Raises:
        InputError: naming file, key, value and what is legal.
    """

    def __init__(self, name: str, config: ArmConfig, where: str) -> None:
        method = config.method or name
        self.arm: type[Arm] = arm_of(name, method, where)
        if name in ARMS and name != method:
            raise InputError(
                f"arms.{name}.method: {method!r}, under the name of another method",
                where=where,
                legal="a name of its own for the arm",
            )
        self.name = name
        if not self.arm.searched and config.space:
            raise InputError(
                f"arms.{name}.space: method {method} is not searched",
                where=where,
                legal="no space: its configurations are those of the arm that `of` names",
            )
        self._defaults = {key: field.default for key, field in self.arm.model_fields.items()}
        self._parameters: dict[str, Parameter] = dict(config.space)
        self._where = where
        # Settings that Optuna suggests, in order.
        self.searched = [
            key
            for key, parameter in self._parameters.items()
            if isinstance(parameter, Range)
            or (isinstance(parameter, Choice) and len(parameter.choices) > 1)
        ]
        for key, parameter in self._parameters.items():
            self._check(key, parameter)
        for lower, upper, strict in self.arm.ordered:
            self._require_order(lower, upper, strict=strict)

    def suggest(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """Ask Optuna for one configuration; return the suggested settings."""

        def ask(key: str, distribution: optuna.distributions.BaseDistribution) -> Any:
            if isinstance(distribution, optuna.distributions.CategoricalDistribution):
                return trial.suggest_categorical(key, distribution.choices)
            if isinstance(distribution, optuna.distributions.IntDistribution):
                return trial.suggest_int(
                    key, distribution.low, distribution.high, log=distribution.log
                )
            assert isinstance(distribution, optuna.distributions.FloatDistribution)  # noqa: S101
            return trial.suggest_float(
                key, distribution.low, distribution.high, log=distribution.log
            )

        return self._walk(ask)

    def settings(self, params: Mapping[str, Scalar]) -> Arm:
        """Return the arm's full settings for suggested ones.

        Raises:
            ValueError: the settings are illegal or of another space.
        """
        constant = {
            key: self._constant(parameter)
            for key, parameter in self._parameters.items()
            if key not in self.searched and self._is_active(parameter, params)
        }
        return self.arm.model_validate(constant | dict(params))

    def grid(self, points: int) -> list[dict[str, Scalar]]:
        """Return all configurations on a grid, each once: ``points`` per range, every choice.

        Raises:
            InputError: there are more than `MAX_GRID`.
        """
        found: list[dict[str, Scalar]] = []
        # Depth first: each run of _walk replays a path of choices and records how it may branch.
        paths: list[tuple[int, ...]] = [()]
        while paths:
            path = paths.pop()
            taken: list[int] = []

            def choose(
                _: str, distribution: optuna.distributions.BaseDistribution,
                path: tuple[int, ...] = path, taken: list[int] = taken,
            ) -> Any:  # fmt: skip
                values = _grid_values(distribution, points)
                depth = len(taken)
                if depth < len(path):
                    taken.append(path[depth])
                else:
                    taken.append(0)
                    paths.extend((*taken[:depth], other) for other in range(1, len(values)))
                return values[taken[depth]]

            params = self._walk(choose)
            if self._is_legal(params):
                found.append(params)
            if len(found) > MAX_GRID:
                raise InputError(
                    f"arms.{self.name}.space: the grid has more than {MAX_GRID} configurations",
                    where=self._where,
                    legal="fewer choices and ranges, or a smaller search.grid_points",
                )
        return found

    def describe(self) -> list[SearchedSetting]:
        """Return the settings that are searched, in order, each with all the values it can take."""
        return [self._described(key) for key in self.searched]

    def _described(self, key: str) -> SearchedSetting:
        parameter = self._parameters[key]
        assert not isinstance(parameter, Fixed)  # noqa: S101 - it is searched
        default, text = self._defaults[key], self.arm.model_fields[key].description or ""
        when = tuple(parameter.when or ())
        if isinstance(parameter, Choice):
            return SearchedSetting(
                key, tuple(parameter.choices), None, None, False, default, when, text
            )
        low, high = self._hull(parameter.low)[0], self._hull(parameter.high)[1]
        return SearchedSetting(key, None, low, high, parameter.log, default, when, text)

    def _is_legal(self, params: Mapping[str, Scalar]) -> bool:
        """Ends that meet (tau_min = tau_start = tau_max) do so on a grid, never in a draw."""
        try:
            self.settings(params).controller([0], steps_per_epoch=1, epochs=1)
        except ValueError:
            return False
        return True

    def _walk(self, ask: Suggest) -> dict[str, Scalar]:
        params: dict[str, Scalar] = {}
        for key in self.searched:
            parameter = self._parameters[key]
            if self._is_active(parameter, params):
                params[key] = ask(key, self._distribution(key, parameter, params))
        return params

    def _is_active(self, parameter: Parameter, params: Mapping[str, Scalar]) -> bool:
        if isinstance(parameter, Fixed) or parameter.when is None:
            return True
        return all(
            self._present(key, params) in (legal if isinstance(legal, list) else [legal])
            for key, legal in parameter.when.items()
        )

    def _present(self, key: str, params: Mapping[str, Scalar]) -> Any:
        if key in params:
            return params[key]
        parameter = self._parameters.get(key)
        if parameter is None or key in self.searched or not self._is_active(parameter, params):
            return self._defaults[key]
        return self._constant(parameter)

    @staticmethod
    def _constant(parameter: Parameter) -> Any:
        """Return the value of a parameter that is not searched."""
        if isinstance(parameter, Fixed):
            return parameter.value
        assert isinstance(parameter, Choice)  # noqa: S101 - every range is searched
        return parameter.choices[0]

    def _distribution(
        self, key: str, parameter: Parameter, params: Mapping[str, Scalar]
    ) -> optuna.distributions.BaseDistribution:
        if isinstance(parameter, Choice):
            return optuna.distributions.CategoricalDistribution(parameter.choices)
        assert isinstance(parameter, Range)  # noqa: S101 - `searched` gives no fixed ones
        low, high = (
            self._present(end, params) if isinstance(end, str) else end
            for end in (parameter.low, parameter.high)
        )
        if self._is_whole(key):
            return optuna.distributions.IntDistribution(int(low), int(high), log=parameter.log)
        return optuna.distributions.FloatDistribution(low, high, log=parameter.log)

    def _is_whole(self, key: str) -> bool:
        return self.arm.model_fields[key].annotation is int

    # Checks when the study is read -------------------------------------------------------------

    def _fail(self, key: str, problem: str, legal: str) -> None:
        raise InputError(f"arms.{self.name}.space.{key}: {problem}", where=self._where, legal=legal)

    def _check(self, key: str, parameter: Parameter) -> None:
        known = list(self.arm.model_fields)
        if key not in known:
            self._fail(key, "unknown setting", legal_keys(key, known))
        earlier = list(itertools.takewhile(lambda other: other != key, self._parameters))
        if isinstance(parameter, Fixed):
            self._check_value(key, parameter.value)
            return
        if isinstance(parameter, Choice):
            for choice in parameter.choices:
                self._check_value(key, choice)
        else:
            self._check_range(key, parameter, earlier)
        for named, legal in (parameter.when or {}).items():
            if named not in known or (named in self._parameters and named not in earlier):
                legal_names = [
                    name for name in known if name in earlier or name not in self._parameters
                ]
                self._fail(f"{key}.when", f"{named!r} is not set before it", ", ".join(legal_names))
            for value in legal if isinstance(legal, list) else [legal]:
                self._check_value(named, value, f"{key}.when.{named}")
                self._check_reachable(f"{key}.when.{named}", named, value)

    def _check_reachable(self, shown: str, named: str, value: Scalar) -> None:
        """Refuse a condition on no listed choice (a fixed setting may switch others off)."""
        parameter = self._parameters.get(named)
        if isinstance(parameter, Choice) and value not in parameter.choices:
            self._fail(shown, f"{named} is never {value!r}", ", ".join(map(str, parameter.choices)))

    def _check_range(self, key: str, parameter: Range, earlier: list[str]) -> None:
        if self.arm.model_fields[key].annotation not in (int, float):
            self._fail(key, "a range on a setting that is no number", "a value or a list of values")
        whole = self._is_whole(key)
        if parameter.low == parameter.high:
            self._fail(key, f"both ends are {parameter.low}", "low < high, or the value alone")
        for end in (parameter.low, parameter.high):
            if not isinstance(end, str):
                continue
            numeric = [
                name
                for name in earlier
                if self.arm.model_fields[name].annotation in ((int,) if whole else (int, float))
                and getattr(self._parameters[name], "when", None) is None
            ]
            if end not in numeric:
                self._fail(
                    key,
                    f"its end {end!r} is no number and no earlier setting",
                    f"a number, or one of: {', '.join(numeric) or '(no setting stands before it)'}",
                )
        for value in (self._hull(parameter.low)[0], self._hull(parameter.high)[1]):
            self._check_value(key, int(value) if whole and value == int(value) else value)
        low, high = (self._hull(end) for end in (parameter.low, parameter.high))
        # A drawn end may touch the other: the range is then one value, which is legal.
        drawn = any(
            isinstance(self._parameters.get(str(end)), Range)
            for end in (parameter.low, parameter.high)
        )
        if low[1] > high[0] or (low[1] == high[0] and not drawn):
            self._fail(
                key,
                f"the range may be empty: low {_interval(low)}, high {_interval(high)}",
                "low < high in every configuration",
            )
        if parameter.log and self._hull(parameter.low)[0] <= 0:
            self._fail(key, "a logarithmic range that reaches 0", "low > 0")

    def _check_value(self, key: str, value: Any, shown: str | None = None) -> None:
        try:
            self.arm.model_validate({key: value})
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            problem, _, legal = message.partition("; legal: ")
            if not legal:
                problem, legal = f"{value!r} is not legal", message.removeprefix("Input should be ")
            self._fail(shown or key, problem, legal)

    def _require_order(self, lower: str, upper: str, *, strict: bool) -> None:
        """Prove lower <= upper for every configuration, or say which values break it."""
        links = {lower, *self._chain(lower, "high")} & {upper, *self._chain(upper, "low")}
        # Through a link that is drawn itself, both sides are drawn anew around it and never meet
        # at it; at ends that are fixed they can meet (the GP sampler draws ends exactly).
        if links and (
            not strict or any(isinstance(self._parameters.get(link), Range) for link in links)
        ):
            return
        low, high = self._hull(lower), self._hull(upper)
        if low[1] < high[0] or (low[1] == high[0] and not strict):
            return
        key, other = (lower, upper) if lower in self._parameters else (upper, lower)
        self._fail(
            key,
            f"{lower} {_interval(low)} does not stay below {upper} {_interval(high)}",
            f"{lower} < {upper} in every configuration, with tau_start in [tau_min, tau_max]; an "
            f"end of a range may name {other}",
        )

    def _chain(self, key: str, end: str) -> Iterator[str]:
        """Follow an end from name to name, as long as it holds in every configuration."""
        parameter = self._parameters.get(key)
        while isinstance(parameter, Range) and parameter.when is None:
            name = getattr(parameter, end)
            if not isinstance(name, str):
                return
            yield name
            parameter = self._parameters.get(name)

    def _hull(self, end: float | str) -> tuple[float, float]:
        """Return the lowest and highest value that a setting, or an end, can have."""
        if not isinstance(end, str):
            return (end, end)
        parameter = self._parameters.get(end)
        values = []
        if parameter is None or getattr(parameter, "when", None) is not None:
            values.append(self._defaults[end])  # what it has where it is not active
        if isinstance(parameter, Range):
            values += [self._hull(parameter.low)[0], self._hull(parameter.high)[1]]
        elif isinstance(parameter, Choice):
            values += parameter.choices
        elif isinstance(parameter, Fixed):
            values.append(parameter.value)
        return (min(values), max(values))


def _interval(hull: tuple[float, float]) -> str:
    return f"= {hull[0]}" if hull[0] == hull[1] else f"in [{hull[0]}, {hull[1]}]"


def _grid_values(distribution: optuna.distributions.BaseDistribution, points: int) -> list[Any]:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return list(distribution.choices)
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    if low == high:
        return [low]
    space = np.geomspace if distribution.log else np.linspace  # type: ignore[attr-defined]
    values = np.clip(space(low, high, points), low, high)
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return sorted({round(value) for value in values})
    return [float(value) for value in values]
