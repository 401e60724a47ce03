"""Model cards of published models: Hugging Face metadata, and text for their users."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mdan_zoo.models.registry import get_architecture
from mdan_zoo.publishing.publication import Publication

_TASK = "image-classification"
_LICENCE_IDS = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "unlicense", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nd-4.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
    *("gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "openrail", "unknown", "other"),
)
"""Licences that the hub knows by these names; it refuses a card with another name."""

_METRIC_IDS = {"accuracy": "accuracy", "r": "pearsonr"}
"""The hub's names of metrics, by the last part of ours, such as polarity_accuracy."""

_TEXT = """
# {model.name}

{introduction}

## Usage

Install the package with `pip install mdan-zoo`.

{usage}

## Classes

```
{weights.hierarchy}
```

## Preprocessing

`Predictor` resizes {resized} to {input.resize} pixels ({input.interpolation}, antialiased),
takes a centre crop of {input.crop} x {input.crop} pixels, scales RGB values to 0..1, and normalises
them with mean {input.mean} and standard deviation {input.std}.

## Results

{results}

{protocol}

## Training

```
{model.command}
```

Names in capital letters stand for your files and folders.

## Intended uses and limitations

Intended for sorting, searching and describing collections of images by the emotions that they are
likely to evoke, and for fine-tuning. Averages over many images are more reliable than the scores of
a single image.

Not intended for decisions about people or for diagnosis. The model does not recognise the emotion
of a person *in* the image: the labels say what viewers felt. Viewers from other places and times
may feel differently, and images unlike the training images are not covered.

## Licences

* Code: {model.licences.code}
* Weights: {model.licences.weights}
* Training data: {model.licences.data}

Check whether these terms permit your use of the weights.

## Checkpoint

`model.safetensors` has {weights.size:,} bytes, {weights.parameters:,} parameters and the SHA-256
`{weights.sha256}`. Its header and `config.json` contain the config and the hierarchy.
"""

_HUB_USAGE = """\
```python
import mdan_zoo
from mdan_zoo.zoo.pretrained import find_pretrained

predictor = mdan_zoo.Predictor(checkpoint=find_pretrained("{repo}"))
print(predictor.predict("photo.jpg"))

network = mdan_zoo.from_pretrained("{repo}")  # the torch.nn.Module, in evaluation mode
```

Pass a commit as `revision=` to always get the same weights."""

_FOLDER_USAGE = """\
Set the address at which this folder is served, or the path at which it is mounted:

```
export MDAN_ZOO_MANIFEST=https://ADDRESS/weights_manifest.json
```

```python
import mdan_zoo

predictor = mdan_zoo.Predictor("{name}")
print(predictor.predict("photo.jpg"))

network = mdan_zoo.create_model("{name}", pretrained=True)  # the torch.nn.Module
```"""


def model_card(publication: Publication, repo: str = "") -> str:
    """Return the README.md of a published model; its examples name `repo`, or a folder if ""."""
    metrics, spec = publication.metrics, publication.weights.config.input
    text = _TEXT.format(
        model=publication,
        weights=publication.weights,
        input=spec,
        resized="the shorter side" if spec.resize_mode == "crop" else "both sides",
        introduction=_introduction(publication),
        usage=(_HUB_USAGE if repo else _FOLDER_USAGE).format(repo=repo, name=publication.name),
        results="Not measured." if metrics is None else _table(metrics["rows"]),
        protocol=(metrics or {}).get("protocol", ""),
    )
    return str(ModelCard(f"---\n{_metadata(publication).to_yaml()}\n---\n{text}"))


def _metadata(publication: Publication) -> ModelCardData:
    metrics = publication.metrics or {}
    dataset = metrics.get("dataset") or publication.dataset
    results = [
        EvalResult(
            task_type=_TASK,
            dataset_type=_slug(dataset),
            dataset_name=dataset,
            metric_type=_METRIC_IDS.get(key.rpartition("_")[2], key),
            metric_name=key.replace("_", " ") + (f" ({row['branch']})" if "branch" in row else ""),
            metric_value=value,
        )
        for row in metrics.get("rows", ())
        if dataset and row.get("model", publication.name) == publication.name
        for key, value in row.items()
        if isinstance(value, (int, float)) and "_sd" not in key
    ]
    licence = publication.licences.weights.lower()
    return ModelCardData(
        model_name=publication.name,
        license=licence if licence in _LICENCE_IDS else "other",
        license_name=None if licence in _LICENCE_IDS else _slug(licence),
        library_name="mdan-zoo",
        pipeline_tag=_TASK,
        base_model=publication.base_model or None,
        datasets=[_slug(publication.dataset)] if publication.dataset else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
        tags=["visual-emotion-analysis", publication.weights.config.architecture, "pytorch"],
    )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "unnamed"


def _introduction(publication: Publication) -> str:
    config, tree = publication.weights.config, publication.weights.hierarchy
    levels = " and ".join(
        f"{size} of level *{name}*" for name, size in zip(tree.level_names, tree.sizes, strict=True)
    )
    network = get_architecture(config.architecture).card_text(config.backbone)
    given = {field.name: getattr(config.options, field.name) for field in fields(config.options)}
    changed = [f"`{n}={v!r}`" for n, v in given.items() if v != getattr(type(config.options), n)]
    if changed:
        network += f", with the options {', '.join(changed)}"
    text = f"This model predicts the emotions that an image evokes: {levels}. It is {network}. "
    if publication.derived_from:
        text += f"It has the config of the registered model `{publication.derived_from}`. "
    if publication.dataset:
        return f"{text}It was trained on {publication.dataset}."
    return f"{text}The dataset that it was trained on is not recorded."


def _table(rows: list[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        [column.replace("_", " ") for column in columns],
        ["---"] * len(columns),
        *([_cell(row.get(column)) for column in columns] for row in rows),
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|")
