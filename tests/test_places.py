"""How many rows are answered at one time: as many as the memory for keys and values has room for."""

import pytest
import torch

from model import KVCache
from pretrained import memory
from pretrained.memory import cache_bytes, places_for
from tiny import tiny_model


def test_bytes_are_those_of_a_cache():
    model = tiny_model()
    cache = KVCache(model.config, 3, 20, model.head_weight)
    tensors = [t for t in vars(cache).values() if isinstance(t, torch.Tensor) and t.dim() > 2]
    tensors += [t for v in vars(cache).values() if isinstance(v, list) for t in v]
    assert cache_bytes(model, 3, 20) == sum(t.numel() * t.itemsize for t in tensors)


@pytest.mark.parametrize("rows, expected", [(0.5, 1), (1, 1), (7.9, 7), (500, 128)])
def test_places_fill_the_room(monkeypatch, rows, expected):
    model = tiny_model()
    monkeypatch.setattr(memory, "CACHE", int(rows * cache_bytes(model, 1, 40)))
    assert places_for(model, 40) == expected
