"""Inference: predictor, predictions and explanations."""
