"""Texts of the page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from mdan_zoo.demo.answer import MAX_IMAGES
from mdan_zoo.demo.models import MAX_BYTES, MAX_PIXELS, ListedModel

TITLE = "mdan-zoo"

INTRODUCTION = """\
# Which emotion does an image evoke?

The models guess what an average viewer would feel, on every level of an emotion tree. **Not for
decisions about people, for diagnosis, or for the emotion of a person in the image.**
"""

LIMITS = (
    f"Up to {MAX_IMAGES} images at once, each of at most {MAX_BYTES // 1_000_000} MB and "
    f"{MAX_PIXELS // 1_000_000} megapixels. They stay on the machine that serves this page, no "
    "other user can see them, and they are deleted within {minutes} minutes."
)

ABOUT = """\
**What they learned.** `mdan_oasis4` and `flat_oasis4` learned from 661 photographs of OASIS (Kurdi,
Lozano and Banaji, 2017), each rated by about 100 adult internet users in the United States for
valence and arousal; other people see images differently. Other models learned from the data set
that the table names.

**What they are for.** Sorting, searching and describing sets of photographs by the mood that they
are likely to evoke, teaching, and as a start for fine-tuning.

**What they are not for.** Decisions about people, diagnosis, and the emotion that a *person in the
image* feels: they learned what viewers felt. On new themes half of the fine labels of the OASIS
models are wrong, and a quarter of positive against negative: take a score as weak evidence, an
average over many images as better evidence. Nudity was not among their training images, nor
were drawings, paintings, screenshots, text and memes.

**What is set off.** The path with the highest product of probabilities over the levels. At a level
by itself another class may be a little more probable.

**What the maps show.** The class activation map of a class says how much each place adds to that
class's score. The attention M of L-CAM says where the network amplifies its features. Light is
much, dark is little. The network sees the square in the middle; there is no map outside of it.
Flat models have no attention, and maps of their finest level alone.

**The examples.** The cat is by Stefan van der Walt (CC0), the rocket by SpaceX (public domain);
both come from the sample data of scikit-image.
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
        '<th scope="col">learned from</th><th scope="col">classes</th>'
        f'<th scope="col">status</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
