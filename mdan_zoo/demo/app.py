"""Page: layout and events of the demo."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdan_zoo.demo import text
from mdan_zoo.demo.answer import MAX_IMAGES, NamedImage, answer_html, message_html
from mdan_zoo.demo.gradio_import import gr
from mdan_zoo.demo.models import ListedModel, choose_default, load_predictor
from mdan_zoo.demo.uploads import sweep_seconds
from mdan_zoo.errors import MdanZooError

HERE = Path(__file__).parent

EXAMPLES = {
    "Try a cat": (NamedImage("cat.jpg", HERE / "examples" / "cat.jpg"),),
    "Try a rocket": (NamedImage("rocket.jpg", HERE / "examples" / "rocket.jpg"),),
}
"""Labels of the example buttons and their images."""


_AGAIN_IF_ANSWERED = """() => {
    const answered = document.querySelector("#mz-answer .mz-status");
    if (answered) document.querySelector("#mz-again").click();
}"""


@dataclass(frozen=True)
class _Page:
    """Components that events read or write."""

    files: gr.File
    model: gr.Radio
    images: gr.State
    again: gr.Button
    answer: gr.HTML


def build_page(models: Sequence[ListedModel], keep_seconds: int) -> gr.Blocks:
    """Return the page.

    Args:
        models: Return value of `mdan_zoo.demo.models.find_models`.
        keep_seconds: How long uploads are kept, so that they can be used with another model.
    """
    blocks: gr.Blocks  # Gradio is not typed
    with gr.Blocks(title=text.TITLE, analytics_enabled=False) as blocks:
        gr.Markdown(text.INTRODUCTION)
        with gr.Row(equal_height=True):
            files = gr.File(
                file_count="multiple",
                label="Drop images here, paste them, or click",
                height=150,
                elem_id="mz-files",
                scale=2,
            )
            with gr.Column(scale=1, min_width=260):
                model = gr.Radio(
                    [listed.name for listed in models if listed.weights is not None],
                    value=choose_default(models),
                    label="Model",
                )
                with gr.Row():
                    buttons = {
                        name: gr.Button(name, size="sm", min_width=80, elem_classes="mz-example")
                        for name in EXAMPLES
                    }
        gr.Markdown(
            text.LIMITS.format(minutes=math.ceil((keep_seconds + sweep_seconds(keep_seconds)) / 60))
        )
        again = gr.Button("Predict again", elem_id="mz-again")
        answer = gr.HTML(
            elem_id="mz-answer",
            apply_default_css=False,
            js_on_load=(HERE / "page.js").read_text(encoding="utf-8"),
        )
        with gr.Accordion("About the models", open=True):
            gr.Markdown(text.ABOUT)
            gr.HTML(text.models_html(models), js_on_load=None, apply_default_css=False)
        page = _Page(files, model, gr.State(()), again, answer)
        _connect(page, buttons)
    blocks.queue(default_concurrency_limit=1, max_size=200)
    return blocks


def _connect(page: _Page, buttons: dict[str, gr.Button]) -> None:
    """Connect the events: an upload, a click on an example, the choice of a model."""
    # One prediction at a time for all events, because the network uses all cores.
    options: dict[str, Any] = {
        "concurrency_id": "network",
        "concurrency_limit": 1,
        "api_visibility": "private",
    }
    # By default Gradio drops uploads that arrive while the previous answer is computed.
    queued: dict[str, Any] = {**options, "trigger_mode": "multiple"}
    page.files.upload(
        _take_files,
        [page.files, page.model],
        [page.answer, page.images, page.files],
        show_progress_on=page.answer,
        **queued,
    )
    # Without an answer on the page there is nothing to request. Gradio can also lose an event that
    # arrives at the moment another one ends.
    page.model.change(None, js=_AGAIN_IF_ANSWERED)
    page.again.click(_predict, [page.images, page.model], page.answer, **options)
    for name, button in buttons.items():
        button.click(
            _take_example(EXAMPLES[name]),
            page.model,
            [page.answer, page.images],
            show_progress_on=page.answer,
            **queued,
        )


# Gradio recognises gr.Progress as a default value.


def _take_files(
    files: list[str] | None,
    model: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> tuple[str, tuple[NamedImage, ...], None]:
    """Predict the uploads, and clear the upload field."""
    images = tuple(NamedImage(Path(file).name, Path(file)) for file in files or ())
    return _predict(images, model, progress), images, None


def _take_example(
    images: tuple[NamedImage, ...],
) -> Callable[[str], tuple[str, tuple[NamedImage, ...]]]:
    def take(model: str) -> tuple[str, tuple[NamedImage, ...]]:
        return _predict(images, model), images

    return take


def _predict(
    images: Sequence[NamedImage],
    model: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> str:
    if not images:
        return ""
    total = min(len(images), MAX_IMAGES)
    try:
        return answer_html(
            load_predictor(model),
            images,
            lambda done: progress((done, total), unit="images"),
        )
    except MdanZooError as error:  # about the model; errors of images are part of the answer
        return message_html(str(error))
