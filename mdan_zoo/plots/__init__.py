"""Plots of predictions and explanations. Needs matplotlib: pip install 'mdan-zoo[explain]'.

plot(prediction, "prediction.png")
plot(explanation, "explanation.png")
plot_contact_sheet(images, predictions, "sheet.pdf")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdan_zoo._util.lazy import lazy_exports

_MODULES = {"plot": "results", "plot_contact_sheet": "contact_sheet"}

__getattr__, __dir__, __all__ = lazy_exports(__name__, _MODULES)

if TYPE_CHECKING:
    from mdan_zoo.plots.contact_sheet import plot_contact_sheet as plot_contact_sheet
    from mdan_zoo.plots.results import plot as plot
