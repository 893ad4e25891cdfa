"""A study from its TOML file. What makes no sense is refused before anything is extracted."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from featlift.config import ExtractConfig
from featlift.config.options import nearest, read_word
from featlift.errors import InputError, OptionError
from featlift.evaluation.sources import STORED, check_sources
from featlift.study.plan import COSTS, KINDS, MEASURES, Arm, Choice, Cohort, Study, StudyTask, is_called

_TABLES = ("name", "keep_features", "cohorts", "extract", "grid", "arms", "tasks", "choice", "tests", "figure")
#: Options that change nothing in these modes: two arms that differ in nothing else are one.
_OF_PLANES = {"2d": ("cycle", "token_pooling"), "3d": ("cycle", "token_pooling")}


def read_study(path: str | Path, data: str | Path | None = None) -> Study:
    """Read a study.

    Args:
        path: of its TOML file, to whose folder the paths in it are relative.
        data: the folder to which those of scans and masks are relative instead.

    Raises:
        InputError: no such file, no TOML, or a file that it names is missing.
        OptionError: a table, an option or a value that there is not, or that makes no sense.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        tables = tomllib.loads(content.decode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the TOML file of a study") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no TOML: {error}") from error
    try:
        study = _study(tables, path.parent, Path(data or path.parent), sha256(content).hexdigest())
    except OptionError as error:
        raise OptionError(f"{path.name}: {error}") from error
    return study


def _study(tables: Mapping[str, Any], folder: Path, data: Path, digest: str) -> Study:
    _check_names(tables, _TABLES, "the study")
    cohorts = [_cohort(name, _a_table(table, name), folder, data) for name, table in tables.get("cohorts", {}).items()]
    arms = _arms(tables)
    tasks = [_task(table) for table in tables.get("tasks", [])]
    for what, found in (("[cohorts.NAME]", cohorts), ("[grid] or [[arms]]", arms), ("[[tasks]]", tasks)):
        if not found:
            raise OptionError(f"no {what}: give at least one")
    tests, figure = _a_table(tables.get("tests", {}), "tests"), _a_table(tables.get("figure", {}), "figure")
    _check_names(tests, ("baseline",), "[tests]")
    _check_names(figure, ("across", "cost"), "[figure]")
    study = Study(
        str(tables.get("name", "study")),
        tuple(cohorts),
        tuple(arms),
        tuple(tasks),
        _choice(tables.get("choice")),
        tests.get("baseline", ""),
        figure.get("across", "layer"),
        read_word(figure.get("cost", "seconds"), "[figure] cost", COSTS),
        bool(tables.get("keep_features", False)),
        digest,
    )
    _check(study)
    return study


def _cohort(name: str, table: Mapping[str, Any], folder: Path, data: Path) -> Cohort:
    where = f"[cohorts.{name}]"
    _check_names(table, [each.name for each in fields(Cohort) if each.name != "name"], where)
    if "scans" not in table:
        raise OptionError(f"{where}: no scans: give a file, a folder or a manifest")
    places = {"scans": data, "masks": data, "splits": folder}
    paths = {key: _place(table[key], place) for key, place in places.items() if key in table}
    for key, place in paths.items():
        if "://" not in place and not Path(place).exists():
            raise InputError(f"{where} {key}: {place}: no such file or folder; --data says where scans and masks are")
    splits = Path(paths["splits"]) if "splits" in paths else None
    millimetres = {key: table.get(key, 0.0) for key in ("pad_at_random", "slice_thickness")}
    for key, value in millimetres.items():
        if not isinstance(value, (int, float)) or value < 0:
            raise OptionError(f"{where} {key} {value!r}: give millimetres")
    return Cohort(name, paths["scans"], paths.get("masks"), splits, **millimetres)


def _place(given: str, folder: Path) -> str:
    return given if "://" in given else str(folder / given)


def _arms(tables: Mapping[str, Any]) -> list[Arm]:
    shared = _a_table(tables.get("extract", {}), "extract")
    grid = _a_table(tables.get("grid", {}), "grid")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise OptionError(f"[grid] {name}: give a list of values")
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []
    arms = [_arm(values, shared) for values in combinations]
    for table in tables.get("arms", []):
        values = dict(_a_table(table, "arms"))
        name, cost_only = values.pop("name", ""), bool(values.pop("cost_only", False))
        arms.append(_arm(values, shared, str(name), cost_only))
    unlike = {arm.name: arm for arm in arms}
    if twice := [arm.name for arm in arms if unlike[arm.name].config != arm.config]:
        raise OptionError(f"two arms are called {twice[0]!r}: give each a name of its own")
    return list(unlike.values())


