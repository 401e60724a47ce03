"""Figures: layout in inches from the left and top, text that fits, and atomic files.

pyplot and its global state are not used.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from mdan_zoo._util import files
from mdan_zoo.errors import InputError, MdanZooError, printable

try:  # imported here for all plots, so that they raise the same error if it is missing
    from matplotlib import colormaps
    from matplotlib.axes import Axes as Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import PdfPages as PdfPages
    from matplotlib.colors import Normalize as Normalize
    from matplotlib.figure import Figure as Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import Rectangle as Rectangle
    from matplotlib.textpath import TextToPath
except ImportError as error:
    raise MdanZooError("drawing needs matplotlib: pip install 'mdan-zoo[explain]'") from error

FORMATS = ("png", "pdf", "svg", "jpg", "jpeg", "webp")
MARGIN = 0.25
"""Margin of a figure in inches."""

COLOUR_MAP = "viridis"
"""Perceptually uniform, also for colour-blind readers and in greyscale prints."""

_WEBP_SIDE = 16383  # pixels


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure with its own canvas; sizes are in inches."""
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes without frame or ticks; positions in the figure and in the axes are in inches."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    axes = figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )
    axes.set_axis_off()
    axes.set_xlim(0, width, auto=True)  # imshow sets its own limits
    axes.set_ylim(height, 0, auto=True)
    return axes


def add_text(axes: Axes, x: float, y: float, text: str, room: float, **style: Any) -> None:
    """Write one line of literal text, shortened to `room` inches, with its left middle at x, y."""
    style = {"fontsize": 8, "color": "#202020", "va": "center", **style}
    shown = shorten(text, room, style["fontsize"], style.get("fontweight", "normal"))
    axes.text(x, y, shown, parse_math=False, usetex=False, **style)


def shorten(text: str, room: float, size: float, weight: str = "normal") -> str:
    """Return a text, with its middle replaced by an ellipsis if it is wider than `room` inches."""
    font = FontProperties(size=size, weight=weight)

    def fits(candidate: str) -> bool:
        width, _, _ = TextToPath().get_text_width_height_descent(candidate, font, ismath=False)
        return bool(width <= 0.95 * room * 72)  # rendered letters are a little wider

    if fits(text):
        return text
    kept = ((n - n // 2, n // 2) for n in range(len(text) - 1, 1, -1))
    return next(filter(fits, (f"{text[:start]}…{text[-end:]}" for start, end in kept)), "…")


def colour_table() -> bytes:
    """Return the 256 RGB colours of `COLOUR_MAP`, from dark to light."""
    return bytes(colormaps[COLOUR_MAP](range(256), bytes=True)[:, :3].tobytes())


def file_name(image: str) -> str:
    """Return the last part of an image's name, in a printable form."""
    return printable(image.rstrip("/").rpartition("/")[2] or image)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, atomically.

    Raises:
        InputError: The suffix is not one of `FORMATS`, or no file can be written at `path`.
    """
    kind = check_output(path)
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    if kind == "webp" and max(width, height) > _WEBP_SIDE:
        raise InputError(
            f"a webp file has at most {_WEBP_SIDE} pixels a side, this figure has {width} x "
            f"{height}; write a .pdf or .png"
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    files.write_atomically(Path(path), buffer.getvalue())


def check_output(path: str | os.PathLike[str]) -> str:
    """Return the format given by the suffix of a path; raise the errors of `save`."""
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(
            f"the suffix of a figure must be one of {', '.join(f'.{name}' for name in FORMATS)}, "
            f"not {path.suffix!r}"
        )
    files.check_output(path)
    return kind
