"""LoRA (arXiv 2106.09685): a frozen matrix W and a small trained one beside it, B A.

    y = x W' + (alpha / r) (x A') B'          W [out, in], A [r, in], B [out, r]

B starts at zero, so the first student is the base. With the adapter off it is the base again, bit
for bit: a fixed teacher needs no second copy of the weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from model import GPT


class LoRALinear(nn.Module):
    """A linear layer that is frozen, and its adapter in float32."""

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        self.frozen, self.scale, self.is_on = frozen, alpha / rank, True
        n_out, n_in = frozen.weight.shape
        bound = n_in**-0.5
        a = torch.rand(rank, n_in, generator=generator) * 2 * bound - bound
        self.A = nn.Parameter(a.to(frozen.weight.device))
        self.B = nn.Parameter(torch.zeros(n_out, rank, device=frozen.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        y = self.frozen(x)
        if not self.is_on:
            return y
        return y + (x.to(self.A.dtype) @ self.A.T @ self.B.T * self.scale).to(y.dtype)


def add_lora(model: GPT, rank: int, alpha: float, seed: int) -> GPT:
    """Freeze the model and put an adapter beside each matrix of its blocks."""
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for block in model.blocks:
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(block, name, LoRALinear(layer, rank, alpha, generator))
    return model


def adapters(model: nn.Module) -> list[LoRALinear]:
    return [layer for layer in model.modules() if isinstance(layer, LoRALinear)]


@torch.no_grad()
def merge_lora(model: GPT) -> GPT:
    """Add the adapters to their matrices, and leave plain linear layers."""
    for block in model.blocks:
        for name, layer in list(block.named_children()):
            if isinstance(layer, LoRALinear):
                change = layer.B @ layer.A * layer.scale
                layer.frozen.weight.add_(change.to(layer.frozen.weight.dtype))
                setattr(block, name, layer.frozen)
    return model


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    layers = adapters(model)
    for layer in layers:
        layer.is_on = False
    try:
        yield
    finally:
        for layer in layers:
            layer.is_on = True


class WithoutAdapter:
    """The base behind a student with LoRA, as a model of its own: the fixed teacher."""

    def __init__(self, student: GPT):
        self.student, self.config = student, student.config

    @property
    def head_weight(self) -> Tensor:
        return self.student.head_weight

    def __call__(self, *arguments, **options) -> Tensor:
        with adapter_off(self.student):
            return self.student(*arguments, **options)
