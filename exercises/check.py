"""Check the exercises: python -m exercises.check (all), python -m exercises.check 5 (one), ... 5 6 (some).

Each check has a case worked by hand (the one of the exercise's text), a property, and random inputs on which the
shipped function gives the expected value, in float64. A wrong value is compared with what typical mistakes give, and
the mistake is named. Exit code 0: all that were checked passed; 1: some did not; 2: a bad argument.

This file holds no answer but what it needs to name mistakes: the shipped source is the answer.
"""
import math
import random
import signal
import sys
import traceback
import types
import weakref
from collections import Counter
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import data.tokenizer
import fused_loss
import loss
import model
import rcsd
import report.explain
import rubrics
import step

HERE = Path(__file__).resolve().parent
SECONDS = 20  # for one exercise: an endless loop is a mistake like any other


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


# ------------------------------------------------------------------------------------------------------- comparing
def show(x, digits=4) -> str:
    """A value in a line: numbers with four digits, a large tensor as its shape and first numbers."""
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
        return (isinstance(a, torch.Tensor) and a.shape == b.shape
                and torch.allclose(a.detach().double(), b.detach().double(), rtol=tolerance, atol=tolerance))
    if isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b))
    if isinstance(b, float):
        return isinstance(a, (int, float)) and math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    return type(a) is type(b) and a == b


def wrong(case: str, expected, got, why="") -> Wrong:
    lines = [f"input     {case}", f"expected  {expected}", f"came      {got}", *([why] if why else [])]
    return Wrong("\n".join(lines))


def compare(case: str, got, expected, mistakes=(), tolerance=1e-8) -> None:
    """Raises Wrong unless got is expected. `mistakes`: (what a known mistake gives, what to say about it)."""
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
                ": an axis too many." if got.ndim > expected.ndim else
                ": which axis was summed over?" if got.ndim < expected.ndim else ".")
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
            far = [f"; at {index}, where they differ most, {show(x.flatten()[at].item())}" for x in (expected, got)]
    raise wrong(case, show(expected, digits) + far[0], show(got, digits) + far[1], why)


