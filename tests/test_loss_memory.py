"""The chunked loss keeps to its memory: no logits of all tokens, a byte budget, top-k alone."""

import itertools
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fused_loss import distillation_loss
from loss import token_divergence
from models import CLIPS, GRID, states


class Largest(TorchDispatchMode):
    """Records the largest tensor and every matrix product."""

    def __init__(self):
        super().__init__()
        self.numel, self.products = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.products += "mm" in str(func) and "bmm" not in str(func)  # bmm: dot products of rows
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                self.numel = max(self.numel, t.numel())
        return out


def test_never_holds_all_logits_and_does_no_gradient_work_under_no_grad():
    x, w, y, u = states(300, v=200, dtype=torch.float32)
    with Largest() as seen:
        distillation_loss(x, w, y, u, chunk_bytes=10 * 200 * 5 * 4).backward()
    assert 10 * 200 <= seen.numel <= 10 * 200 * 5
    with Largest() as with_gradient:
        distillation_loss(x, w, y, u)
    with Largest() as without, torch.no_grad():
        loss = distillation_loss(x, w, y, u)
    assert (with_gradient.products, without.products) == (4, 2) and not loss.requires_grad
    with Largest() as frozen:
        distillation_loss(x, w.detach(), y, u)
    assert frozen.products == 3


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive at once, beside the inputs."""

    def __init__(self, inputs):
        super().__init__()
        self.alive, self.now, self.peak = {t.untyped_storage()._cdata: 0 for t in inputs}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if (
                isinstance(t, torch.Tensor)
                and (pointer := t.untyped_storage()._cdata) not in self.alive
            ):
                self.alive[pointer] = t.untyped_storage().nbytes()
                self.now += self.alive[pointer]
                weakref.finalize(t.untyped_storage(), self.drop, pointer)
        self.peak = max(self.peak, self.now)
        return out

    def drop(self, pointer):
        self.now -= self.alive.pop(pointer, 0)


def peak(inputs, **settings):
    """Bytes beside the inputs at the worst moment of the forward pass, of forward and backward, and
    the gradients."""
    with Alive(inputs) as seen:
        result = distillation_loss(*inputs, **settings)
        forward = seen.peak
        gradients = torch.autograd.grad(
            result[0] if isinstance(result, tuple) else result,
            [t for t in inputs if t.requires_grad],
        )
    return forward, seen.peak, gradients


@pytest.mark.parametrize(
    "frozen, dtype", [(False, torch.float32), (True, torch.float32), (False, torch.bfloat16)]
)
def test_the_chunks_stay_within_their_byte_budget(frozen, dtype):
    """For any number of rows that the budget allows, and not far below it: the buffers are counted
    right."""
    worst = {}
    for beta, top_k, (mode, clip), stats in itertools.product(
        (0.0, 0.5, 1.0), (None, 20), CLIPS, (False, True)
    ):
        x, w, y, u = states(
            250, v=4096, dtype=dtype
        )  # chunks of nearly the size that the budget allows
        inputs = x, w.detach() if frozen else w, y, u
        forward, _, _ = peak(
            inputs,
            beta=beta,
            top_k=top_k,
            clip=clip,
            clip_mode=mode,
            return_stats=stats,
            chunk_bytes=2**21,
        )
        gradients = 4 * (x.numel() + (0 if frozen else w.numel()))
        kind = mode == "pointwise", bool(frozen and top_k and not stats)
        worst[kind] = max(worst.get(kind, 0), (forward - gradients) / 2**21)
    assert all(0.8 < share <= 1 for share in worst.values()), worst


def test_a_large_vocabulary_has_a_larger_budget():
    """By hand: 3 KiB for each of 60,000 entries, of which 4 x 60,000 bytes a row of logits."""
    inputs = states(640, v=60_000, dtype=torch.float32)
    forward, _, _ = peak(inputs)
    gradients = 4 * (inputs[0].numel() + inputs[1].numel())
    assert 0.8 < (forward - gradients) / (3072 * 60_000) <= 1


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("top_k", [None, 4])
def test_a_head_in_half_precision_is_never_held_whole_in_float32(frozen, top_k):
    """Peak: the byte budget, and the float32 gradients; backward stays below it, though it returns
    its own copy."""
    g = torch.Generator().manual_seed(0)
    x, w, y, u = (
        torch.randn(shape, generator=g).bfloat16()
        for shape in ((64, 96), (4096, 96), (64, 96), (4096, 96))
    )
    budget, head = 2**19, 4 * w.numel()
    x.requires_grad_(), w.requires_grad_(not frozen)
    forward, whole, gradients = peak((x, w, y, u), top_k=top_k, chunk_bytes=budget)
    assert forward <= budget + 4 * x.numel() + (0 if frozen else head) and budget < head
    assert whole == forward and all(d.dtype == torch.bfloat16 for d in gradients)


@pytest.mark.parametrize("beta, temperature, top_k, clip", [c for c in GRID if c[2]])
def test_the_short_way_of_top_k_with_a_frozen_head(beta, temperature, top_k, clip):
    """The student's k logits alone: as the plain form, the same bits again, and no product over the
    whole head."""
    settings = dict(
        beta=beta, temperature=temperature, top_k=top_k, clip=clip[1], clip_mode=clip[0]
    )
    x, w, y, u = states(11)
    w = w.detach()
    plain = token_divergence(x @ w.T, y @ u.T, **settings).mean()
    wanted = torch.autograd.grad(plain, x)[0]
    found = []
    for chunk_bytes in (3 * 13 * 8 * 20, 3 * 13 * 8 * 20, 2**27):
        with Largest() as seen:
            got = distillation_loss(x, w, y, u, **settings, chunk_bytes=chunk_bytes)
        torch.testing.assert_close(got, plain, atol=1e-12, rtol=1e-10)
        found += [torch.autograd.grad(got, x)[0]]
        torch.testing.assert_close(found[-1], wanted, atol=1e-12, rtol=1e-9)
    assert torch.equal(found[0], found[1]) and seen.products == 1
    dense, _ = distillation_loss(x, w, y, u, **settings, return_stats=True)
    torch.testing.assert_close(got, dense, atol=1e-12, rtol=1e-10)
