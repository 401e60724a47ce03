"""Page: texts, layout and events of the demo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mdan_zoo.demo.answer import MAX_IMAGES, NamedImage, answer_html
from mdan_zoo.demo.gradio_import import gr
from mdan_zoo.demo.models import (
    MAX_BYTES,
    MAX_PIXELS,
    ListedModel,
    choose_default,
    load_predictor,
)
from mdan_zoo.errors import MdanZooError

HERE = Path(__file__).parent

EXAMPLES = {
    "Try a cat": (NamedImage("cat.jpg", HERE / "examples" / "cat.jpg"),),
    "Try a rocket": (NamedImage("rocket.jpg", HERE / "examples" / "rocket.jpg"),),
}
"""Labels of the example buttons and their images."""

_INTRODUCTION = """\
# Visual emotion analysis: which emotion does an image evoke?

The models predict what an average viewer would feel, at every level of an emotion hierarchy. **Not
for decisions about people, for diagnosis, or for the emotion of a person in the image.**
"""

_LIMITS = (
    f"Up to {MAX_IMAGES} images at once, each of at most {MAX_BYTES // 1_000_000} MB and "
    f"{MAX_PIXELS // 1_000_000} megapixels. They stay on the machine that serves this page, no "
    "other user can see them, and they are deleted within {minutes} minutes."
)

_ABOUT = """\
**Training data.** All models with weights were trained on photographs of OASIS (661, of which the
FI models saw 531; Kurdi, Lozano and Banaji, 2017), each rated by about 100 adult internet users in
the United States for valence and arousal; `mdan_fi8_lite0` and `flat_fi8_lite0` also on 14,841
photographs of FI (You, Luo, Jin and Yang, 2016) from Flickr and Instagram, for each of which at
least three of five crowd workers chose the same of eight emotions. Other people may see images
differently. The table below names the dataset of the other models.

**Intended uses.** Sorting, searching and describing sets of photographs by the mood that they are
likely to evoke, teaching, and fine-tuning.

**Limitations.** Not for decisions about people, for diagnosis, or for the emotion that a *person in
the image* feels: the models were trained on what viewers felt. On new images, about a third of the
emotions of the FI models and an eighth of their positive or negative labels are wrong; of the OASIS
models, half of the fine labels and a quarter of the others. Treat a score as weak evidence, and an
average over many images as better evidence. The photographs of OASIS contain no nudity, drawings,
paintings, screenshots, text or memes.

**Predicted path.** The highlighted path has the highest product of probabilities over the levels.
At a single level another class can be slightly more probable. Valence and arousal are predicted
mean ratings, from 1, very negative or low, to 7, very positive or high.

**Maps.** The class activation map of a class shows how much each position contributes to its score,
the attention M of L-CAM where the network amplifies its features. Light is high, dark is low. The
OASIS models only see the centre square, the FI models the whole image, resized to a square. Flat
models only have class maps, of their finest level.

**Examples.** The cat is by Stefan van der Walt (CC0), the rocket by SpaceX (public domain); both
are from the sample data of scikit-image.
"""

_AGAIN_IF_ANSWERED = """() => {
    const answered = document.querySelector("#mz-answer .mz-status");
    if (answered) document.querySelector("#mz-again").click();
}"""


def build_page(models: Sequence[ListedModel], minutes: int) -> gr.Blocks:
    """Return the page, which offers models and says that uploads are deleted within `minutes`."""
    blocks: gr.Blocks  # Gradio is not typed
    with gr.Blocks(title="mdan-zoo", analytics_enabled=False) as blocks:
        gr.Markdown(_INTRODUCTION)
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
        gr.Markdown(_LIMITS.format(minutes=minutes))
        again = gr.Button("Predict again", elem_id="mz-again")
        answer = gr.HTML(
            elem_id="mz-answer",
            apply_default_css=False,
            js_on_load=(HERE / "page.js").read_text(encoding="utf-8"),
        )
        with gr.Accordion("About the models", open=True):
            gr.Markdown(_ABOUT)
            gr.HTML(_models_html(models), js_on_load=None, apply_default_css=False)
        _connect(files, model, again, answer, buttons)
    blocks.queue(default_concurrency_limit=1, max_size=200)
    return blocks


def _models_html(models: Iterable[ListedModel]) -> str:
    """Return a table of all models with their status."""
    rows = "".join(
        f"<tr><td><code>{escape(model.name)}</code></td><td>{escape(model.dataset)}</td>"
        f"<td>{model.classes}</td><td>{escape(model.status)}</td></tr>"
        for model in models
    )
    return (
        '<div class="mz-table"><table><thead><tr><th scope="col">model</th>'
        '<th scope="col">dataset</th><th scope="col">classes</th>'
        f'<th scope="col">status</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _connect(
    files: gr.File,
    model: gr.Radio,
    again: gr.Button,
    answer: gr.HTML,
    buttons: dict[str, gr.Button],
) -> None:
    """Connect the events: an upload, a click on an example, the choice of a model."""
    images = gr.State(())
    # One prediction at a time for all events, because the network uses all cores.
    options: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}
    options["api_visibility"] = "private"
    # By default Gradio drops uploads that arrive while the previous answer is computed.
    queued = {**options, "trigger_mode": "multiple", "show_progress_on": answer}
    files.upload(_take_files, [files, model], [answer, images, files], **queued)
    # Without an answer on the page there is nothing to request. Gradio can also lose an event that
    # arrives at the moment another one ends.
    model.change(None, js=_AGAIN_IF_ANSWERED)
    again.click(_predict, [images, model], answer, **options)
    for name, button in buttons.items():
        button.click(
            lambda model, shown=EXAMPLES[name]: (_predict(shown, model), shown),
            model,
            [answer, images],
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
            load_predictor(model), images, lambda done: progress((done, total), unit="images")
        )
    except MdanZooError as error:  # about the model; errors of images are part of the answer
        return f'<p class="mz-error" role="alert">{escape(str(error))}</p>'
