"""Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).

The temperature divides weights and biases of the classifiers, so that nothing has to be stored or
applied in addition. The most probable class of a softmax does not change, but that of sums over
leaves (coarser levels) and of MDAN's mixture P_O may. An L-CAM that depends on the scale of the
weights ("plain", "detached" and "bounded") changes, too, and so does the sentiment map of WSCNet.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.evaluation.metrics import LEVEL_MEASURES, Outcomes
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.load import ImageOptions, load_image
from mdan_zoo.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

_TEMPERATURES = torch.logspace(math.log10(0.4), math.log10(2.5), 47).tolist()  # in steps of 4 %
_ONE = len(_TEMPERATURES) // 2
_BATCH = 16
_LOGGER = logging.getLogger("mdan_zoo.training")


@dataclass(frozen=True)
class Calibration:
    """A temperature, and its effect on the images that it was fitted on.

    Attributes:
        temperature: Divisor of the logits.
        images: Number of images.
        negative_log_likelihood: Mean of the images at the finest level, before and after, in nats.
        calibration_error: Expected calibration error at that level, before and after, 15 bins.
    """

    temperature: float
    images: int
    negative_log_likelihood: tuple[float, float]
    calibration_error: tuple[float, float]


@torch.no_grad()
def scale_classifiers(network: EmotionModel, temperature: float) -> None:
    """Divide the logits of all classifiers by a temperature."""
    for parameter in _classifier_parameters(network):
        parameter.div_(temperature)


@torch.no_grad()
def fit_temperature(
    network: EmotionModel, samples: Sequence[Sample], spec: InputSpec
) -> Calibration | None:
    """Return the temperature, from 0.4 to 2.5, with the lowest negative log likelihood of leaves.

    A warning is logged if it is an end of this range, since a better one may be outside.

    Args:
        network: The network in evaluation mode, which stays as it is.
        samples: Images that it was not trained on. Those without a leaf are ignored.
        spec: How they are preprocessed.

    Returns:
        None if no image has a leaf.
    """
    labelled = [s for s in samples if len(s.labels) == network.hierarchy.depth]
    if not labelled:
        return None
    preprocessing, options = Preprocessing(spec), ImageOptions(shrink_to=spec.resize)
    parameters = _classifier_parameters(network)
    trained = [parameter.clone() for parameter in parameters]
    found: list[list[Tensor]] = [[] for _ in _TEMPERATURES]
    for start in range(0, len(labelled), _BATCH):
        images = [load_image(s.image, options) for s in labelled[start : start + _BATCH]]
        pixels = torch.stack([preprocessing.crop(image) for image in images])
        pyramid = list(network.backbone(preprocessing.normalise(pixels.to(parameters[0].device))))
        for temperature, batches in zip(_TEMPERATURES, found, strict=True):
            for parameter, value in zip(parameters, trained, strict=True):
                parameter.copy_(value / temperature)
            batches.append(network.predict_pyramid(pyramid).log_probs["overall"][-1].cpu())
    for parameter, value in zip(parameters, trained, strict=True):
        parameter.copy_(value)
    labels = np.array([s.labels[-1] for s in labelled])
    outcomes = [Outcomes.of(torch.cat(batches).exp().numpy(), labels) for batches in found]
    likelihoods, errors = (
        [float(LEVEL_MEASURES[measure](o, np.ones((1, len(labels))))[0]) for o in outcomes]
        for measure in ("negative_log_likelihood", "calibration_error")
    )
    best = int(np.argmin(likelihoods))
    if best in (0, len(_TEMPERATURES) - 1):
        _LOGGER.warning(
            f"the fitted temperature {_TEMPERATURES[best]:.1f} is an end of the range that was "
            f"searched, 0.4 to 2.5: the network may be far from calibrated on the {len(labelled)} "
            "images of val, or these are too few"
        )
    return Calibration(
        _TEMPERATURES[best],
        len(labelled),
        (likelihoods[_ONE], likelihoods[best]),
        (errors[_ONE], errors[best]),
    )


def _classifier_parameters(network: EmotionModel) -> list[Tensor]:
    """Return the weights and biases of all classifiers."""
    names = network.classifiers()
    named = network.named_parameters()
    return [value for name, value in named if name.rpartition(".")[0] in names]