def normal(seed: int, *shape, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logs(*rows):
    """Logits whose softmax is the given probabilities: [N, V]."""
    return torch.tensor(rows, dtype=torch.float64).log()


class Count(TorchDispatchMode):
    """Counts the numbers that are alive in tensors made while it is on: `peak`, and the largest tensor."""
    def __init__(self):
        super().__init__()
        self.seen, self.now, self.peak, self.largest = {}, 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                self.largest = max(self.largest, t.numel())
                storage = t.untyped_storage()
                if storage._cdata not in self.seen:
                    self.seen[storage._cdata] = storage.nbytes() // t.element_size()
                    self.now += self.seen[storage._cdata]
                    weakref.finalize(storage, self.drop, storage._cdata)
        self.peak = max(self.peak, self.now)
        return out

    def drop(self, pointer):
        self.now -= self.seen.pop(pointer, 0)


# ------------------------------------------------------------------------------------------------------ 1 BPE merge
def merge_mistakes(word, pair):
    backwards = data.tokenizer._merge([t[::-1] for t in word[::-1]], tuple(t[::-1] for t in pair[::-1]))
    overlap, i = [], 0
    while i < len(word):
        hit = tuple(word[i:i + 2]) == pair
        overlap.append(pair[0] + pair[1] if hit else word[i])
        i += 1 + (hit and i + 2 == len(word))
    hits = [i for i in range(len(word) - 1) if (word[i], word[i + 1]) == pair]
    first = word[:hits[0]] + [pair[0] + pair[1]] + word[hits[0] + 2:] if hits else list(word)
    return [([t[::-1] for t in backwards[::-1]], "Read from the left: in a a a the first two merge, not the last two."),
            (overlap, "A token was used twice: after a merge go on behind both tokens (i += 2)."),
            (first, "Only the first occurrence was merged; every one should be."),
            (list(word), "Nothing was merged. (A list is never equal to a tuple.)")]


def check_1(merge):
    def compared(word, pair):
        case, own = f"word {word}, pair {pair}", list(word)
        with given(case):
            got, mistakes = merge(own, pair), merge_mistakes(word, pair)
        if own != word or got is own:
            raise wrong(case, "a new list, the word untouched", "the word itself was changed",
                        "Training still needs the old word, to take its pairs out of the counts.")
        if isinstance(got, list) and b"".join(got) != b"".join(word):
            mistakes.append((got, f"A merge moves borders, the text stays {b''.join(word)}. Is the last token lost?"))
        compare(case, got, data.tokenizer._merge(word, pair), mistakes)

    a, b = b"a", b"b"
    for word, pair in (([a, a, a, b], (a, a)), ([a, b], (a, b)), ([a], (a, a)), ([], (a, b)), ([a] * 4, (a, a)),
                       ([a, b, a, b, b"c"], (a, b))):
        compared(word, pair)
    rng = random.Random(0)
    for _ in range(200):
        compared([rng.choice([a, b, b"ab", b"aa"]) for _ in range(rng.randrange(9))],
                 (rng.choice([a, b, b"ab"]), rng.choice([a, b, b"aa"])))


# ------------------------------------------------------------------------------------- 2 causal attention with a cache
def attend(q, k, v, keys, values, lengths):
    """The shipped pieces of model.py in one place: KVCache.append, GPT.forward's mask, Block.forward's read."""
    cache = model.KVCache.__new__(model.KVCache)
    cache.keys, cache.values, cache.lengths = keys[None], values[None], lengths
    positions = torch.tensor(lengths)[:, None] + torch.arange(q.shape[2])                    # [B, T]
    k, v = cache.append(0, positions, k, v)                                                  # [B, G, S, D]
    mask = (torch.arange(k.shape[2]) <= positions[:, :, None])[:, None]                      # [B, 1, T, S]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)          # [B, H, T, D]


def read(q, keys, values, lengths, *, scale=True, visible="own", neighbours=True):
    """Attention in plain loops, with the typical mistakes as switches. keys, values: the buffers after the write."""
    B, H, T, D = q.shape
    G, y = keys.shape[1], torch.zeros_like(q)
    for b in range(B):
        for h in range(H):
            g = h * G // H if neighbours else h % G
            for t in range(T):
                s = {"own": lengths[b] + t + 1, "future": lengths[b] + T, "longest": max(lengths) + t + 1,
                     "no cache": t + 1, "one short": max(1, lengths[b] + t)}[visible]
                weights = (keys[b, g, :s] @ q[b, h, t] / (D ** 0.5 if scale else 1)).softmax(-1)
                y[b, h, t] = weights @ values[b, g, :s]
    return y


def attention_mistakes(q, keys, values, lengths):
    return [(read(q, keys, values, lengths, **switch), text) for switch, text in (
        (dict(scale=False), "The scores should be divided by sqrt(D)."),
        (dict(visible="future"), "A new token sees the new tokens behind it: query t may read columns up to lengths[b] "
         "+ t."),
        (dict(visible="no cache"), "The causal mask starts at column 0: query t is at position lengths[b] + t, not t."),
        (dict(visible="longest"), "Every row was read as far as the longest one: columns behind a row's own length are "
         "stale."),
        (dict(visible="one short"), "A token should see itself too: <=, not <."),
        (dict(neighbours=False), "Query head h reads key/value head h // (H / G): repeat_interleave, not repeat."))]


class Capture(TorchFunctionMode):
    """Notes queries and results of the attention in a shipped model, with what its cache noted just before."""
    def __init__(self, cache):
        super().__init__()
        self.cache, self.calls = cache, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self.calls.append((args[0], out, *self.cache.noted[-1]))
        return out


class Watched(model.KVCache):
    """Notes what each append found and brought."""
    def append(self, layer, positions, k, v):
        self.noted = getattr(self, "noted", [])
        before = self.keys[layer].clone(), self.values[layer].clone()
        out = super().append(layer, positions, k, v)
        self.noted.append((k, v, *before, list(self.lengths), self.keys[layer].clone(), self.values[layer].clone()))
        return out


def small_model(seed=0, vocab=30, max_seq_len=16):
    """Far from uniform, in float64, the global random state untouched."""
    shape = model.GPTConfig(vocab, max_seq_len, n_layer=1, n_head=4, n_kv_head=2, head_dim=4, n_embd=12, mlp_width=16)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        gpt = model.GPT(shape).double()
    with torch.no_grad():
        for p in gpt.parameters():
            p.mul_(8 if p.dim() == 2 else 1)
    return gpt


def check_2(attend):
    def compared(case, q, k, v, keys, values, lengths, expected, after):
        before, keys, values, own = (keys, values), keys.clone(), values.clone(), list(lengths)
        with given(case):
            got = attend(q, k, v, keys, values, own)
        if own != list(lengths):
            raise wrong(case, f"lengths as they were, {lengths}", str(own), "The caller moves the lengths on.")
        unwritten = "The buffers are as they were: write the new keys and values into them, in place."
        untouched = [(got, unwritten)] * same(values, before[1])
        compare(case, got, expected, attention_mistakes(q, *after, lengths) + untouched)
        for name, old, now, wanted in (("keys", before[0], keys, after[0]), ("values", before[1], values, after[1])):
            old, now, wanted = (x[:, :, :max(lengths) + q.shape[2]] for x in (old, now, wanted))
            compare(f"{case}; the buffer `{name}` afterwards", now, wanted, [(old, unwritten)])

    zero, stale = torch.zeros(1, 1, 2, 1, dtype=torch.float64), 50.0
    def column(*numbers):
        return torch.tensor(numbers, dtype=torch.float64).view(1, 1, -1, 1)      # [1, 1, C, 1]
    keys, values = torch.zeros(1, 1, 4, 1, dtype=torch.float64), column(2, 4, stale, stale)
    compared("the case by hand: 2 and 4 in the buffer, new values 9 and 1, all queries and keys 0", zero, zero,
             column(9, 1), keys, values, [2], column(5, 4), (keys, column(2, 4, 9, 1)))
    gpt = small_model()
    cache = Watched(gpt.config, 3, 10, like=gpt.head_weight)
    with torch.no_grad(), Capture(cache) as capture:
        for new, lengths in ((4, [0, 0, 0]), (1, [4, 2, 1]), (1, [5, 3, 2]), (3, [6, 4, 3])):
            cache.lengths = lengths
            gpt(torch.randint(0, 30, (3, new), generator=torch.Generator().manual_seed(new)), cache)
    for q, expected, k, v, keys, values, lengths, *after in capture.calls:
        compared(f"inside a shipped model: {q.shape[2]} new tokens a row, lengths {lengths}, H = 4, G = 2", q, k, v,
                 keys, values, lengths, expected, after)
    for new, lengths in ((3, [2, 5]), (1, [0, 8])):
        q, k, v, keys, values = (normal(i, *s) for i, s in enumerate(
            [(2, 4, new, 4)] + [(2, 2, new, 4)] * 2 + [(2, 2, 9, 4)] * 2))
        after = keys.clone(), values.clone()
        for b, n in enumerate(lengths):
            after[0][b, :, n:n + new], after[1][b, :, n:n + new] = k[b], v[b]
        compared(f"random: {new} new tokens a row, lengths {lengths}, H = 4, G = 2", q, k, v, keys, values, lengths,
                 read(q, *after, lengths), after)
    q, k, v, keys, values = (normal(i, *s) for i,
                             s in enumerate([(2, 2, 3, 4)] + [(2, 1, 3, 4)] * 2 + [(2, 1, 9, 4)] * 2))
    whole = attend(q, k, v, keys.clone(), values.clone(), [2, 5])
    one_by_one = torch.cat([attend(q[:, :, t:t + 1], k[:, :, t:t + 1], v[:, :, t:t + 1], keys, values, [2 + t, 5 + t])
                            for t in range(3)], 2)
    compare("three new tokens at once, against the same three one at a time", whole, one_by_one)


# --------------------------------------------------------------------------------------------------------- 3 a sampler
def kept(p, temperature, top_k, top_p, *, late=False, crossing=0, power=None):
    """What the sampler's distribution should be, in Python floats; the switches are typical mistakes."""
    def cut(w):
        order = sorted(range(len(w)), key=lambda i: -w[i])[:top_k]
        if top_p is not None:
            mass, total, n = 0.0, sum(w[i] for i in order), 0
            while mass < top_p * total and n < len(order):
                mass += w[order[n]]
                n += 1
            order = order[:max(1, n + crossing)]
        return order

    heated = [x ** (1 / temperature if power is None else power) for x in p]
    order = cut(p if late else heated)
    total = sum(heated[i] for i in order)
    return [heated[i] / total if i in order else 0.0 for i in range(len(p))]


def check_3(sample):
    draws = 20_000
    even = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws                          # [draws]

    def shares(function, p, *settings):
        with given(f"p = {show(p)}, temperature, top_k, top_p = {settings}"):
            ids = function(logs(p).expand(draws, -1).clone(), *settings, even.clone())
        if not isinstance(ids, torch.Tensor) or ids.shape != (draws,) or ids.dtype != torch.int64:
            came = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, torch.Tensor) else show(ids)
            raise wrong(f"logits [{draws}, {len(p)}]", f"ids, int64 [{draws}]", came)
        return (torch.bincount(ids, minlength=len(p)).double() / draws).tolist()

    def near(a, b):
        return len(a) == len(b) and all(abs(x - y) < 0.001 and (y > 0 or x == 0) for x, y in zip(a, b))

    uniform = torch.rand(50, generator=torch.Generator().manual_seed(5), dtype=torch.float64)   # [50]
    logits = normal(3, 50, 7)
    before = logits.clone()
    with given("logits [50, 7], temperature 1, top_k None, top_p None"):
        first, second = (sample(logits.clone(), 1.0, None, None, uniform) for _ in range(2))
    compare("the same call a second time: the same tokens", second, first,
            [(second, "Something else is random here: draw with the numbers in `uniform` alone.")])
    settings = [(0.5, None, None), (0.5, 2, None), (0.5, None, 0.6), (1.0, None, 0.6), (1.0, None, None), (2.0, 3, 0.7),
                (1.5, 99, None), (1.0, 1, None), (1.0, None, 1.0)]
    rng = random.Random(0)
    p = [0.5, 0.3, 0.15, 0.05]
    for number, (temperature, top_k, top_p) in enumerate(settings * 2):
        if number >= len(settings):
            p = [rng.random() ** 2 + 0.01 for _ in range(6)]
            p = [x / sum(p) for x in p]
        case = f"p = {show(p)}, temperature {temperature}, top_k {top_k}, top_p {top_p}; shares of {draws} draws"
        got, expected = shares(sample, p, temperature, top_k, top_p), shares(model.sample, p, temperature, top_k, top_p)
        if near(got, expected):
            continue
        def as_if(**switch):
            return kept(p, temperature, top_k, top_p, **switch)
        why = next((text for value, text in (
            (as_if(power=1.0), "As without a temperature: divide the logits by it."),
            (as_if(power=temperature), "Multiplied by the temperature: divide the logits by it."),
            (as_if(late=True), "Temperature first: the nucleus is that of the heated distribution."),
            (as_if(crossing=-1), "The token that reaches top_p is kept too."),
            (as_if(crossing=1), "One token too many: the nucleus ends at the token that reaches top_p."),
            (kept(p, temperature, None, top_p), "As without top_k."),
                                             (kept(p, temperature, top_k, None), "As without top_p."),
            (sorted(expected, reverse=True), "These are ranks among the sorted tokens: map them back to ids."),
        ) if near(got, value)), "")
        if not why and top_p is not None and any(x == 0 < y for x, y in zip(got, expected)):
            why = "The nucleus lacks a token: the one that reaches top_p is kept too."
        if not why and max(got) == 1.0:
            why = ("Every row drew the same token: each row has its own random number. (Or all probabilities are 0 or "
                   "nan.)")
        if not why and any(x > 0 == y for x, y in zip(got, expected)):
            why = "A token that was cut is drawn: after each cut renormalise what is left."
        raise wrong(case, show(expected), show(got), why)

    compare("temperature 0: the most likely token of each row", sample(logits.clone(), 0, None, None, uniform),
            logits.argmax(-1))
    first = sample(before, 1.0, 5, 0.9, uniform)
    compare("the logits after the call", before, logits)
    for row in (0, 17):
        compare(f"row {row} of 50 alone: the token that it drew among the others",
                sample(logits[row:row + 1], 1.0, 5, 0.9, uniform[row:row + 1]), first[row:row + 1])


