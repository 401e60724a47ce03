"""The model zoo: model configs, `create_model`, `list_models` and `from_pretrained`."""
