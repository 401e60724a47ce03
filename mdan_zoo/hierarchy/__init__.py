"""Emotion hierarchies: tree, validation, file formats, built-in hierarchies. Needs no torch."""
