"""--compile yes: one piece of code for batches of all sizes, and the weights of the eager blocks."""

import copy
from functools import partialmethod

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from base import base_optimizers, compile_blocks
from model import Block
from step import sft_loss, update
from tiny import random_rollouts, same, tiny_model
from trainer.settings import Settings


def test_compiled_blocks_learn_the_same(monkeypatch):
    """Six batches of other sizes: two pieces of code, as the last block selects positions."""
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled_by = partialmethod(torch.nn.Module.compile, backend=counter, fullgraph=True)
    monkeypatch.setattr(Block, "compile", compiled_by)
    eager, settings = tiny_model(), Settings(base_lr=0.01)
    compiled = copy.deepcopy(eager)
    compile_blocks(compiled)
    for model in (eager, compiled):
        optimizers = base_optimizers(model, settings)
        for seed in range(6):
            update(sft_loss, model, None, random_rollouts(2 + seed, seed), optimizers, settings)
    assert counter.frame_count == 2
    assert same(eager.state_dict(), compiled.state_dict())


def test_a_machine_without_a_compiler(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("shutil.which", {"clang++": "/clang++"}.get)  # PyTorch would not take it
    with pytest.raises(
        ValueError, match=r"^--compile yes: expected a C\+\+ compiler \(\$CXX\), found no 'g\+\+'"
    ):
        compile_blocks(tiny_model())
