"""The model zoo: registered model configs, `create_model`, `list_models`, `from_pretrained`."""
