"""Pages that need nothing else: parts put into one file that may run its own script, and reach nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib.resources import files


def style_of(package: str, name: str) -> str:
    """The colours that all pages share, and a page's own style sheet from the folder ``page`` of its package."""
    return text_of(__package__, "theme.css") + text_of(package, name)


def script_of(package: str, names: Iterable[str]) -> str:
    """The scripts of a page in this order, as one."""
    return "".join(text_of(package, f"{name}.js") for name in names)


def text_of(package: str, name: str) -> str:
    """A file of the folder ``page`` of a package."""
    return files(package).joinpath("page", name).read_text(encoding="utf-8")


def policy(script: str, style: str, *further: str) -> str:
    """A content security policy under which this script runs and this style is used, and no request is made.

    Args:
        script: of the page.
        style: of the page.
        further: what else is allowed, such as ``img-src data:``.
    """
    return "; ".join(
        (
            "default-src 'none'",
            *further,
            f"script-src '{_hash_of(script)}'",
            f"style-src '{_hash_of(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash_of(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