# -------------------------------------------------------------------------------------------- 4 the completion mask
class Echo:
    """A model whose state is (the token it reads, its position), so one can see what was read."""
    head_weight = torch.zeros(100, 2, dtype=torch.float64)
    fed = 0

    def __call__(self, ids, positions=None):
        self.fed = ids.shape[1]
        states = torch.stack([ids, torch.arange(ids.shape[1]).expand_as(ids)], -1).double()  # [B, T, 2]
        return states if positions is None else states.flatten(0, 1)[positions]


def check_4(completion_hidden):
    def states(rows, first, last):
        """(token, position) read, where each row's positions run from first to last, counted from the completion."""
        out = []
        for prompt, completion in rows:
            ids = prompt + completion
            out += [[ids[t], t] for t in range(len(prompt) + first, len(ids) + last) if t >= 0]
        return torch.tensor(out, dtype=torch.float64).view(-1, 2)

    rng = random.Random(0)
    batches = [[([5, 6], [7, 8, 9])], [([5, 6], [7, 8, 9]), ([1], [2]), ([3, 4, 5, 6, 7, 8], [9, 10])]]
    batches += [[([rng.randrange(1, 99) for _ in range(rng.randint(1, 9))],
                  [rng.randrange(1, 99) for _ in range(rng.randint(1, 9))])
                 for _ in range(5)] for _ in range(5)]
    for rows in batches:
        echo, case = Echo(), f"rows {show(rows)}, a model whose state is (token, position)"
        expected = states(rows, -1, -1)
        with given(case):
            got = completion_hidden(echo, [(list(p), list(c)) for p, c in rows])
        longest = max(len(p) + len(c) for p, c in rows)
        late = [[0, longest - len(p) - len(c)] for p, c in rows for _ in c]
        order = sorted(range(len(rows)), key=lambda b: len(rows[b][0]) + len(rows[b][1]))
        compare(case, got, expected, [
            (states(rows, 0, 0), "The shift is missing: these are the states at the completion tokens, each of which "
             "predicts the token after. y_t is predicted one position before it."),
            (states(rows, -2, -2), "Shifted twice: y_t is predicted one position before it, not two."),
            (states(rows, 0, -1), "The first completion token has no state: it is predicted from the last prompt "
             "token."),
            (states(rows, -1, 0), "One state too many: the last completion token predicts nothing that the loss is "
             "on."),
            (torch.cat([states([([], p + c)], 0, -1) for p, c in rows]),
             "The prompt is in it: the loss is on the completion only."),
            (states([rows[b] for b in order], -1, -1), "The order of the rows has changed."),
            (expected + torch.tensor(late), "Padded on the left, which shifts the positions: pad on the right."),
        ])
        needed = max(len(p) + len(c) for p, c in rows) - 1
        if echo.fed > needed:
            raise wrong(case, f"a model fed {needed} positions", f"it was fed {echo.fed}",
                        "The last completion token need not be read: a row that fills the context would not fit.")
    gpt = small_model(1)
    rows = [([1, 2, 3], [4, 5]), ([6], [7, 8, 9, 10, 11]), ([12, 13], [14])]
    with torch.no_grad():
        alone = torch.cat([step.completion_hidden(gpt, [row]) for row in rows])
        compare(f"a small GPT, rows {rows}", completion_hidden(gpt, rows), step.completion_hidden(gpt, rows))
        compare("the same rows; expected: each row alone, without padding", completion_hidden(gpt, rows), alone,
                tolerance=1e-7)


