"""Plots of predictions and explanations. Needs matplotlib: pip install 'mdan-zoo[explain]'.

plot(prediction, "prediction.png")
plot(explanation, "explanation.png")
plot_contact_sheet(images, predictions, "sheet.pdf")
"""

from mdan_zoo.plots.contact_sheet import plot_contact_sheet as plot_contact_sheet
from mdan_zoo.plots.results import plot as plot
