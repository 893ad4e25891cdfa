"""`ExtractConfig`: all that an extraction is asked for, from defaults, a file, a store's recipe, flags or Python."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from featlift.config.modes import check_mode
from featlift.config.options import Option, nearest
from featlift.config.presets import preset_file, presets
from featlift.config.sections import (
    LiftingConfig,
    NetworkConfig,
    OutputConfig,
    PreparationConfig,
    ReadingConfig,
    RunningConfig,
    SelectionConfig,
)
from featlift.errors import InputError, OptionError


@dataclass(frozen=True)
class ExtractConfig:
    """A section for each topic. Names of options are unique among them.

    Attributes:
        network: the network, and where it computes.
        lifting: how it sees a volume.
        selection: which files are scans.
        reading: how far reading may go.
        preparation: what happens to a volume before lifting.
        output: what is kept of it.
        running: how the run goes.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    lifting: LiftingConfig = field(default_factory=LiftingConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    preparation: PreparationConfig = field(default_factory=PreparationConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    running: RunningConfig = field(default_factory=RunningConfig)

    @classmethod
    def options(cls) -> Iterator[tuple[str, Field[Any], Option]]:
        """Section, field and option of all there are, in their order."""
        for section in fields(cls):
            for each in fields(section.default_factory):  # type: ignore[arg-type]
                yield section.name, each, each.metadata["option"]

    def with_values(self, values: Mapping[str, Any], named: str = "{}") -> Self:
        """The same with other values of some options.

        Args:
            values: by the name of the option; None is the default.
            named: how messages call an option.

        Raises:
            OptionError: no such option, or no such value.
        """
        known = {each.name: (section, option, each.default) for section, each, option in self.options()}
        changes: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in known:
                raise OptionError(f"{named.format(name)}: no such option{nearest(name, list(known))}")
            section, option, default = known[name]
            read = default if value is None else option.kind.read(value, named.format(name))
            changes.setdefault(section, {})[name] = read
        return replace(self, **{name: replace(getattr(self, name), **new) for name, new in changes.items()})

    def check(self) -> None:
        """Refuse what makes sense only together, with an `OptionError`."""
        check_mode(self.network, self.lifting)
        if bool(self.selection.roi) != bool(self.preparation.roi_mm):
            raise OptionError("--roi and --roi-mm belong together: where the regions are, and how large")
        if self.lifting.orientations != ("axial",):
            spacing, size = self.preparation.spacing, self.preparation.size
            if len(set(spacing)) != 1 or 0 in spacing:
                if not (len(size) == 3 and not spacing and 0 not in size):
                    raise OptionError(
                        "--orientations sees every plane with square pixels: give --spacing MM, one number for all "
                        "axes, or for scans of unknown spacing --size D,H,W"
                    )
            elif size:
                raise OptionError("--orientations with --spacing: --size would make pixels oblong again, leave it out")

    @classmethod
    def of_file(cls, path: str | Path) -> Self:
        """Read a TOML file with a table for each section, or the preset of this name where there is no such file.

        Raises:
            InputError: no such file or preset, or no TOML.
            OptionError: a table, an option or a value that there is not.
        """
        path = Path(path)
        if not path.is_file():  # a folder may be called mr
            path = preset_file(str(path)) or path
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"{path}: {error.strerror}; give a TOML file (--print-config shows one), or a preset: "
                f"{', '.join(presets())}"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: no TOML: {error}") from error
        config = cls()
        sections = {section.name: section for section in fields(cls)}
        for name, table in tables.items():
            if name not in sections or not isinstance(table, dict):
                raise OptionError(f"{path.name}: no section [{name}]{nearest(name, list(sections))}")
            names = [each.name for each in fields(sections[name].default_factory)]  # type: ignore[arg-type]
            for key in table:
                if key not in names:
                    raise OptionError(f"{path.name}: [{name}] has no option {key!r}{nearest(key, names)}")
            config = config.with_values(table, f"{path.name}: [{name}] {{}}")
        return config

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """What made a store, as its recipe tells; weights that are no published ones are to be given again."""
        names = {each.name for _, each, option in cls.options() if option.feature}
        known = {name: recipe[name] for name in names if recipe.get(name) is not None}
        if recipe.get("dtype"):
            known["save_dtype"] = recipe["dtype"]
        if known.get("rope_periods") not in ("fp32", "bf16"):
            known.pop("rope_periods", None)
        known = {name: value for name, value in known.items() if value != {}}
        return cls().with_values(known, "the store's recipe, {}")

    def as_toml(self) -> str:
        """A file that `of_file` reads; what is left to featlift is a comment."""
        lines: list[str] = []
        for section in fields(self):
            lines += ["", f"[{section.name}]"] if lines else [f"[{section.name}]"]
            values = getattr(self, section.name)
            for each in fields(values):
                value = getattr(values, each.name)
                lines.append(f"# {each.name} =" if value is None else f"{each.name} = {_as_toml(value)}")
        return "\n".join(lines) + "\n"


def _as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_as_toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_as_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
