"""Views: test-time augmentation, by averaging the predictions of several views of an image.

single: the whole image, preprocessed as the weights specify. Predictions are not averaged.
flip: the whole image and its mirror image.
crops: the whole image and a 3 x 3 grid of crops, each of half its width and half its height, which
    overlap by half. p = 0.5 p(whole) + 0.5 mean of p(crop) over the five crops whose most likely
    class of the finest level has the highest probability ("overall" branch).
flip+crops: the same, where the prediction of every region is the mean of it and its mirror image.

Crops chosen by confidence stand in for methods that predict regions found by an object detector,
such as Yang et al., Visual Sentiment Prediction Based on Automatic Discovery of Affective Regions,
IEEE Transactions on Multimedia, 2018; the grid and the number of crops are our choice.

Averages are those of probabilities, with the same weights for every level, branch, dimension and
the features, so probabilities still add up along the hierarchy where those of the network do. Each
view costs one pass of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image, ImageOps
from torch import Tensor

from mdan_zoo.inference.prediction import Views
from mdan_zoo.models.base import EmotionOutput

_GRID = 3
_CONFIDENT = 5


def split_views(image: Image.Image, views: Views) -> Iterator[Image.Image]:
    """Yield the views of an image; a mirror image follows the region that it mirrors."""
    for region in _regions(image) if "crops" in views else (image,):
        yield region
        if "flip" in views:
            yield ImageOps.mirror(region)


def average_views(outputs: Sequence[EmotionOutput], views: Views) -> EmotionOutput:
    """Average the outputs of a batch for each of the views, in the order of `split_views`.

    A single output is returned unchanged; an average has neither logits nor maps.
    """
    if len(outputs) == 1:
        return outputs[0]
    weights = _weights(outputs, 2 if "flip" in views else 1)
    log_weights = weights.log()[..., None]

    def mean(values: list[Tensor]) -> Tensor:
        stacked = torch.stack(values).to(weights.dtype)
        return torch.einsum("vn,vn...->n...", weights, stacked)

    return EmotionOutput(
        log_probs={
            branch: tuple(
                (torch.stack(levels) + log_weights).logsumexp(dim=0)
                for levels in zip(*(output.log_probs[branch] for output in outputs), strict=True)
            )
            for branch in outputs[0].log_probs
        },
        features=mean([output.features for output in outputs]),
        dimensions={
            name: mean([output.dimensions[name] for output in outputs])
            for name in outputs[0].dimensions
        },
    )


def _regions(image: Image.Image) -> Iterator[Image.Image]:
    """Yield the whole image and the crops of the grid, row by row."""
    yield image
    width, height = ((side + 1) // 2 for side in image.size)
    for row in range(_GRID):
        top = (image.height - height) * row // (_GRID - 1)
        for column in range(_GRID):
            left = (image.width - width) * column // (_GRID - 1)
            yield image.crop((left, top, left + width, top + height))


def _weights(outputs: Sequence[EmotionOutput], copies: int) -> Tensor:
    """Return the weight of every view, (V, N), where each region has this number of views."""
    finest = torch.stack([output.log_probs["overall"][-1].exp() for output in outputs])
    confidence = finest.reshape(-1, copies, *finest.shape[1:]).mean(dim=1).amax(dim=2)  # (R, N)
    weights = torch.zeros_like(confidence)
    if len(weights) == 1:
        weights[0] = 1
    else:
        weights[0] = 0.5
        ranked = confidence[1:].argsort(dim=0, descending=True, stable=True)
        weights[1:].scatter_(0, ranked[:_CONFIDENT], 0.5 / _CONFIDENT)
    return weights.repeat_interleave(copies, dim=0) / copies
