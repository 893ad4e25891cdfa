"""The `featlift` command. Heavy imports stay inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from featlift.cli.check import check
from featlift.cli.compare import compare
from featlift.cli.doctor import doctor
from featlift.cli.embed import embed
from featlift.cli.export import export
from featlift.cli.extract import extract
from featlift.cli.featdice import featdice
from featlift.cli.finetune import finetune
from featlift.cli.index import index
from featlift.cli.info import info
from featlift.cli.knn import knn
from featlift.cli.merge import merge
from featlift.cli.models import models
from featlift.cli.pca import pca
from featlift.cli.pretrain import pretrain
from featlift.cli.probe import probe
from featlift.cli.regions import regions
from featlift.cli.register import register
from featlift.cli.report import report
from featlift.cli.retrieve import retrieve
from featlift.cli.segment import segment
from featlift.cli.study import study
from featlift.cli.verify import verify
from featlift.cli.view import view
from featlift.errors import FeatliftError
from featlift.version import __version__

EXIT_WRONG_CALL = 2
EXIT_FAILED = 1

app = typer.Typer(
    name="featlift",
    help="3D scans to volumetric embeddings with frozen 2D foundation models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS = {
    "Extract features": (embed, extract, check, models, doctor),
    "Measure them": (featdice, knn, probe, retrieve, regions, compare, study),
    "Look at them": (pca, view, report, export),
    "Keep them": (info, verify, merge, index),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(register, rich_help_panel="Align scans by them")
app.add_typer(segment, rich_help_panel="Train on them")
app.add_typer(finetune, rich_help_panel="Train on them")
app.add_typer(pretrain, rich_help_panel="Train on them")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"featlift {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    global _show_traceback
    _show_traceback = traceback


_show_traceback = False


#: What typer raises for a call that cannot be parsed. It carries click in some versions and needs it in others.
_CallError: Any = typer.BadParameter.__base__


def main() -> None:
    """Run the command line: errors in one line, exit 2 for a wrong call, 1 when some cases failed."""
    try:
        sys.exit(app(prog_name="featlift", standalone_mode=False) or 0)
    except (FeatliftError, PermissionError) as error:
        if _show_traceback:
            raise
        _stop(str(error))
    except _CallError as error:
        _stop(_wrong_call(error))
    except typer.Abort:
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if _show_traceback or (what := _memory_lacking(error)) is None:
            raise
        _stop(what, EXIT_FAILED)


def _memory_lacking(error: Exception) -> str | None:
    """What to say of an error that tells of memory, whether torch's or numpy's; None of another."""
    from featlift.lifting.budget import is_out_of_memory

    if not is_out_of_memory(error):
        return None
    asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
    more = f" ({asked[1]} were asked for)" if asked else ""
    return (
        f"out of memory{more}: do less at once with a smaller --size, --patch, --width, --batch or --cells or fewer "
        "--workers, or use a machine or device that has more"
    )


def _wrong_call(error: Any) -> str:
    """What typer says in a box of five lines; nothing for a call without a command, which shows the help."""
    parameter: Any = getattr(error, "param", None)
    named = parameter is not None and error.message  # else it is missing
    what = f"{max(parameter.opts, key=len)}: {error.message}" if named else error.format_message()
    more = f"; `{error.ctx.command_path} --help` says what there is" if error.ctx and what else ""
    return f"{what.rstrip('.?')}{more}"


def _stop(message: str, code: int = EXIT_WRONG_CALL) -> None:
    if message:
        typer.echo(f"featlift: {' '.join(message.split())}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
