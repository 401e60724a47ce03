"""Readers for the data sets that the models are trained on, one file each, and their splits."""
