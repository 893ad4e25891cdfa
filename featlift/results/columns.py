"""Which results may stand side by side: same evaluation, same protocol, same task, same cases, same truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from featlift.counting import number_of
from featlift.errors import OptionError
from featlift.results.result import Result
from featlift.results.table import protocol_of

#: Settings of a protocol that say what was measured rather than how: of which features, by which head.
_OF_FEATURES = ("layer", "input", "head", "uncentred", "features")
#: Fields of a recipe that say nothing on the features of one layer.
_NOT_OF_FEATURES = ("model", "mode", "layers")
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Column:
    """Results that answer the same question.

    Attributes:
        title: what was asked: evaluation, protocol and task.
        results: at least two.
    """

    title: str
    results: list[Result]


def columns_of(results: Sequence[Result]) -> list[Column]:
    """Results by what they answer, in the order of the first of each.

    Raises:
        OptionError: a result has no other to stand beside, or their cases, masks or labels differ.
    """
    groups = _grouped(results, lambda result: _asked(result))
    for group in groups:
        if len(group) == 1:
            raise OptionError(_why_alone(group[0], results))
        for other in group[1:]:
            _check_cases(group[0], other)
    extras = _telling([group[0] for group in groups], _settings, _title)
    return [Column(" ".join([_title(group[0]), *_texts(_settings(group[0]), extras)]), group) for group in groups]


def rows_of(columns: Sequence[Column]) -> list[tuple[dict[str, str], list[Result]]]:
    """Results of the same features, one at most of each column, with what tells them from the other rows.

    That is model and mode, and the fields of the recipe in which two of one model and mode differ.

    Raises:
        OptionError: two results of one column are of the same features.
    """
    fields: dict[str, None] = {}
    for column in columns:
        fields |= dict.fromkeys(_telling(column.results, features_of, _model_and_mode))
    names = {"model": "model", "mode": "mode", **{field: field.removesuffix("_sha256") for field in fields}}

    def name(result: Result) -> tuple[tuple[str, str], ...]:
        values = features_of(result) | {"model": result.recipe["model"], "mode": result.recipe["mode"]}
        return tuple((title, _text(field, values.get(field))) for field, title in names.items())

    rows = _grouped([result for column in columns for result in column.results], name)
    for row in rows:
        for column in columns:
            same = [result for result in row if result in column.results]
            if len(same) > 1:
                raise OptionError(f"{same[0].name} and {same[1].name} are of the same features: leave one out")
    return [(dict(name(row[0])), row) for row in rows]


def features_of(result: Result) -> dict[str, Any]:
    """What decided the features of a result, model and mode aside."""
    recipe = {key: value for key, value in result.recipe.items() if key not in _NOT_OF_FEATURES}
    settings = {key: result.protocol[key] for key in _OF_FEATURES if key in result.protocol}
    layers = result.recipe["layers"]
    layer = max(layers, default=None) if settings.get("layer") is None else settings["layer"]
    if "layer" in settings:
        settings["layer"] = layer
    if "offsets" in recipe:  # one for each of the layers that the store holds
        recipe["offsets"] = dict(zip(layers, recipe["offsets"], strict=True)).get(layer)
    return recipe | settings


def _settings(result: Result) -> dict[str, Any]:
    return {key: value for key, value in result.protocol.items() if key not in _OF_FEATURES}


def _asked(result: Result) -> str:
    return json.dumps([result.kind, result.task, _settings(result)], sort_keys=True)


def _title(result: Result) -> str:
    return f"{protocol_of(result)} of {result.task}" if result.task else protocol_of(result)


def _model_and_mode(result: Result) -> tuple[Hashable, ...]:
    return result.recipe["model"], result.recipe["mode"]


def _why_alone(result: Result, results: Sequence[Result]) -> str:
    """Name the result that comes nearest, and what differs."""
    others = [other for other in results if other is not result]
    if not others:
        return f"{result.name} is the only result: give two or more to compare"
    nearest = max(others, key=lambda other: (other.kind == result.kind, other.task == result.task))
    beside = f"nothing to compare {result.name} with: the nearest, {nearest.name},"
    if nearest.kind != result.kind:
        return f"{beside} is a {nearest.kind}, not a {result.kind}"
    if nearest.task != result.task:
        return f"{beside} is of the task {nearest.task!r}, not {result.task!r}"
    mine, its = _settings(result), _settings(nearest)
    name = next(name for name in mine | its if mine.get(name) != its.get(name))
    return f"{beside} has the protocol {name}={its.get(name)}, not {name}={mine.get(name)}"


def _check_cases(first: Result, other: Result) -> None:
    both = f"{first.name} and {other.name}"
    for what, ids in (("scored on", _scored), ("trained on", _trained)):
        mine, its = ids(first), ids(other)
        if differing := sorted(set(mine) ^ set(its)):
            some = ", ".join(differing[:_NAMED]) + (", ..." if len(differing) > _NAMED else "")
            raise OptionError(f"{both} were {what} other cases: {len(differing)} are of one only ({some})")
    truth = {case["id"]: _truth(case) for case in first.cases}
    if changed := [case["id"] for case in other.cases if truth[case["id"]] != _truth(case)]:
        raise OptionError(f"{both} have other masks or labels of {changed[0]} ({number_of(len(changed), 'case')})")


def _scored(result: Result) -> list[str]:
    return [case["id"] for case in result.cases]


def _trained(result: Result) -> list[str]:
    return list(result.details.get("train", []))


def _truth(case: dict[str, Any]) -> tuple[Any, ...]:
    return case.get("label"), case.get("split"), case.get("mask_sha256")


def _telling(
    results: Sequence[Result], fields: Callable[[Result], dict[str, Any]], same: Callable[[Result], Hashable]
) -> list[str]:
    """The fields in which two results differ that are otherwise called the same."""
    found: dict[str, None] = {}
    for group in _grouped(results, same):
        values = [fields(result) for result in group]
        names = dict.fromkeys(name for value in values for name in value)
        found |= dict.fromkeys(name for name in names if any(v.get(name) != values[0].get(name) for v in values))
    return list(found)


def _grouped(results: Iterable[Result], key: Callable[[Result], Hashable]) -> list[list[Result]]:
    groups: dict[Hashable, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return list(groups.values())


def _texts(settings: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{name}={_text(name, settings[name])}" for name in names if settings.get(name) is not None]


def _text(field: str, value: Any) -> str:
    if value is None or value == []:
        return "-"
    if field.endswith("_sha256"):
        return str(value)[:8]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