def _arm(values: dict[str, Any], shared: Mapping[str, Any], name: str = "", cost_only: bool = False) -> Arm:
    idle = _OF_PLANES.get(str({**shared, **values}.get("mode")), ())
    values = {key: value for key, value in values.items() if key not in idle}
    own = {key: value for key, value in shared.items() if key not in idle}
    config = ExtractConfig().with_values({**own, **values}, "an arm's {}")
    config.check()
    if not all(isinstance(layer, int) and layer >= 0 for layer in config.lifting.layers):
        raise OptionError("layers: give absolute indices, counted from 0, so that results can be named after them")
    return Arm(
        name or " ".join(_said(key, value) for key, value in values.items()) or "default", values, config, cost_only
    )


def _said(name: str, value: Any) -> str:
    said = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return said if name in ("model", "mode", "cycle", "weights") else f"{name} {said}"


def _task(table: Mapping[str, Any]) -> StudyTask:
    options = dict(_a_table(table, "tasks"))
    kind = read_word(str(options.pop("kind", "")), "[[tasks]] kind", KINDS)
    name = str(options.pop("name", kind))
    layers = tuple(options.pop("layers", ()))
    features = tuple(options.pop("features", (STORED,)))
    cohorts = tuple(options.pop("cohorts", ()))
    measure = str(options.pop("measure", MEASURES[kind][0]))
    for given in features:
        check_sources(given)
    return StudyTask(name, kind, options, layers, features, cohorts, measure)  # type: ignore[arg-type]


def _choice(table: Any) -> Choice | None:
    if table is None:
        return None
    _check_names(_a_table(table, "choice"), ("task", "over"), "[choice]")
    if not {"task", "over"} <= table.keys():
        raise OptionError("[choice]: give task and over")
    return Choice(str(table["task"]), tuple(table["over"]))


def _check(study: Study) -> None:
    """What makes sense only together."""
    from featlift.study.tasks import check_task

    names = [task.name for task in study.tasks]
    if len(set(names)) < len(names):
        raise OptionError("two tasks have one name: give each its own")
    known = [cohort.name for cohort in study.cohorts]
    for task in study.tasks:
        check_task(task)
        if unknown := [name for name in task.cohorts if name not in known]:
            raise OptionError(f"task {task.name}: no cohort {unknown[0]!r}{nearest(unknown[0], known)}")
        without = [each.name for each in _cohorts_of(study, task) if each.masks is None]
        if task.kind in ("featdice", "dense") and without:
            raise OptionError(f"task {task.name}: the cohort {without[0]} has no masks")
    scored = [arm for arm in study.arms if not arm.cost_only]
    if not scored:
        raise OptionError("every arm is cost_only: nothing is scored")
    names = [arm.name for arm in scored]
    if study.baseline and not any(is_called(name, study.baseline) for name in names):
        raise OptionError(f"[tests] baseline: no arm {study.baseline!r}{nearest(study.baseline, names)}")
    axes = ["layer", "model", *dict.fromkeys(key for arm in study.arms for key in arm.values)]
    asked = [("[figure] across", study.across), *(("[choice] over", name) for name in _over(study))]
    for where, name in asked:
        if name not in axes:
            raise OptionError(f"{where} {name!r}: choose of {', '.join(axes)}")
    if study.choice:
        _check_choice(study, study.choice.task)


def _check_choice(study: Study, name: str) -> None:
    tasks = {task.name: task for task in study.tasks}
    if name not in tasks:
        raise OptionError(f"[choice] task: no task {name!r}{nearest(name, list(tasks))}")
    if STORED not in tasks[name].features or tasks[name].cohorts:
        raise OptionError(f"[choice] task {name}: choices are made by stored features, of every cohort")


def _over(study: Study) -> Sequence[str]:
    return study.choice.over if study.choice else ()


def _cohorts_of(study: Study, task: StudyTask) -> Iterator[Cohort]:
    return (cohort for cohort in study.cohorts if not task.cohorts or cohort.name in task.cohorts)


def _a_table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise OptionError(f"{name}: give a table, as in [{name}]")
    return value


def _check_names(table: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    if unknown := [name for name in table if name not in names]:
        raise OptionError(f"{where} has no {unknown[0]!r}{nearest(unknown[0], list(names))}")
