"""A figure that is drawn by notebooks by itself: those of matplotlib are only once pyplot has drawn something."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure of matplotlib that knows itself as PNG."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()
