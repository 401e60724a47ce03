"""Publishing: model cards, repositories of weights, and releases of the package."""
