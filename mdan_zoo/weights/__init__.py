"""Weights: checkpoints, the weights manifest, download, cache and verification."""
