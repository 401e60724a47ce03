"""Datasets: readers (one file each), checks, splits and the index of their files."""
