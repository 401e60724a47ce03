"""Emotion hierarchies: data structure, validation, file formats and built-in hierarchies."""