# ------------------------------------------------------------------------------------------ 5 the token divergence
def divergence_mistakes(s, t, beta, temperature):
    def plain(s, t, beta, tau=temperature):
        return loss.token_divergence(s, t, beta=beta, temperature=tau)  # [N]
    right = plain(s, t, beta)
    a, b = (s / temperature).log_softmax(-1), (t / temperature).log_softmax(-1)
    found = [
        (plain(s, t, beta, 1.0), "As with temperature 1: divide both logits by the temperature."),
        (loss.token_divergence(s, t / temperature, beta=beta),
         "The student's logits are not divided by the temperature."),
        (loss.token_divergence(s / temperature, t, beta=beta),
         "The teacher's logits are not divided by the temperature."),
        (right * temperature ** 2, "A factor temperature ** 2 too many: it belongs to Hinton's distillation."),
        (right / s.shape[-1], "The mean over the vocabulary; the divergence is the sum."),
        (right.mean(), "The mean over the tokens: return one number for each of them, the caller divides."),
        (right.sum(), "The sum over the tokens: return one number for each of them."),
        (right / math.log(2), "Bits, not nats: use the natural logarithm."), (-right, "The sign is turned around."),
        (loss.divergence_terms(b, a, beta)[0].sum(0), "Summed over the tokens; the sum goes over the vocabulary, the last axis."),
    ]
    if beta in (0, 1):
        found += [(plain(s, t, 1 - beta),
                   f"This is {'reverse' if beta == 0 else 'forward'} KL: student and teacher are swapped."),
                  (torch.zeros_like(right), "0: the two ends are cases of their own, not the middle formula.")]
        if beta == 0:
            found += [(-(b.exp() * a).sum(-1), "The cross-entropy: the teacher's own entropy is missing.")]
    else:
        p, q = b.exp(), a.exp()
        swapped = torch.log((1 - beta) * p + beta * q)
        found += [(plain(s, t, 1 - beta),
                   "beta and 1 - beta are swapped: m = beta p + (1 - beta) q, beta belongs to the teacher."),
                  (beta * (p * (b - swapped)).sum(-1) + (1 - beta) * (q * (a - swapped)).sum(-1),
                   "The weights inside m are swapped: m = beta p + (1 - beta) q."),
                  (beta * plain(s, t, 0.0) + (1 - beta) * plain(s, t, 1.0),
                   "The mean of the two KLs: both should be against m."),
                  (beta * plain(s, t, 1.0) + (1 - beta) * plain(s, t, 0.0),
                   "The mean of the two KLs: both should be against m.")]
    return found


def check_5(token_divergence):
    def compared(name, s, t, beta, temperature=1.0):
        case = f"{name}, beta {beta}, temperature {temperature}"
        with given(case):
            got = token_divergence(s.clone(), t.clone(), beta=beta, temperature=temperature)
        compare(case, got, loss.token_divergence(s, t, beta=beta, temperature=temperature),
                divergence_mistakes(s, t, beta, temperature))

    def slope(function, s, t, beta):
        z = s.detach().clone().requires_grad_()
        return torch.autograd.grad(function(z, t, beta=beta).sum(), z)[0]

    s, t = logs((0.8, 0.2)), logs((0.9, 0.1))
    for beta, by_hand in ((0.0, 0.0367), (1.0, 0.0444), (0.5, 0.0100)):
        case = f"student (0.8, 0.2), teacher (0.9, 0.1), beta {beta}"
        with given(case):
            got = token_divergence(s, t, beta=beta)
        compare(case, got, torch.tensor([by_hand]),
                [(v.round(decimals=4), text) for v, text in divergence_mistakes(s, t, beta, 1.0)], tolerance=6e-5)
    for seed, beta, temperature in ((0, 0.0, 1.0), (1, 1.0, 1.0), (2, 0.5, 1.0), (3, 0.1, 1.0), (4, 0.0, 2.5),
                                    (5, 1.0, 0.6), (6, 0.9, 2.0)):
        compared("random logits [4, 7]", normal(seed, 4, 7), normal(seed + 50, 4, 7), beta, temperature)
        z = normal(seed, 4, 7)
        compare(f"student and teacher equal, beta {beta}", token_divergence(z, z, beta=beta), torch.zeros(4).double())
    s, t = logs((0.8, 0.2, 0.0)), logs((0.9, 0.1, 0.0))
    for beta in (0.0, 0.5, 1.0):
        compared("student (0.8, 0.2, 0), teacher (0.9, 0.1, 0): a token that both forbid (logit -inf)", s, t, beta)
        compared("student (1, 0), teacher (0, 1), logits 1000 and -1000: a probability too small for a float64",
                 torch.tensor([[1000.0, -1000.0]]).double(), torch.tensor([[-1000.0, 1000.0]]).double(), beta)
        s2, t2 = normal(8, 3, 5).requires_grad_(), normal(9, 3, 5).requires_grad_()
        total = token_divergence(s2, t2, beta=beta).sum()
        if not total.requires_grad:
            raise wrong(f"random logits, beta {beta}", "a divergence through which the student gets a gradient",
                        "no graph",
                        "Was something detached, or turned into Python numbers?")
        total.backward()
        if t2.grad is not None and t2.grad.abs().max() > 0:
            raise wrong(f"random logits, beta {beta}", "no gradient for the teacher's logits", show(t2.grad[0]),
                        "Detach them: or the teacher moves towards the student, too.")
        compare(f"random logits, beta {beta}: the student's gradient by autograd", s2.grad,
                slope(loss.token_divergence, s2, t2, beta))
        got, expected = slope(token_divergence, s, t, beta), slope(loss.token_divergence, s, t, beta)
        case = f"the token that both forbid, beta {beta}: the student's gradient by autograd"
        if got.isnan().any():
            raise wrong(case, show(expected), show(got), "The value is right, the gradient is not: a nan hidden behind "
                        "the arithmetic comes back in backward as 0 * nan. Replace the -inf before the arithmetic.")
        compare(case, got, expected)


# --------------------------------------------------------------------------------------------------- 6 its gradient
def divergence_gradient(z, z_teacher, beta, temperature):
    """The shipped gradient by hand: with the identity as head, distillation_loss takes logits for hidden states."""
    head, x = torch.eye(z.shape[-1], dtype=z.dtype), z.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = fused_loss.distillation_loss(x, head, z_teacher, head, beta=beta, temperature=temperature, denominator=1)
        return torch.autograd.grad(value, x)[0]


def gradient_mistakes(z, z_teacher, beta, temperature):
    a, b = (z / temperature).log_softmax(-1), (z_teacher / temperature).log_softmax(-1)
    right, q = divergence_gradient(z, z_teacher, beta, temperature), a.exp()
    _, g = loss.divergence_terms(b, a, beta)
    other = divergence_gradient(z, z_teacher, 1 - beta, temperature)
    found = [(-right, "The sign is turned around: a step against this gradient would lead away from the teacher."),
             (right * temperature, "1 / temperature is missing: z is divided by it inside the softmax."),
             (right * temperature ** 2, "1 / temperature is missing: z is divided by it inside the softmax."),
             (divergence_gradient(z, z_teacher, beta, 1.0), "As with temperature 1."),
             (divergence_gradient(z, z_teacher * temperature, beta, temperature),
              "The teacher's logits are not divided by the temperature."),
             (g / temperature, "This is g, the slope for log q. The softmax adds - q_i sum_v g_v: its row must add up "
              "to 0."),
             (right / len(z), "Divided by N: each row is the gradient of its own token."),
             (right.mean(0), "The mean over the tokens: return a row for each."),
             (other, "This is the gradient of the other direction (beta and 1 - beta swapped).")]
    if beta > 0:
        found += [(q * (a - b) / temperature, "The KL inside the bracket is missing: [(a - b) - KL].")]
    if 0 < beta < 1:
        found += [(right / (1 - beta), "The factor (1 - beta) is missing.")]
    return found


