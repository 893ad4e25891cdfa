"""The page as one file that needs nothing else, and the parts that a served one has too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError, StoreError, VolumeError
from featlift.pictures.pages import policy, script_of, style_of, text_of
from featlift.pictures.viewer.scene import Scene
from featlift.progress import Progress

#: Bytes of a page that browsers open well, telephones' too.
LIMIT = 200_000_000

_SCRIPTS = (
    "view", "frame", "grid", "features", "scores", "opening", "decode", "colours", "picture", "marks", "tile", "layout",
    "notes", "panel", "keys", "viewer",
)  # fmt: skip


def write_view(scene: Scene, path: str | Path, limit: int = LIMIT, tell: Progress | None = None) -> dict[str, str]:
    """Write a scene as one HTML file, a case in memory at a time.

    Args:
        scene: what to show.
        path: of the file, which appears whole or not at all.
        limit: bytes of a page that are too many.
        tell: is told "cases", how many are done, and of how many.

    Returns:
        By id, the cases that are not in it, and why.

    Raises:
        OptionError: the page would be larger than the limit.
        VolumeError: no case could be shown.
        OutputError: it cannot be written.
    """
    failures: dict[str, str] = {}

    def write(draft: Path) -> None:
        with draft.open("w", encoding="utf-8") as file:
            for part in _parts(scene, failures, tell):
                file.write(part)
                if file.tell() > limit:
                    raise OptionError(
                        f"{path} would have more than {limit / 1e6:.0f} MB, too much for a page: "
                        "fewer --case or --channels, or --serve, which has no limit"
                    )

    write_atomically(Path(path), write)
    return failures


def page(manifest: dict[str, Any]) -> str:
    """A page without cases, which asks the server that it came from for them."""
    return "".join((_head(is_served=True), _block("manifest", manifest), _tail()))


def _parts(scene: Scene, failures: dict[str, str], tell: Progress | None) -> Iterator[str]:
    yield _head(is_served=False)
    shown: list[str] = []
    for done, case_id in enumerate(scene.cases, start=1):
        try:
            yield _block(f"case-{len(shown)}", scene.case(case_id))
            shown.append(case_id)
        except (VolumeError, StoreError, FileNotFoundError) as error:
            failures[case_id] = str(error)
        if tell is not None:
            tell("cases", done, len(scene.cases))
    if not shown:
        raise VolumeError("nothing to show: " + "; ".join(f"{case_id}: {why}" for case_id, why in failures.items()))
    yield _block("manifest", scene.manifest(shown))
    yield _tail()


def _head(is_served: bool) -> str:
    """Everything up to the data. The policy lets the page run this script and use this style, and reach nothing."""
    reached = "connect-src 'self'" if is_served else "connect-src 'none'"
    style = style_of(__package__, "viewer.css")
    head = text_of(__package__, "viewer.html")
    return head.replace("{policy}", policy(_script(), style, reached)).replace("{style}", style)


def _tail() -> str:
    return f'<script type="module">{_script()}</script>\n</body>\n</html>\n'


def _block(name: str, content: dict[str, Any]) -> str:
    """Data that no case id can break out of: JSON has no need of a "<"."""
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _script() -> str:
    return script_of(__package__, _SCRIPTS)
