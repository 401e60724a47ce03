"""The training loop: a network on cached maps, the average of its weights, a state to resume."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from mdan_zoo.checkpoint import write_atomically
from mdan_zoo.errors import CheckpointError, InputError, TrainingError
from mdan_zoo.models.backbone import last_stage
from mdan_zoo.models.output import EmotionOutput
from mdan_zoo.training.features import PyramidCache
from mdan_zoo.training.objective import level_targets, loss
from mdan_zoo.training.recipe import Recipe

if TYPE_CHECKING:
    from mdan_zoo.models import EmotionNetwork

STATE_FILE = "training_state.pt"
LOG_FILE = "log.csv"


@dataclass(frozen=True)
class TrainingSet:
    """What a network learns from.

    Attributes:
        cache: Maps of every picture of the data set.
        leaves: Distribution over the leaves of every picture, (N, K_n).
        indices: Which of the pictures are trained on.
    """

    cache: PyramidCache
    leaves: Tensor
    indices: Sequence[int]

    def __post_init__(self) -> None:
        if not len(self.indices):
            raise InputError("a training needs at least one picture")


class Trainer:
    """Trains the network that it is given, in place.

    Args:
        network: A network of this zoo, with its backbone's weights loaded.
        data: What to learn from.
        recipe: How.
        folder: Gets a state after every epoch, from which a later `Trainer` goes on, and a log.
            None keeps nothing.
    """

    def __init__(
        self,
        network: EmotionNetwork,
        data: TrainingSet,
        recipe: Recipe,
        folder: Path | None = None,
    ) -> None:
        self.network = network
        self.data = data
        self.recipe = recipe
        self.folder = folder
        self.last_stage = last_stage(network.backbone) if recipe.last_stage_rate else None
        self.optimizer = self._prepare()
        self.average = copy.deepcopy(network).eval()
        self.losses: list[float] = []
        self.steps_per_epoch = math.ceil(len(data.indices) / recipe.batch_size)

    def _prepare(self) -> torch.optim.Optimizer:
        """Freeze what the recipe does not train; start the classifiers at the base rates."""
        self.network.backbone.requires_grad_(False)
        new = [p for p in self.network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": new, "rate": self.recipe.learning_rate}]
        if self.last_stage is not None:
            self.last_stage.requires_grad_(True)
            groups.append(
                {"params": list(self.last_stage.parameters()), "rate": self.recipe.last_stage_rate}
            )
        base_rates = self.data.leaves[list(self.data.indices)].mean(dim=0)
        with torch.no_grad():
            self.network.global_classifier.weight.zero_()
            self.network.global_classifier.bias.copy_(base_rates.log())
        return torch.optim.AdamW(groups, weight_decay=self.recipe.weight_decay)

    def run(self) -> EmotionNetwork:
        """Train to the recipe's end, from the folder's state if there is one.

        Returns:
            The average of the network's weights over the training, in evaluation mode.

        Raises:
            TrainingError: The loss is no longer finite.
            CheckpointError: The folder's state belongs to another recipe or data set.
        """
        self._resume()
        epochs = range(len(self.losses), self.recipe.epochs)
        for epoch in tqdm(epochs, desc="epochs", disable=None):
            self.losses.append(self._train_epoch(epoch))
            self._save()
        return self.average

    def _train_epoch(self, epoch: int) -> float:
        torch.manual_seed(self.recipe.seed * 100_003 + epoch)  # so that resuming goes on exactly
        self.network.train()
        self.network.backbone.eval()  # BatchNorm keeps its statistics: the batches are small
        order = torch.tensor(self.data.indices)[torch.randperm(len(self.data.indices))]
        losses = []
        for number, pictures in enumerate(torch.split(order, self.recipe.batch_size)):
            self._set_rates(epoch * self.steps_per_epoch + number)
            views = torch.randint(self.data.cache.views, (len(pictures),))
            output = self.forward(self.network, self.data.cache.batch(views, pictures))
            targets = level_targets(self.data.leaves[pictures], self.network.hierarchy)
            batch_loss = loss(output, targets, self.recipe)
            if not batch_loss.isfinite():
                raise TrainingError(
                    f"the loss became {batch_loss.item()} in epoch {epoch + 1}; the state of the "
                    "epoch before is kept. A lower learning rate may help"
                )
            self.optimizer.zero_grad()
            torch.autograd.backward(batch_loss)
            self.optimizer.step()
            self._update_average(epoch * self.steps_per_epoch + number)
            losses.append(batch_loss.item())
        return sum(losses) / len(losses)

    def forward(self, network: EmotionNetwork, pyramid: list[Tensor]) -> EmotionOutput:
        """Classify maps from the cache, computing C5 anew where the last stage is trained."""
        if self.last_stage is not None:
            pyramid[3] = last_stage(network.backbone)(pyramid[2])
        return network.classify(pyramid)

    def _set_rates(self, step: int) -> None:
        total = self.recipe.epochs * self.steps_per_epoch
        warmup = min(1.0, (step + 1) / (self.recipe.warmup_steps + 1))
        factor = warmup * 0.5 * (1 + math.cos(math.pi * step / total))
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))  # forget the start quickly
        current = self.network.state_dict()
        for name, kept in self.average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(current[name], 1 - decay)
            else:
                kept.copy_(current[name])

    @torch.inference_mode()
    def predict(self, indices: Sequence[int]) -> list[EmotionOutput]:
        """Classify the plain view of pictures of the cache with the averaged network."""
        batches = torch.split(torch.tensor(indices, dtype=torch.long), 64)
        return [
            self.forward(self.average, self.data.cache.batch(torch.zeros_like(batch), batch))
            for batch in batches
        ]

    def _identity(self) -> dict[str, Any]:
        """Return what a state must agree with to be resumed."""
        return {
            "recipe": dataclasses.asdict(self.recipe),
            "indices": list(self.data.indices),
            "data": _fingerprint([self.data.leaves, self.data.cache.maps[3]]),
        }

    def _save(self) -> None:
        if self.folder is None:
            return
        state = {
            **self._identity(),
            "losses": self.losses,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(self.folder / STATE_FILE, content.getvalue())
        lines = [f"{epoch},{value:.6f}" for epoch, value in enumerate(self.losses, start=1)]
        text = "\n".join(["epoch,loss", *lines, ""])
        write_atomically(self.folder / LOG_FILE, text.encode())

    def _resume(self) -> None:
        path = None if self.folder is None else self.folder / STATE_FILE
        if path is None or not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)  # tensors and plain values only
            for name, expected in self._identity().items():
                if state[name] != expected:
                    raise CheckpointError(
                        f"cannot resume from {path}: it was made with another {name}; give another "
                        "output folder, or remove the file to start anew"
                    )
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.losses = list(state["losses"])
        except (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"cannot resume from {path}, it is damaged: {error}") from error
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"cannot resume from {path}, it is damaged: {error}") from error


def _fingerprint(tensors: Sequence[Tensor]) -> str:
    """Return the SHA-256 of the tensors' bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