def check_6(divergence_gradient):
    s, t = logs((0.8, 0.2)), logs((0.9, 0.1))
    with torch.no_grad():
        for beta, first in ((0.0, -0.10), (1.0, -0.1297)):
            case = f"student (0.8, 0.2), teacher (0.9, 0.1), beta {beta}, temperature 1"
            with given(case):
                got = divergence_gradient(s, t, beta, 1.0)
            compare(case, got, torch.tensor([[first, -first]]),
                    [(v.round(decimals=4), text) for v, text in gradient_mistakes(s, t, beta, 1.0)],
                    tolerance=6e-5)
    for seed, (beta, temperature) in enumerate([(0.0, 1.0), (1.0, 1.0), (0.5, 1.0), (0.0, 2.0), (1.0, 0.7), (0.2, 1.7),
                                                (0.9, 3.0)]):
        s, t = normal(seed, 4, 6), normal(seed + 50, 4, 6)
        z = s.clone().requires_grad_()
        loss.token_divergence(z, t, beta=beta, temperature=temperature).sum().backward()
        case = f"random logits [4, 6], beta {beta}, temperature {temperature}"
        with torch.no_grad():
            with given(case):
                got = divergence_gradient(s.clone(), t.clone(), beta, temperature)
            compare(case + "; expected: autograd through the shipped loss", got, z.grad,
                    gradient_mistakes(s, t, beta, temperature))
            compare(case + ": the sum of each row", got.sum(-1), torch.zeros(4).double())
            compare(case + ", student equal to the teacher", divergence_gradient(s, s.clone(), beta, temperature),
                    torch.zeros(4, 6).double())


# ------------------------------------------------------------------------------------------------- 7 the chunked loss
def chunked_loss(student_hidden, student_head, teacher_hidden, teacher_head, *, beta=0.0, temperature=1.0,
                 denominator=None, rows=128):
    """The shipped loss and its gradients, with a byte budget that gives chunks of `rows` at most."""
    x, w = (t.detach().clone().requires_grad_() for t in (student_hidden, student_head))
    budget = rows * len(w) * w.element_size() * 5  # it counts at least 5 buffers
    with torch.enable_grad():
        value = fused_loss.distillation_loss(x, w, teacher_hidden, teacher_head, beta=beta, temperature=temperature,
                                       denominator=denominator, chunk_bytes=budget)
        return value.detach(), *torch.autograd.grad(value, (x, w))


def check_7(learners):
    names = "loss", "dx", "dw"

    def compared(case, x, w, y, u, rows, **settings):
        with torch.no_grad(), given(case):
            got = learners(x, w, y, u, rows=rows, **settings)
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            raise wrong(case, "three things: loss, dx, dw", show(got))
        expected = chunked_loss(x, w, y, u, rows=rows, **settings)
        n, count, tau = len(x), settings.get("denominator") or len(x), settings.get("temperature", 1.0)
        starts = range(0, n, rows)
        def one(i, own):
            return chunked_loss(x[i:i + rows], w, y[i:i + rows], u, rows=rows,
                                                  **{**settings, "denominator": own or len(x[i:i + rows])})
        means, parts = [one(i, None) for i in starts], [one(i, count) for i in starts]
        for k, name in enumerate(names):
            right = expected[k]
            mistakes = [(right * count, "Not divided by the denominator (default: N)."),
                        (parts[-1][k], f"Only the last chunk counts: {'dw' if k == 2 else 'the loss'} adds up over the "
                         f"chunks."),
                        (parts[0][k], "Only the first chunk counts: go on to the end."),
                        (right * count / n, "Divided by N: use the denominator that was given.")]
            if k == 1:
                mistakes += [(torch.cat([m[1] for m in means]),
                              "Each chunk is divided by its own size: divide by the denominator."),
                             (torch.cat([m[1] / len(starts) for m in means]),
                              "The mean over chunks: a smaller last chunk weighs too much.")]
            else:
                total = sum(m[k] for m in means)
                mistakes += [(total / len(starts),
                              "The mean of the chunks' means: the tokens of a smaller last chunk weigh too much. "
                              "Divide the sum by the denominator."),
                             (total, "Each chunk is divided by its own size: divide by the denominator."),
                             (right - parts[-1][k], "The last chunk, which is smaller, is missing.")]
            if k > 0:
                mistakes += [(right * tau, "The gradient lacks 1 / temperature: the logits were divided by it.")]
            compare(f"{case}: {name}", got[k], right, mistakes)

    one, head = torch.ones(2, 1).double(), lambda *p: logs(p).T.contiguous()
    case = "the case by hand, N = 2, rows = 1"
    with torch.no_grad(), given(case):
        value, dx, dw = learners(one, head(0.8, 0.2), one, head(0.9, 0.1), rows=1)
    compare(f"{case}: loss", value, torch.tensor(0.0367), [
            (torch.tensor(0.0734), "The sum over tokens: divide by N, not by a chunk's own size."),
            (torch.tensor(0.0183), "Only one of the two tokens was counted.")], tolerance=6e-5)
    compare(f"{case}: dx", dx, torch.full((2, 1), -0.0693),
            [(torch.full((2, 1), -0.1386), "Divide by the denominator.")], tolerance=6e-5)
    compare(f"{case}: dw", dw, torch.tensor([[-0.1], [0.1]]),
            [(torch.tensor([[-0.05], [0.05]]), "dw of one chunk: it adds up over the chunks.")], tolerance=6e-5)
    for seed, (n, rows, settings) in enumerate([(6, 3, {}), (7, 3, {}), (5, 100, {}), (7, 2, dict(beta=0.5)),
                                                (7, 3, dict(temperature=2.0)),
                                               (4, 1, dict(denominator=10)),
                                                (9, 4, dict(beta=1.0, temperature=0.5, denominator=20))]):
        x, w, y, u = (normal(10 * seed + i, *s, scale=1.0) for i, s in enumerate([(n, 5), (11, 5), (n, 4), (11, 4)]))
        compared(f"random: N = {n}, V = 11, rows = {rows}{''.join(f', {k} {v}' for k, v in settings.items())}", x, w, y,
                 u, rows, **settings)
    n, v, rows = 600, 300, 10
    x, w, y, u = (normal(i, *s) for i, s in enumerate([(n, 5), (v, 5), (n, 4), (v, 4)]))
    with Count() as count, torch.no_grad():
        learners(x, w, y, u, rows=rows)
    if max(count.peak, count.largest) >= n * v:
        raise wrong(f"N = {n}, V = {v}, rows = {rows}", f"well below N x V = {n * v} numbers alive at once",
                    f"{count.peak} alive, the largest tensor {count.largest}",
                    "Make the logits of one chunk at a time, and keep none: no list of them, no graph over all.")


