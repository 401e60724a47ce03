"""Import of Gradio and its server with telemetry disabled."""

from __future__ import annotations

import os

from mdan_zoo.errors import MdanZooError

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when huggingface_hub is imported

try:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
except ImportError as error:
    raise MdanZooError("the demo needs Gradio: pip install 'mdan-zoo[demo]'") from error

__all__ = ["FastAPI", "gr", "uvicorn"]
