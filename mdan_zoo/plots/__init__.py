"""Plots of predictions and explanations. Needs matplotlib."""