# --------------------------------------------------------------------------------------------- 8 the rubric prompt
def check_8(prompt, encode):
    rubric = rubrics.Rubric((rubrics.Criterion("A", "Essential: uses a = b", 5),
                             rubrics.Criterion("B", "Pitfall: does not guess", -1)))
    cases = [dict(), dict(rubric=rubric), dict(answer="4 L"), dict(solution="a = b"), dict(rubric=rubric, answer="4 L"),
             dict(rubric=rubric, task="write_rubric"), dict(task="write_rubric"),
             dict(rubric=rubric, answer="4 L", solution="a = b")]
    for more in cases:
        said = ", ".join(f"{k}={'r' if k == 'rubric' else repr(v)}" for k, v in more.items())
        with given(f"prompt('What?'{', ' + said if said else ''})"):
            expected, got = rubrics.prompt("What?", **more), prompt("What?", **more)
        order = [x for x in expected[:-1] if x[0] != "question"]
        compare(f"prompt('What?'{', ' + said if said else ''})", got, expected, [
            (expected[:-1], "The last section is missing: an empty one, named by `task`, which the completion fills."),
            (expected[:-1] + [("solve", "")], "The last section is named by `task`, and that is 'write_rubric' here."),
            (order + [x for x in expected if x[0] == "question"] + expected[-1:],
             "The question comes first: then student and teacher begin alike."),
            *((expected[:1] + list(other) + expected[-1:], "The order is question, rubric, answer, solution.")
              for other in permutations(order)),
            ([(n, "\n".join(c.description for c in rubric.criteria) if n == "rubric" else t) for n, t in expected],
             "The weights are missing: rubric.text() has them."),
            ([(n, str(rubric) if n == "rubric" else t) for n, t in expected],
             "The object, as Python prints it: the prompt has rubric.text()."),
            ([("question", "What?"), ("rubric", rubric.text() if "rubric" in more else ""),
              ("answer", more.get("answer", "")), ("solution", more.get("solution", "")), expected[-1]],
             "What is not given has no section, not an empty one."),
        ])
    bytes_only = data.tokenizer.Tokenizer({bytes([i]): i for i in range(256)})
    corpus = ["speed = distance ÷ time\n5 Essential: uses speed"] * 3
    trained = data.tokenizer.Tokenizer(data.tokenizer.train_bpe(corpus, 300))
    student, teacher = [("question", "ab"), ("solve", "")], [("question", "ab"), ("rubric", "5 c"), ("solve", "")]
    texts = [("question", "speed of a <|solve|> and <|eos|>"), ("rubric", "5 Essential: uses speed\n"),
             ("answer", " = 5"), ("solve", "")]
    for name, tokenizer, sections, by_hand in (
            ("bytes only", bytes_only, student, [258, 97, 98, 262]),
            ("bytes only", bytes_only, teacher, [258, 97, 98, 259, 53, 32, 99, 262]),
            ("bytes only", bytes_only, texts, None), ("trained", trained, texts, None),
            ("trained", trained, [("question", "speed"), ("write_rubric", "")], None)):
        expected, t = by_hand or data.tokenizer.encode(tokenizer, sections), tokenizer
        def special(n):
            return [t.id[n]]
        marked = "".join(f"<|{n}|>{text}" for n, text in sections)
        with given(f"encode, tokenizer {name}, {sections}"):
            got = encode(t, sections)
        compare(f"encode, tokenizer {name}, {sections}", got, expected, [
            (t.encode(marked), "The section names were encoded as text: a special token is added by its id, "
             "tokenizer.id[name]."),
            (t.encoding.encode(marked, allowed_special="all"),
             "A special token written in the data became one: encode only the texts, add the special ids by hand."),
            (special(sections[0][0]) + t.encode("".join(x for _, x in sections)),
             "The texts were joined before encoding."),
            ([i for n, x in sections for i in t.encode(x) + special(n)],
             "The special token opens its section: it comes before the text."),
            ([i for n, x in sections for i in t.encode(x)], "The special tokens of the sections are missing."),
            (expected + [t.eos], "A prompt has no EOS: the completion ends with it."),
            ([i for n, x in sections if x for i in special(n) + t.encode(x)],
             "An empty section has its special token too: the completion follows it."),
        ])
    y = [97, 98, 257]  # a completion's ids: carried, so they stand behind both prompts
    ids = [encode(bytes_only, prompt("ab", **more)) for more in ({}, dict(rubric=rubric))]
    read = [step.completion_hidden(Echo(), [(i, y)])[:, 0] for i in ids]
    compare("completion ids [97, 98, 257] behind both prompts: the tokens before each, student (expected) and teacher",
            read[1], read[0])


# ------------------------------------------------------------------------------------ 9 group-relative advantages
def check_9(set_advantages):
    def advantages(function, rewards, group):
        rollouts = [types.SimpleNamespace(advantage=0.25) for _ in rewards]
        share = function(rollouts, list(rewards), group)
        return [r.advantage for r in rollouts], share

    def scaled(rewards, less=0, divide=True, more=0.0):
        n, mean = len(rewards), sum(rewards) / len(rewards)
        sd = (sum((r - mean) ** 2 for r in rewards) / max(1, n - less)) ** 0.5
        return [0.0 if sd < 1e-12 else (r - mean) / (sd + more if divide else 1) for r in rewards]

    rng = random.Random(0)
    cases = [([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], 4), ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 3),
             ([1.0, 0.0, 0.0, 0.0], 2)]
    cases += [([rng.choice([0.0, 0.3, 1.0]) for _ in range(12)], rng.choice([2, 3, 4, 6])) for _ in range(20)]
    for number, (rewards, group) in enumerate(cases):
        case = f"rewards {show(rewards)}, group {group}"
        parts = [rewards[i:i + group] for i in range(0, len(rewards), group)]
        with given(case):
            got, share = advantages(set_advantages, rewards, group)
        expected, silent = advantages(rcsd.set_advantages, rewards, group)
        if number == 0:
            expected, silent = [1.7321, -0.5774, -0.5774, -0.5774, 0.0, 0.0, 0.0, 0.0], 0.5
        got = [a.item() if isinstance(a, torch.Tensor) and a.numel() == 1 else a for a in got]
        if any(a != a for a in got if isinstance(a, float)):
            raise wrong(case, show(expected), show(got),
                        "nan: in a group of equal rewards the standard deviation is 0; its advantages are 0.")
        def each(**switch):
            return [a for part in parts for a in scaled(part, **switch)]
        def rounding(values):
            return [round(a, 4) for a in values] if number == 0 else values
        if got == [0.25] * len(got):
            raise wrong(case, show(expected), "the advantages that the rollouts had before",
                        "Set rollout.advantage on each.")
        strided = [scaled(rewards[i::len(parts)]) for i in range(len(parts))]
        unequal = [0.0 if max(p) == min(p) else a for p, i in zip(parts, range(0, len(rewards), group))
                   for a in got[i:i + group]]
        compare(f"{case}: the advantages", got, expected, [(rounding(value), text) for value, text in (
            (scaled(rewards), "Mean and deviation of the whole batch: take those of each group."),
            (each(less=1), "Divided by the deviation with n - 1; divide by n."),
            (each(divide=False), "The division by the standard deviation is missing."),
            ([0.0 if max(p) == min(p) else r for p in parts for r in p], "The mean of the group is not subtracted."),
            *((value, "The groups are neighbours, not every n-th rollout.") for value in (
                sum(strided, []), [a for row in zip(*strided) for a in row])),
            *((each(more=more), f"A number like {more:g} is added to the deviation; the formula has none.")
              for more in (1e-4, 1e-5)),
        )] + [(got, "These rewards are equal, but their deviation is not quite 0: a sum of 0.1 is rounded. Compare the "
               "rewards themselves.")] * (got != unequal and same(unequal, expected, 6e-5)),
                tolerance=6e-5 if number == 0 else 1e-5)
        count = round(silent * len(parts))
        compare(f"{case}: what is returned", share, silent, [
            (count, "The number of silent groups; return their share."),
            (float(count), "The number of silent groups; return their share."),
            (1 - silent, "The share of groups with a signal; return that of those without."),
            (count / len(rewards), "Divided by the number of rollouts; divide by the number of groups.")],
                tolerance=1e-5)
    base = advantages(set_advantages, [3.0, 1.0, 2.0, 2.0], 4)[0]
    compare("rewards 3 1 2 2, against the same times 10 plus 5: equal advantages",
            advantages(set_advantages, [35.0, 15.0, 25.0, 25.0], 4)[0], base, tolerance=1e-5)


