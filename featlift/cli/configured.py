"""Commands that take the options of `ExtractConfig`: as flags, from a TOML file, or from a store's recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from featlift.config import ExtractConfig
from featlift.config.options import Option
from featlift.config.presets import presets
from featlift.errors import OptionError

_PANELS = {
    "network": "Backbone",
    "lifting": "Lifting",
    "selection": "Which scans",
    "reading": "Which scans",
    "preparation": "What of them",
    "output": "What to keep",
    "running": "The run",
}
_FIRST = "All options at once"
_CONFIG = f"A TOML file of options, or a preset: {', '.join(presets())}."


def configured(leave_out: Sequence[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of an extraction; it takes them as its argument `config`.

    Options of every day come first, in their panels, then the others. Flags override a file, or a store's recipe.

    Args:
        leave_out: options that make no sense for the command.
    """
    options = [(section, each.name, option, each.default) for section, each, option in ExtractConfig.options()]
    options = [option for option in options if option[1] not in leave_out]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [each for each in inspect.signature(command).parameters.values() if each.name != "config"]
        hints = get_type_hints(command, include_extras=True)
        parameters = [each.replace(annotation=hints[each.name]) for each in own]
        parameters += _sources()
        for everyday in (True, False):
            parameters += [
                _parameter(section, name, option, default, everyday)
                for section, name, option, default in options
                if option.everyday == everyday
            ]
        names = {name: _flag(name, option) for _, name, option, _ in options}

        @wraps(command)
        def with_config(**values: Any) -> None:
            given = {name: value for name in names if (value := values.pop(name)) is not None}
            config = _begin(values.pop("config_file"), values.pop("recipe_of"))
            for name, value in given.items():
                config = config.with_values({name: value}, names[name])
            if values.pop("print_config"):
                typer.echo(config.as_toml(), nl=False)
                return
            command(**values, config=config)

        parameters.sort(key=lambda each: each.default is not inspect.Parameter.empty)
        with_config.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_config.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_config

    return decorate


def _begin(config_file: str | None, recipe_of: str | None) -> ExtractConfig:
    if config_file is not None and recipe_of is not None:
        raise OptionError("--config and --recipe-of: give one of them to begin with")
    if config_file is not None:
        return ExtractConfig.of_file(config_file)
    if recipe_of is not None:
        from featlift.cohort import config_of

        return config_of(recipe_of)
    return ExtractConfig()


def _sources() -> list[inspect.Parameter]:
    """The options that say where the others begin."""
    kinds: list[tuple[str, Any, Any]] = [
        ("config_file", str | None, typer.Option("--config", help=_CONFIG, rich_help_panel=_FIRST)),
        ("recipe_of", str | None, typer.Option(help="A store, to begin with its recipe.", rich_help_panel=_FIRST)),
        (
            "print_config",
            bool,
            typer.Option("--print-config", help="Print the TOML file of this call, and end.", rich_help_panel=_FIRST),
        ),
    ]
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if kind is bool else None,
            annotation=Annotated[kind, how],
        )
        for name, kind, how in kinds
    ]


def _flag(name: str, option: Option) -> str:
    return option.flags[0].partition("/")[0] if option.flags else f"--{name.replace('_', '-')}"


def _parameter(section: str, name: str, option: Option, default: Any, everyday: bool) -> inspect.Parameter:
    kind: Any = list[str] if option.kind.parameter is list else option.kind.parameter
    how = typer.Option(
        *(option.flags or (_flag(name, option),)),
        help=f"{option.help}{_told(default)}",
        metavar=option.kind.choices,
        min=option.kind.least,
        envvar=option.environment,
        show_default=False,
        callback=_checking(option),
        rich_help_panel=_PANELS[section] if everyday else f"{_PANELS[section]}: more",
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, how])


def _checking(option: Option) -> Callable[..., Any]:
    """Looks at a value as it is parsed: what is none is refused before anything else is done."""

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None:
            option.kind.read(value, max(param.opts, key=len))
        return value

    return check


def _told(default: Any) -> str:
    """A default as ``--help`` tells it; nothing for what is left to featlift, and for what is off."""
    if default in (None, (), False):
        return ""
    shown = "on" if default is True else ",".join(map(str, default)) if isinstance(default, tuple) else default
    return f" Default: {shown}."
