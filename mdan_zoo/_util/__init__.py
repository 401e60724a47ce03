"""Helpers that know nothing of emotions, networks or weights."""
