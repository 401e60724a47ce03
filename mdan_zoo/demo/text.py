"""Texts of the page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from mdan_zoo.demo.answer import MAX_IMAGES
from mdan_zoo.demo.models import MAX_BYTES, MAX_PIXELS, ListedModel

TITLE = "mdan-zoo"

INTRODUCTION = """\
# Visual emotion analysis: which emotion does an image evoke?

The models predict what an average viewer would feel, at every level of an emotion hierarchy. **Not
for decisions about people, for diagnosis, or for the emotion of a person in the image.**
"""

LIMITS = (
    f"Up to {MAX_IMAGES} images at once, each of at most {MAX_BYTES // 1_000_000} MB and "
    f"{MAX_PIXELS // 1_000_000} megapixels. They stay on the machine that serves this page, no "
    "other user can see them, and they are deleted within {minutes} minutes."
)

ABOUT = """\
**Training data.** `mdan_oasis4` and `flat_oasis4` were trained on 661 photographs of OASIS (Kurdi,
Lozano and Banaji, 2017), each rated by about 100 adult internet users in the United States for
valence and arousal; other people may see images differently. The table below names the dataset of
the other models.

**Intended uses.** Sorting, searching and describing sets of photographs by the mood that they are
likely to evoke, teaching, and fine-tuning.

**Limitations.** Not for decisions about people, for diagnosis, or for the emotion that a *person in
the image* feels: the models were trained on what viewers felt. On new themes, half of the fine
labels of the OASIS models and a quarter of their positive or negative labels are wrong: treat a
score as weak evidence, and an average over many images as better evidence. The training images
contained no nudity, drawings, paintings, screenshots, text or memes.

**Predicted path.** The highlighted path has the highest product of probabilities over the levels.
At a single level another class can be slightly more probable.

**Maps.** The class activation map of a class shows how much each position contributes to the score
of the class. The attention M of L-CAM shows where the network amplifies its features. Light is
high, dark is low. The network only sees the centre square, so there is no map outside of it. Flat
models have no attention, and only have maps of their finest level.

**Examples.** The cat is by Stefan van der Walt (CC0), the rocket by SpaceX (public domain); both
are from the sample data of scikit-image.
"""


def models_html(models: Iterable[ListedModel]) -> str:
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
