"""Comparison: systems trained with one recipe, tested on one split, and tabulated side by side."""
