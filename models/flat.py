"""A torch module as a function of one flat vector of weights: the form in which weights travel and are averaged."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def get_weights(module: nn.Module) -> NDArray[np.float32]:
    """All parameters as one float32 array of shape (P,)."""
    flat = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    return flat.to(torch.float32).numpy().copy()


def bind(module: nn.Module, weights: NDArray[np.floating]) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the module parameters that are views of one flat vector, and gradients that are views of another.

    Changing the flat vector in place changes the module; ``loss.backward()`` adds to the flat gradient.

    Returns
    -------
    weights, gradient
        Tensors of shape (P,); the first holds a copy of `weights`, the second zeros.
    """
    dtype = next(module.parameters()).dtype
    flat = torch.tensor(weights, dtype=dtype)
    gradient = torch.zeros_like(flat)
    parameters = list(module.parameters())
    sizes = [p.numel() for p in parameters]
    if flat.shape != (sum(sizes),):
        raise ValueError(f"the model has {sum(sizes)} weights, the array has shape {weights.shape}")
    for p, value, slope in zip(parameters, torch.split(flat, sizes), torch.split(gradient, sizes), strict=True):
        p.data = value.view(p.shape)
        p.grad = slope.view(p.shape)
    return flat, gradient


def penalty_mask(module: nn.Module) -> torch.Tensor:
    """1 for weights, 0 for biases, shape (P,): what weight decay acts on."""
    return torch.cat([torch.full((p.numel(),), float(p.dim() > 1)) for p in module.parameters()])