# --------------------------------------------------------------------------------------------------------- 10 clipping
def clip_mistakes(s, t, beta, clip, mode):
    """(loss [N], gradient [N, V], text) of typical mistakes, by autograd."""
    def run(make):
        z = s.detach().clone().requires_grad_()
        f = loss.divergence_terms(t.log_softmax(-1), z.log_softmax(-1), beta)[0]
        out = make(f, f.sum(-1))
        return out.detach(), torch.autograd.grad(out.sum(), z)[0] if out.requires_grad else torch.zeros_like(z)

    named = {"pointwise": ("each vocabulary term", lambda f, d: f.clamp(max=clip).sum(-1)),
             "token": ("the token", lambda f, d: d.clamp(max=clip)),
             "none": ("nothing", lambda f, d: d)}
    found = [(*run(make), f"This is clip_mode {name!r}: it clamps {what}.") for name, (what, make) in named.items()
             if name != mode]
    if mode == "scale":
        found = [
            (*run(lambda f, d: d * (clip / d).clamp(max=1)),
             "The gradient is 0, as with \"token\": the factor is not detached. clip / D times D is a constant; use "
             "D.detach() inside the factor."),
            (*run(lambda f, d: d * (clip / d.detach())),
             "Tokens below the bound are scaled up: the factor is at most 1."),
            (*run(lambda f, d: d * (clip / d.mean().detach()).clamp(max=1)),
             "One factor for the whole batch: each token has its own."),
            (*run(lambda f, d: d * (clip / d.max().detach()).clamp(max=1)),
             "One factor for the whole batch: each token has its own."),
        ] + found
    if mode == "pointwise":
        found = [(*run(lambda f, d: f.clamp(-clip, clip).sum(-1)),
                  "The negative terms are clamped too; the public code clamps from above only. (That is the trap.)"),
                 (*run(lambda f, d: f.clamp(min=0).clamp(max=clip).sum(-1)),
                  "The negative terms are dropped; the public code keeps them. (That is the trap.)")] + found
    return found


def check_10(token_divergence):
    def losses(function, s, t, beta, clip, mode):
        z = s.detach().clone().requires_grad_()
        out = function(z, t, beta=beta, clip=clip, clip_mode=mode)
        if not isinstance(out, torch.Tensor):
            return out, None
        return out.detach(), torch.autograd.grad(out.sum(), z)[0] if out.requires_grad else torch.zeros_like(z)

    def compared(case, s, t, beta, clip, mode, expected=None, tolerance=1e-8):
        with given(case):
            value, gradient = losses(token_divergence, s, t, beta, clip, mode)
        right = expected or losses(loss.token_divergence, s, t, beta, clip, mode)
        known = clip_mistakes(s, t, beta, clip, mode) if clip else []
        why = next((text for a, g, text in known if same(value, a, tolerance) and same(gradient, g, tolerance)), "")
        compare(case + ": the loss", value, right[0], [(value, why)], tolerance)
        compare(case + ": the gradient (the loss is right)", gradient, right[1], [(gradient, why)] if why else (
            [(-right[1], "The direction is turned around.")]), tolerance)

    s, t = logs((0.8, 0.2)), logs((0.9, 0.1))
    for mode, clip, value, slope in (("none", None, 0.0367, -0.10), ("pointwise", 0.05, -0.0193, 0.08),
                                     ("token", 0.01, 0.01, 0.0),
                                     ("scale", 0.01, 0.01, -0.0273), ("scale", 0.05, 0.0367, -0.10)):
        case = f"student (0.8, 0.2), teacher (0.9, 0.1), beta 0, clip_mode {mode!r}, clip {clip}"
        compared(case, s, t, 0.0, clip, mode,
                 (torch.tensor([value]), torch.tensor([[slope, -slope]])), 6e-5)
    for seed, (beta, clip) in enumerate([(0.0, 0.3), (1.0, 0.2), (0.5, 0.1), (0.0, 1.5)]):
        s, t = normal(seed, 8, 6, scale=1.0), normal(seed + 50, 8, 6, scale=1.0)
        for mode in loss.CLIP_MODES:
            bound = None if mode == "none" else clip
            compared(f"random logits [8, 6], beta {beta}, clip_mode {mode!r}, clip {bound}", s, t, beta, bound, mode)
        free, held = losses(token_divergence, s, t, beta, None, "none")[1], losses(token_divergence, s, t, beta, clip,
                                                                                   "scale")[1]
        compare(f"random logits, beta {beta}: the cosine of each token's gradient with \"scale\" and with \"none\"",
                torch.cosine_similarity(free, held, dim=-1), torch.ones(8).double())


# ------------------------------------------------------------------------------------------------------ 11 attribution
def attribution_mistakes(s, criteria, expected):
    """{key of the result: [(what a known mistake gives, text)]} for the values `s` of each tuple of criteria."""
    r, places = criteria, range(len(criteria))
    rest = [r[:i] + r[i + 1:] for i in places]
    def stack(values):
        return torch.stack(list(values))
    known = {
        "whole": [(s(r), "score(()) is not subtracted: an effect is a difference to the teacher without a rubric.")],
        "left out": [
            (stack(s(x) - s(()) for x in rest), "The rest of the rubric was compared with no rubric: that is what the "
             "others do. Leaving c out is compared with the whole rubric: score(r) - score(r without c)."),
            (stack(s(r) - s(tuple(c for c in r if c != r[i])) for i in places),
             "Two equal criteria were left out at once: leave out by place, r[:i] + r[i + 1:], not by value."),
            (expected["alone"], "These are the effects of each criterion alone."),
            (stack(s(x) for x in rest), "That is the score without c; the effect is score(r) less that.")],
        "alone": [
            *((sign * stack(s((c,)) - s(r) for c in r), "Compared with the whole rubric: alone is against none, "
               "score((c,)) - score(()).") for sign in (1, -1)),
            (expected["left out"], "These are the effects of leaving each criterion out."),
            (stack(s((c,)) for c in r), "score(()) is not subtracted: an effect is a difference to the teacher without "
             "a rubric.")]}
    for key, right in expected.items():
        known[key].insert(0, (-right, "The sign is turned around: a criterion that lifts the token has an effect > 0."))
        if key != "whole":
            known[key] += [
                (right.transpose(0, 1), f"The criterion is the first axis: {list(right.shape)} is [C, M, n]."),
                (right * (expected["whole"] / right.sum(0)), "Scaled so that they sum to the whole: they need not.")]
    return known


