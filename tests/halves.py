"""One of two processes that hold half of a model: run by tests/test_sharding.py."""

import sys
from pathlib import Path

import torch

from pretrained.memory import FirstStep
from step import distillation, update
from tiny import random_rollouts, tiny_model
from trainer.checkpoints import load, trained_weights
from trainer.loop import State, checkpoint
from trainer.processes import join_processes, rank_and_size
from trainer.settings import Settings
from trainer.sharding import gathered, share_out

settings = Settings(device="cpu", shard="yes")
join_processes(settings)
rank = rank_and_size()[0]
model, reference = tiny_model(), tiny_model()
share_out(settings, model)
numbers = sum(p.numel() for p in reference.parameters())
assert sum(p.numel() for p in model.parameters()) == numbers
own = sum(p.to_local().numel() for p in model.parameters())
assert own == numbers / 2, (own, numbers)  # all first dimensions of the tiny model are even
ids = torch.arange(8)[None]
with gathered(model), torch.no_grad():
    if rank == 0:  # one process may read it alone
        assert torch.equal(model(ids), reference(ids))
        assert torch.equal(model.head_weight, reference.head_weight)
assert sum(p.to_local().numel() for p in model.parameters()) == own

# A checkpoint is that of the whole, and one number that is not finite stops it in both processes.
optimizer, path = torch.optim.AdamW(model.parameters(), lr=0.01), Path(sys.argv[1], "half.pt")
first = FirstStep(model)
update(distillation, model, model, random_rollouts(), [optimizer], settings)
said = first.changes("half", 0.01)
assert f"of {numbers:,} trained numbers" in said and "changed tensors of 0" not in said
checkpoint(path, State(model, [optimizer], step=1), 2, {}, {})
if rank == 0:
    content = load(path)
    assert content["model"].keys() == trained_weights(reference).keys()
    shapes = {name: p.shape for name, p in reference.named_parameters()}
    assert {name: tensor.shape for name, tensor in content["model"].items()} == shapes
    moments = content["optimizers"][0]["state"]
    assert [moments[i]["exp_avg"].shape for i in range(len(shapes))] == list(shapes.values())
    before = path.read_bytes()
if rank == 1:
    with torch.no_grad():
        model.blocks[0].q.weight.to_local()[-1, -1] = torch.nan
try:
    checkpoint(path, State(model, [optimizer], step=2), 2, {}, {})
except ValueError as error:
    assert "weights are not finite" in str(error)
else:
    raise AssertionError("a checkpoint with a number that is not finite")
if rank == 0:
    assert path.read_bytes() == before
