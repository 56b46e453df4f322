"""Stage 0: its optimizer against an SVD and against PyTorch's own, its batches."""

import random
from dataclasses import replace

import pytest
import torch

from base import Muon, base_batches, bucketed, orthogonal
from trainer.settings import Settings, seed_for


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 12, 5), (1, 5, 12)])
def test_orthogonal_changes_the_singular_values_alone(shape):
    """Each by the same scalar polynomial, three times: an SVD and plain numbers in float64."""
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))
    u, values, v = torch.linalg.svd(x, full_matrices=False)
    values = values / values.square().sum(-1, keepdim=True).sqrt()
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    wanted = (u @ torch.diag_embed(values) @ v).float()
    torch.testing.assert_close(orthogonal(x.float()), wanted, rtol=1e-4, atol=1e-4)
    values = torch.tensor([1.0, 0.5, 0.2, 0.1, 0.02])[: min(shape[1:])]
    made = orthogonal((u[..., :5] * values @ v[:, :5].double()).float())
    near = torch.linalg.svdvals(made)[:, : len(values)]
    assert 0.5 < near.min() and near.max() < 1.21


def test_muon_is_momentum_made_orthogonal():
    """Against its formula, one matrix at a time, and against PyTorch's own, which rounds to bfloat16.

    Its state is saved and loaded after each step.
    """
    rng = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=rng)

    start = [draw(6, 4), draw(6, 4), draw(4, 6), draw(5, 5)]
    ours, theirs, want = [[torch.nn.Parameter(p.clone()) for p in start] for _ in range(3)]
    optimizer, averages = Muon(ours, lr=0.02), [torch.zeros_like(p) for p in start]
    peer = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.0, ns_steps=3)
    for _ in range(4):
        for i, p in enumerate(start):
            gradient = draw(*p.shape)
            ours[i].grad, theirs[i].grad = gradient.clone(), gradient.clone()
            averages[i] = 0.95 * averages[i] + 0.05 * gradient
            direction = orthogonal((0.05 * gradient + 0.95 * averages[i])[None])[0]
            want[i].data -= 0.02 * max(1, p.shape[0] / p.shape[1]) ** 0.5 * direction
        optimizer.step()
        peer.step()
        state = optimizer.state_dict()
        optimizer = Muon(ours, lr=0.5)
        optimizer.load_state_dict(state)
    for a, b, c, p in zip(ours, want, theirs, start):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert (a - c).norm() < 0.02 * (c - p).norm()
    ours[0].grad = None  # a matrix without a gradient stays
    before = ours[0].detach().clone()
    optimizer.step()
    assert torch.equal(ours[0], before)


def test_bucketed_has_every_row_once():
    rows = [[0] * random.Random(i).randint(2, 90) for i in range(500)]
    batches = bucketed(rows, 400, seed=1)
    assert sorted(i for b in batches for i in b) == list(range(500))
    assert all(len(b) * max(len(rows[i]) for i in b) <= 400 for b in batches if len(b) > 1)
    assert batches == bucketed(rows, 400, seed=1) != bucketed(rows, 400, seed=2)


def test_stage_0_reads_the_shorter_half_first_and_then_all():
    """12 rows of 2 to 13 tokens, one in a batch: 4 of 20 steps read rows of at most 8."""
    rows = [[0] * n for n in random.Random(0).sample(range(2, 14), 12)]
    settings = Settings(base_steps=20, base_tokens=1, short_first=0.2)
    steps = base_batches(rows, settings)
    lengths = [len(rows[i]) for (i,) in steps]
    assert len(set(lengths[:4])) == 4 and max(lengths[:4]) <= 8
    assert sorted(lengths[4:16]) == list(range(2, 14))
    assert len(set(lengths[16:])) == 4
    assert steps == base_batches(rows, settings) != base_batches(rows, replace(settings, seed=1))


def test_without_a_first_part_the_epochs_are_whole():
    rows = [[0] * random.Random(i).randint(2, 90) for i in range(60)]
    settings = Settings(base_steps=30, base_tokens=400, short_first=0.0)
    epochs = []
    while len(epochs) < 30:
        epochs += bucketed(rows, 400, seed_for(settings, "epoch", len(epochs)))
    assert base_batches(rows, settings) == epochs[:30]
    everything = replace(settings, base_tokens=10**6, short_first=1.0)  # an epoch is one batch
    assert [len(batch) for batch in base_batches(rows, everything)] == [60] * 30