def check_11(attribute):
    def compared(case, score, criteria, expected=None):
        asked = []

        def ask(chosen):
            if not isinstance(chosen, tuple):
                raise wrong(case, "score(...) of a tuple of criteria", f"score({show(chosen)})",
                            "One criterion by itself is the tuple (c,), and () is none.")
            left = iter(criteria)
            if not all(c in left for c in chosen):
                raise wrong(case, f"criteria of {show(criteria)}, in this order", f"score({show(chosen)})",
                            "Another order is another prompt: leave out and keep the rest where it is.")
            asked.append(chosen)
            return score(chosen).clone()

        try:
            with given(case):
                got = attribute(ask, criteria)
        except (Wrong, NotImplementedError):
            raise
        except Exception as error:
            if len(criteria) == 1:
                raise wrong(case, "the same effect three times", f"{type(error).__name__}: {error}",
                            "Without its only criterion a rubric is (), and score(()) is defined: no rubric.") from error
            raise
        expected = expected or report.explain.attribute(score, criteria)
        if not isinstance(got, dict) or got.keys() != expected.keys():
            raise wrong(case, f"a dict with the keys {show(list(expected))}",
                        show(list(got) if isinstance(got, dict) else got), "None: is a return missing?" * (got is None))
        for key, mistakes in attribution_mistakes(score, criteria, expected).items():
            compare(f"{case}: {key!r}", got[key], expected[key], mistakes)
        if len(asked) > 2 + 2 * len(criteria):
            raise wrong(case, f"at most {2 + 2 * len(criteria)} calls of score", f"{len(asked)} calls",
                        "Every call is a forward pass: ask for score(r) and score(()) once, before the loop.")

    def effect(*values):
        return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)
    by_hand = {(): -3, ("A",): -1, ("B",): -2.5, ("A", "B"): -0.9}
    compared("the criteria A and B of the text", lambda chosen: effect(by_hand[chosen])[0], ("A", "B"),
             {"whole": effect(2.1)[0], "left out": effect(1.6, 0.1), "alone": effect(2, 0.5)})
    part = {c: normal(i, 2, 3) for i, c in enumerate("ABCD")}                                    # [M = 2, n = 3]
    base = normal(9, 2, 3)
    compared("a rubric of one criterion", lambda chosen: sum((part[c] for c in chosen), base), ("A",))
    compared("criteria that each add a part of their own, whatever else is there",
             lambda chosen: sum((part[c] for c in chosen), base), tuple("ABCD"))
    compared("criteria A A B, and saying A once is enough",
             lambda chosen: sum((part[c] for c in sorted(set(chosen))), base), tuple("AAB"))
    compared("criteria A B C, of which A and B work only together",
             lambda chosen: base + part["A"] * ("A" in chosen and "B" in chosen), tuple("ABC"))
    for names in ("AB", "CAB", "DBCA"):  # a value of its own for each tuple: another order is another prompt
        compared(f"criteria {' '.join(names)}, random scores [3, 5]",
                 lambda chosen: normal(int.from_bytes("".join(chosen).encode(), "big"), 3, 5), tuple(names))


# ------------------------------------------------------------------------------------------------------- the exercises
EXERCISES = [  # number, title, file, check, the shipped functions (the learner's have the same names)
    (1, "one BPE merge", "01_bpe_merge.py", check_1, (data.tokenizer._merge,)),
    (2, "causal attention with a cache", "02_attention_cache.py", check_2, (attend,)),
    (3, "a seeded sampler", "03_sampler.py", check_3, (model.sample,)),
    (4, "the completion mask and the shift", "04_completion_mask.py", check_4, (step.completion_hidden,)),
    (5, "token divergence", "05_token_divergence.py", check_5, (loss.token_divergence,)),
    (6, "its gradient by hand", "06_gradient.py", check_6, (divergence_gradient,)),
    (7, "the chunked loss", "07_chunked_loss.py", check_7, (chunked_loss,)),
    (8, "the rubric prompt", "08_rubric_prompt.py", check_8, (rubrics.prompt, data.tokenizer.encode)),
    (9, "group-relative advantages", "09_advantages.py", check_9, (rcsd.set_advantages,)),
    (10, "clipping", "10_clipping.py", check_10, (loss.token_divergence,)),
    (11, "per-criterion attribution", "11_attribution.py", check_11, (report.explain.attribute,)),
]


def too_long(*_):
    raise Endless(f"no result after {SECONDS} seconds: does a loop never end?")


def notes(error: BaseException) -> str:
    return "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))


def fault(error: BaseException, file: str) -> str:
    """The last line of an exception, and the last line of the learner's file that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == file]
    if isinstance(error, SyntaxError) and Path(error.filename or "").name == file:
        lines = [error.lineno]
    what = traceback.format_exception_only(type(error), error)[-1 - len(getattr(error, "__notes__", ()))].strip()
    return (f"line {lines[-1]} of {file}: {what}" if lines else what) + notes(error)


def run(check, file: str, functions=None, names=()) -> str:
    """'' if the check passed, or why not. Takes the functions given, or else those of that name in the file."""
    if hasattr(signal, "SIGALRM"):
        before = signal.signal(signal.SIGALRM, too_long)
        signal.alarm(SECONDS)
    try:
        if functions is None:
            path = HERE / file
            module = {"__name__": path.stem, "__file__": str(path)}
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module)
            if missing := [name for name in names if not callable(module.get(name))]:
                return f"{file} has no function {missing[0]}"
            functions = [module[name] for name in names]
        check(*functions)
    except NotImplementedError as error:
        if not str(error).startswith("exercise "):
            return fault(error, file)
        last = traceback.extract_tb(error.__traceback__)[-1].name
        return f"{last} is not written yet; what comes before it is right" if last in names[1:] else "not written yet"
    except Wrong as error:
        return str(error) + notes(error)
    except (Exception, SystemExit) as error:
        return fault(error, file)
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
    return ""


def main(arguments: list[str]) -> int:
    known = {str(number): entry for entry in EXERCISES for number in entry[:1]}
    if bad := [a for a in arguments if a not in known]:
        print(f"check.py: no exercise {bad[0]!r}; expected numbers from {EXERCISES[0][0]} to {EXERCISES[-1][0]}, or "
              f"none for all",
              file=sys.stderr)
        return 2
    results = Counter()
    for number, title, file, check, shipped in [known[a] for a in arguments] or EXERCISES:
        problem = run(check, file, names=[f.__name__ for f in shipped])
        results[problem == ""] += 1
        head, _, body = (problem or "passed").partition("\n")
        if problem and head != "not written yet":
            head, body = "not right yet", problem
        print(f"{number} {title}: {head}")
        print("".join(f"    {line}\n" for line in body.split("\n") if line), end="")
    if results.total() > 1:
        print(f"{results[True]} of {results.total()} passed")
    return 0 if not results[False] else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
