"""What the checks share: comparing with an explanation, inputs, two small models."""

import math
from contextlib import contextmanager

import torch

import model


class Wrong(Exception):
    """What the learner should read."""


class Endless(Wrong):
    """No result in time."""


@contextmanager
def given(case: str):
    """Around a call of the learner's function: an exception in it is shown with its input."""
    try:
        yield
    except Exception as error:
        if type(error) not in (Wrong, NotImplementedError) and not hasattr(error, "__notes__"):
            error.add_note(f"input     {case}")
        raise


def show(x, digits=4) -> str:
    """A value in a line: numbers with four digits, a large tensor as its shape and first
    numbers."""
    if isinstance(x, torch.Tensor) and x.numel() > 16:
        return f"a tensor {list(x.shape)} that starts with {show(x.detach().flatten()[:6], digits)}"
    if isinstance(x, torch.Tensor):
        x = x.detach().tolist()
    if isinstance(x, float):
        return f"{x:.{digits}g}"
    if isinstance(x, (list, tuple)):
        return ("[%s]" if isinstance(x, list) else "(%s)") % ", ".join(show(y, digits) for y in x)
    return repr(x) if len(repr(x)) < 300 else repr(x)[:300] + " ..."


def same(a, b, tolerance=1e-8) -> bool:
    """Equal up to rounding; a difference in type or shape is a difference."""
    if isinstance(b, torch.Tensor):
        return (
            isinstance(a, torch.Tensor)
            and a.shape == b.shape
            and torch.allclose(
                a.detach().double(), b.detach().double(), rtol=tolerance, atol=tolerance
            )
        )
    if isinstance(b, (list, tuple)):
        return (
            type(a) is type(b)
            and len(a) == len(b)
            and all(same(x, y, tolerance) for x, y in zip(a, b))
        )
    if isinstance(b, float):
        return isinstance(a, (int, float)) and math.isclose(
            a, b, rel_tol=tolerance, abs_tol=tolerance
        )
    return type(a) is type(b) and a == b


def wrong(case: str, expected, got, why="") -> Wrong:
    lines = [
        f"input     {case}",
        f"expected  {expected}",
        f"came      {got}",
        *([why] if why else []),
    ]
    return Wrong("\n".join(lines))


def compare(case: str, got, expected, mistakes=(), tolerance=1e-8) -> None:
    """Raises Wrong unless got is expected. `mistakes`: (what a known mistake gives, what to say
    about it)."""
    if same(got, expected, tolerance):
        return
    why = next((text for value, text in mistakes if same(got, value, tolerance)), "")
    if not why and got is None:
        why = "None: is a return missing?"
    elif not why and isinstance(expected, torch.Tensor):
        if not isinstance(got, torch.Tensor):
            why = "A tensor was expected."
        elif got.shape != expected.shape:
            why = f"The shape should be {list(expected.shape)}, it is {list(got.shape)}" + (
                ": an axis too many."
                if got.ndim > expected.ndim
                else ": which axis was summed over?"
                if got.ndim < expected.ndim
                else "."
            )
        elif got.isnan().any() and not expected.isnan().any():
            why = "nan: look for 0 * inf, inf - inf or 0 / 0."
        elif same(got, expected, 1e-4):
            why = "Almost: was something rounded to float32? Keep the dtype of the inputs."
    digits, far = 4 if show(expected) != show(got) else 12, ["", ""]
    if isinstance(expected, torch.Tensor) and expected.numel() > 16:
        digits = 4
        if isinstance(got, torch.Tensor) and got.shape == expected.shape:
            at = (got.detach().double() - expected.double()).abs().flatten().argmax().item()
            index = [int(i) for i in torch.unravel_index(torch.tensor(at), expected.shape)]
            far = [
                f"; at {index}, where they differ most, {show(x.flatten()[at].item())}"
                for x in (expected, got)
            ]
    raise wrong(case, show(expected, digits) + far[0], show(got, digits) + far[1], why)


def normal(seed: int, *shape, scale=2.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def logs(*rows):
    """Logits whose softmax is the given probabilities: [N, V]."""
    return torch.tensor(rows, dtype=torch.float64).log()


def small_model(seed=0, vocab=30, max_seq_len=16):
    """Far from uniform, in float64, the global random state untouched."""
    shape = model.GPTConfig(
        vocab, max_seq_len, n_layer=1, n_head=4, n_kv_head=2, head_dim=4, n_embd=12, mlp_width=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        gpt = model.GPT(shape).double()
    with torch.no_grad():
        for p in gpt.parameters():
            p.mul_(8 if p.dim() == 2 else 1)
    return gpt


class Echo:
    """A model whose state is (the token it reads, its position), so one can see what was read."""

    head_weight = torch.zeros(100, 2, dtype=torch.float64)
    fed = 0

    def __call__(self, ids, positions=None):
        self.fed = ids.shape[1]
        states = torch.stack(
            [ids, torch.arange(ids.shape[1]).expand_as(ids)], -1
        ).double()  # [B, T, 2]
        return states if positions is None else states.flatten(0, 1)[positions]
