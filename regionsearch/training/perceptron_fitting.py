"""Fits the small perceptrons of `regionsearch.models.compact.perceptron` with torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from regionsearch.models.compact.perceptron import Perceptron

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PerceptronRecipe:
    """How one perceptron is fitted: AdamW, one cycle of the learning rate, logistic loss on soft targets.

    hidden: sizes of the hidden layers; none: a linear model. dropout: share of hidden units left out.
    """

    hidden: tuple[int, ...]
    epochs: int
    learning_rate: float
    weight_decay: float
    dropout: float
    batch: int


def fit_perceptron(
    features: Array, targets: Array, weights: Array, recipe: PerceptronRecipe, seed: int
) -> Perceptron:
    """features: (n, f). targets: (n,) 0 to 1. weights: (n,) of the rows, their mean is taken for 1.

    The same rows and seed give the same perceptron on the same machine.
    """
    mean = features.mean(axis=0)
    scale = features.std(axis=0) + np.float32(1e-6)
    clip = 5.0
    inputs = torch.from_numpy(np.clip((features - mean) / scale, -clip, clip).astype(np.float32))
    wanted = torch.from_numpy(np.asarray(targets, dtype=np.float32))
    importance = torch.from_numpy(np.asarray(weights / weights.mean(), dtype=np.float32))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, layers = _network(features.shape[1], recipe)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        # A cycle of fewer steps than this has no warm-up, which the schedule cannot divide by.
        steps = max(20, recipe.epochs * -(-len(inputs) // recipe.batch))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.learning_rate, total_steps=steps, pct_start=0.1
        )
        loss_of = torch.nn.BCEWithLogitsLoss(reduction="none")
        for _ in range(recipe.epochs):
            for rows in torch.randperm(len(inputs)).split(recipe.batch):
                loss = (loss_of(network(inputs[rows])[:, 0], wanted[rows]) * importance[rows]).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()

    return Perceptron(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        weights=tuple(np.ascontiguousarray(layer.weight.detach().numpy().T) for layer in layers),
        biases=tuple(layer.bias.detach().numpy().copy() for layer in layers),
        clip=clip,
    )


def _network(inputs: int, recipe: PerceptronRecipe) -> tuple[torch.nn.Module, Sequence[torch.nn.Linear]]:
    layers: list[torch.nn.Linear] = []
    modules: list[torch.nn.Module] = []
    sizes = (inputs, *recipe.hidden)
    for size, following in pairwise(sizes):
        layers.append(torch.nn.Linear(size, following))
        modules += [layers[-1], torch.nn.ReLU(), torch.nn.Dropout(recipe.dropout)]
    layers.append(torch.nn.Linear(sizes[-1], 1))
    return torch.nn.Sequential(*modules, layers[-1]), layers
