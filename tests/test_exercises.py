"""The exercises: every stub fails, the shipped source passes the same check, typical mistakes are named; and the bugs
of exercises/bugs show their symptom, which the fix in ANSWERS.md takes away."""
import contextlib
import functools
import inspect
import io
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import loss
import rcsd
import rubrics
import step
from data.tokenizer import _merge, encode
from exercises import check
from report.explain import attribute

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "exercises"
NUMBERS = [entry[0] for entry in check.EXERCISES]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def entry(number):
    return next(e for e in check.EXERCISES if e[0] == number)


# --------------------------------------------------------------------------------------------- stubs and solutions
@pytest.mark.parametrize("number", NUMBERS)
def test_the_stub_fails_and_the_shipped_source_passes(number):
    _, _, file, test, shipped = entry(number)
    names = [f.__name__ for f in shipped]
    assert check.run(test, file, names=names) == "not written yet"
    assert check.run(test, file, shipped) == ""


@pytest.mark.parametrize("number", NUMBERS)
def test_the_text_of_an_exercise_fits_the_source(number):
    _, _, file, _, shipped = entry(number)
    module = {"__name__": "stub"}
    text = (FOLDER / file).read_text(encoding="utf-8")
    exec(compile(text, file, "exec"), module)
    doc = module["__doc__"]
    assert doc.startswith(f"{number}. ") and re.search(r"about \d+ lines, \d+ minutes", doc.split("\n")[0])
    assert "By hand: " in doc and f"python -m exercises.check {number}" in doc
    for f in shipped:
        assert list(inspect.signature(module[f.__name__]).parameters) == list(inspect.signature(f).parameters)
    for path, name in re.findall(r"((?:data/|report/)?\w+\.py): (\w+)", doc):
        assert re.search(rf"^(def |class )?{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.M), (path, name)
    assert re.search(r"(lives? in|spread over) (data/|report/)?\w+\.py", doc)
    assert max(map(len, text.split("\n"))) <= 120


HAND = {1: ["aa a b", "3 tokens"], 2: ["mean is 5", "4."], 3: ["0.685", "0.735"], 4: ["positions 1, 2, 3", "6 7 8"],
        5: ["0.0367", "0.0444", "0.0100"], 6: ["(-0.10, 0.10)", "-0.1297"], 7: ["0.0367", "-0.0693", "(-0.1, 0.1)"],
        8: ["258 97 98 262", "258 97 98 259 53 32 99 262"], 9: ["1.7321", "-0.5774", "0.5"],
        10: ["-0.0193", "+0.08", "-0.0273"],
        11: ["= 2.1", "2.5 = 1.6", "1 = 0.1", "3 = 2,", "3 = 0.5", "sum to 1.7", "alone to 2.5"]}


def test_the_numbers_worked_by_hand():
    """The values in the texts, from the shipped functions. (The checks use them as literals, too.)"""
    for number, values in HAND.items():
        doc = (FOLDER / entry(number)[2]).read_text(encoding="utf-8")
        assert [v for v in values if v not in doc] == [], number
    assert _merge([b"a", b"a", b"a", b"b"], (b"a", b"a")) == [b"aa", b"a", b"b"]
    s, t = check.logs((0.8, 0.2)), check.logs((0.9, 0.1))
    assert [round(loss.token_divergence(s, t, beta=b).item(), 4) for b in (0.0, 1.0, 0.5)] == [0.0367, 0.0444, 0.0100]
    assert round(check.divergence_gradient(s, t, 1.0, 1.0)[0, 0].item(), 4) == -0.1297
    assert check.kept([0.5, 0.3, 0.15, 0.05], 0.5, None, None)[0] == pytest.approx(0.685, abs=5e-4)
    assert check.kept([0.5, 0.3, 0.15, 0.05], 0.5, 2, None)[0] == pytest.approx(0.735, abs=5e-4)
    log_p = {(): -3.0, ("A",): -1.0, ("B",): -2.5, ("A", "B"): -0.9}
    found = attribute(lambda chosen: torch.tensor([[log_p[chosen]]]), ("A", "B"))
    assert {k: [round(x, 4) for x in v.flatten().tolist()] for k, v in found.items()} == {
        "whole": [2.1], "left out": [1.6, 0.1], "alone": [2.0, 0.5]}


# ------------------------------------------------------------------------------------------------- typical mistakes
def merge_with(step=2, first_only=False, in_place=False):
    def merge(word, pair):
        out, i, done = [], 0, False
        while i < len(word):
            if tuple(word[i:i + 2]) == pair and not (first_only and done):
                out.append(pair[0] + pair[1])
                done = True
                i += step if i + 2 < len(word) else 2
            else:
                out.append(word[i])
                i += 1
        if in_place:
            word[:] = out
        return out
    return merge


def from_the_right(word, pair):
    out, i = [], len(word)
    while i > 0:
        hit = tuple(word[max(0, i - 2):i]) == pair
        out.insert(0, pair[0] + pair[1] if hit else word[i - 1])
        i -= 2 if hit else 1
    return out


def attend_with(write=True, **switch):
    def attend(q, k, v, keys, values, lengths):
        for b, length in enumerate(lengths if write == "own" else [max(lengths)] * len(lengths)):
            keys[b, :, length:length + q.shape[2]], values[b, :, length:length + q.shape[2]] = k[b], v[b]
        return check.read(q, keys, values, lengths, **switch)
    return attend


def joined_beside(q, k, v, keys, values, lengths):
    """Never writes, and reads the whole buffer."""
    return torch.nn.functional.scaled_dot_product_attention(q, torch.cat([keys, k], 2), torch.cat([values, v], 2),
                                                            enable_gqa=True)


def sample_with(change=lambda z, temperature, k, p, u: (z, temperature, k, p, u), ranks=False):
    def sample(logits, temperature, top_k, top_p, uniform):
        logits, temperature, top_k, top_p, uniform = change(logits, temperature, top_k, top_p, uniform)
        if ranks:
            logits = logits.sort(-1, descending=True).values
        return check.model.sample(logits, temperature, top_k, top_p, uniform)
    return sample


def late_temperature(logits, temperature, top_k, top_p, uniform):
    """top-p of the distribution at temperature 1."""
    if temperature == 0:
        return logits.argmax(-1)
    z, ids = logits.topk(min(top_k or logits.shape[-1], logits.shape[-1]), -1)
    p = z.softmax(-1)
    if top_p is not None:
        z = z.masked_fill(p.cumsum(-1) - p >= top_p - 1e-12, -math.inf)
    edges = (z / temperature).softmax(-1).cumsum(-1)
    return ids.gather(1, torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True))[:, 0]


def without_the_crossing_token(logits, temperature, top_k, top_p, uniform):
    if temperature == 0:
        return logits.argmax(-1)
    z, ids = (logits / temperature).topk(min(top_k or logits.shape[-1], logits.shape[-1]), -1)
    if top_p is not None:
        out = z.softmax(-1).cumsum(-1) >= top_p - 1e-9
        out[:, 0] = False
        z = z.masked_fill(out, -math.inf)
    edges = z.softmax(-1).cumsum(-1)
    return ids.gather(1, torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True))[:, 0]


def sampler_by_sorting(bound="kept", renormalise=True):
    def sample(logits, temperature, top_k, top_p, uniform):
        if temperature == 0:
            return logits.argmax(-1)
        p, ids = (logits / temperature).softmax(-1).sort(-1, descending=True)
        p[:, top_k or p.shape[1]:] = 0
        p = p / p.sum(-1, keepdim=True) if renormalise else p
        if top_p is not None:
            p[p.cumsum(-1) - (p if bound == "kept" else 0) >= top_p] = 0
            p = p / p.sum(-1, keepdim=True)
        drawn = torch.searchsorted(p.cumsum(-1), uniform[:, None], right=True).clamp(max=p.shape[1] - 1)
        return ids.gather(1, drawn)[:, 0]
    return sample


def padded_on_the_left(model, rows):
    ids = [p + c[:-1] for p, c in rows]
    longest = max(map(len, ids))
    states = model(torch.tensor([[0] * (longest - len(row)) + row for row in ids]))
    return torch.cat([state[longest - len(c):] for state, (_, c) in zip(states, rows)])


def hidden_with(first=-1, last=-1, order=False, fed=-1):
    def completion_hidden(model, rows):
        if order:
            rows = sorted(rows, key=lambda r: len(r[0]) + len(r[1]))
        out = []
        for p, c in rows:
            ids = p + c if fed == 0 or first == 0 or last == 0 else (p + c)[:-1]
            out.append(model(torch.tensor([ids]))[0, max(0, len(p) + first):len(p) + len(c) + last])
        return torch.cat(out)
    return completion_hidden


def divergence_with(change):
    """`change(f [N, V], p, q, temperature)` makes the value from the shipped terms; or other settings go in."""
    def token_divergence(s, t, *, beta=0.0, temperature=1.0, top_k=None, clip=None, clip_mode="none"):
        return change(s, t, beta, temperature)
    return token_divergence


D = loss.token_divergence


def m_swapped(s, t, beta, temperature):
    a, b = (s / temperature).log_softmax(-1), (t.detach() / temperature).log_softmax(-1)
    if beta in (0, 1):
        return D(s, t, beta=beta, temperature=temperature)
    m = ((1 - beta) * b.exp() + beta * a.exp()).log()
    return beta * (b.exp() * (b - m)).sum(-1) + (1 - beta) * (a.exp() * (a - m)).sum(-1)


def summed_over_tokens(s, t, beta, temperature):
    return loss.divergence_terms((t / temperature).log_softmax(-1), (s / temperature).log_softmax(-1), beta)[0].sum(0)


def plain_kl(s, t, beta, temperature):
    """Right, but 0 * log 0 is nan."""
    a, b = (s / temperature).log_softmax(-1), (t.detach() / temperature).log_softmax(-1)
    if beta in (0, 1):
        a, b = (a, b) if beta == 0 else (b, a)
        return (b.exp() * (b - a)).sum(-1)
    return D(s, t, beta=beta, temperature=temperature)


def hidden_nan(s, t, beta, temperature):
    """The right value, but the gradient of a forbidden token is nan."""
    a, b = (s / temperature).log_softmax(-1), (t.detach() / temperature).log_softmax(-1)
    def kl(x, y):
        return torch.where(x == -math.inf, 0, x.exp() * (x - y)).sum(-1)
    if beta in (0, 1):
        return kl(b, a) if beta == 0 else kl(a, b)
    m = torch.logaddexp(b + math.log(beta), a + math.log(1 - beta))
    return beta * kl(b, m) + (1 - beta) * kl(a, m)


def log_of_the_mixture(s, t, beta, temperature):
    """Not in logarithms: a mixture of two probabilities that round to 0 has the logarithm -inf."""
    a, b = ((z / temperature).log_softmax(-1).clamp(min=-1e4) for z in (s, t.detach()))
    if beta in (0, 1):
        return D(s, t, beta=beta, temperature=temperature)
    m = (beta * b.exp() + (1 - beta) * a.exp()).log()
    return beta * (b.exp() * (b - m)).sum(-1) + (1 - beta) * (a.exp() * (a - m)).sum(-1)


def attached(s, t, beta, temperature):
    a, b = (s / temperature).log_softmax(-1), (t / temperature).log_softmax(-1)
    return loss.divergence_terms(b, a, beta)[0].sum(-1)


def gradient_with(change):
    return lambda z, t, beta, tau: change(check.divergence_gradient(z, t, beta, tau), z, t, beta, tau)


def teacher_undivided(right, z, t, beta, tau):
    return check.divergence_gradient(z, t * tau, beta, tau)


def slope_only(right, z, t, beta, tau):
    return loss.divergence_terms((t / tau).log_softmax(-1), (z / tau).log_softmax(-1), beta)[1] / tau


def kl_forgotten(right, z, t, beta, tau):
    a, b = (z / tau).log_softmax(-1), (t / tau).log_softmax(-1)
    return right if beta != 1 else a.exp() * (a - b) / tau


def chunks_with(scale="all", add=True, keep=False, tau_once=False, last=True):
    def chunked_loss(x, w, y, u, *, beta=0.0, temperature=1.0, denominator=None, rows=128):
        n, total, dx, dw, kept = len(x), 0.0, [], torch.zeros_like(w), []
        starts = list(range(0, n, rows))
        for i in starts if last or len(starts) == 1 else starts[:-1]:
            part = x[i:i + rows]
            z, z_teacher = part @ w.T, y[i:i + rows] @ u.T
            losses = loss.token_divergence(z, z_teacher, beta=beta, temperature=temperature)
            dz = check.divergence_gradient(z, z_teacher, beta, temperature)
            count = {"all": denominator or n, "own": len(part), "mean": len(part) * len(starts), "none": 1}[scale]
            dz = dz / count * (temperature if tau_once else 1)
            total = total + losses.sum() / count
            dx.append(dz @ w)
            dw = dw + dz.T @ part if add else dz.T @ part
            kept.append((dz, losses) if keep else None)
        dx = torch.cat(dx + [torch.zeros(n - sum(map(len, dx)), x.shape[1], dtype=x.dtype)])
        return total, dx, dw
    return chunked_loss


def encode_joined(tokenizer, sections):
    return tokenizer.encode("".join(f"<|{name}|>{text}" for name, text in sections))


def encode_special(tokenizer, sections):
    return tokenizer.encoding.encode("".join(f"<|{name}|>{text}" for name, text in sections), allowed_special="all")


def prompt_with(change):
    return lambda question, **more: change(rubrics.prompt(question, **more), more)


def advantages_with(group_of=None, less=0, divide=True, nan=False, result=lambda silent, groups: silent / groups):
    def set_advantages(rollouts, rewards, group):
        silent, groups = 0, [range(i, i + group) for i in range(0, len(rewards), group)]
        for members in groups:
            equal = len({rewards[i] for i in members}) == 1
            silent += equal
            base = [rewards[i] for i in (members if group_of is None else range(len(rewards)))]
            mean = sum(base) / len(base)
            spread = (sum((r - mean) ** 2 for r in base) / (len(base) - less)) ** 0.5
            for i in members:
                if nan and equal:
                    rollouts[i].advantage = math.nan
                elif spread < 1e-12 or (equal and group_of is None):
                    rollouts[i].advantage = 0.0
                else:
                    rollouts[i].advantage = (rewards[i] - mean) / (spread if divide else 1)
        return result(silent, len(groups))
    return set_advantages


def advantages_by_torch(more=0.0):
    """As many would write it, in float32."""
    def set_advantages(rollouts, rewards, group):
        r = torch.tensor(rewards).view(-1, group)
        spread = r.std(1, keepdim=True, correction=0)
        silent = (r == r[:, :1]).all(1, keepdim=True)
        advantage = torch.where(silent, 0, (r - r.mean(1, keepdim=True)) / (spread + more))
        for rollout, a in zip(rollouts, advantage.flatten()):
            rollout.advantage = a
        return silent.float().mean().item()
    return set_advantages


def zero_deviation(rollouts, rewards, group):
    for start in range(0, len(rewards), group):
        part = rewards[start:start + group]
        middle = sum(part) / group
        spread = (sum((r - middle) ** 2 for r in part) / group) ** 0.5
        for rollout, r in zip(rollouts[start:start + group], part):
            rollout.advantage = (r - middle) / spread if spread else 0.0
    return rcsd.set_advantages([check.types.SimpleNamespace() for _ in rewards], rewards, group)


def interleaved(rollouts, rewards, group):
    for i in range(len(rewards) // group):
        part = slice(i, None, len(rewards) // group)
        rcsd.set_advantages(rollouts[part], rewards[part], group)
    return 0.0


def clip_with(**own):
    def token_divergence(s, t, *, beta=0.0, temperature=1.0, top_k=None, clip=None, clip_mode="none"):
        f = loss.divergence_terms((t / temperature).log_softmax(-1), (s / temperature).log_softmax(-1), beta)[0]
        if clip_mode in own:
            return own[clip_mode](f, f.sum(-1), clip)
        return D(s, t, beta=beta, temperature=temperature, clip=clip, clip_mode=clip_mode)
    return token_divergence


def attribute_with(left=lambda s, r, i: s(r) - s(r[:i] + r[i + 1:]), alone=lambda s, r, i: s((r[i],)) - s(()),
                   whole=lambda s, r: s(r) - s(()), axis=0, cached=True):
    def attribute(score, criteria):
        s, places = functools.cache(score) if cached else score, range(len(criteria))
        return {"whole": whole(s, criteria), "left out": torch.stack([left(s, criteria, i) for i in places], axis),
                "alone": torch.stack([alone(s, criteria, i) for i in places], axis)}
    return attribute


def the_others_added_up(s, r, i):
    """Right for two criteria; of one there are no others, and stack([]) raises."""
    return s(r) - s(()) - torch.stack([s((c,)) - s(()) for c in r[:i] + r[i + 1:]]).sum(0)


WRONG = [  # exercise, the wrong functions, what the message says
    (1, [merge_with(step=1)], "used twice"),
    (1, [from_the_right], "from the left"),
    (1, [merge_with(first_only=True)], "Only the first occurrence"),
    (1, [lambda word, pair: _merge(word, pair)[:-1]], "Is the last token lost"),
    (1, [merge_with(in_place=True)], "the word itself was changed"),
    (1, [lambda word, pair: None], "is a return missing"),
    (1, [lambda word, pair: list(word)], "never equal to a tuple"),
    (2, [attend_with("own", scale=False)], "divided by sqrt"),
    (2, [attend_with("own", visible="future")], "new tokens behind it"),
    (2, [attend_with("own", visible="no cache")], "starts at column 0"),
    (2, [attend_with("own", visible="longest")], "stale"),
    (2, [attend_with("own", visible="one short")], "see itself"),
    (2, [attend_with("own", neighbours=False)], "repeat_interleave"),
    (2, [joined_beside], "The buffers are as they were"),
    (3, [sample_with(lambda z, tau, k, p, u: (z, 1.0, k, p, u))], "without a temperature"),
    (3, [sample_with(lambda z, tau, k, p, u: (z * tau ** 2, tau, k, p, u))], "Multiplied by the temperature"),
    (3, [late_temperature], "Temperature first"),
    (3, [without_the_crossing_token], "reaches top_p is kept"),
    (3, [sample_with(lambda z, tau, k, p, u: (z, tau, None, p, u))], "without top_k"),
    (3, [sample_with(lambda z, tau, k, p, u: (z, tau, k, p, u[:1].expand(len(u)).contiguous()))], "Every row drew"),
    (3, [sample_with(lambda z, tau, k, p, u: (z, tau, k, p, torch.rand(len(u), dtype=u.dtype)))], "in `uniform` alone"),
    (3, [sampler_by_sorting(bound="truncated")], "reaches top_p is kept"),
    (3, [sampler_by_sorting(renormalise=False)], "that was cut is drawn"),
    (3, [lambda *a: check.model.sample(*a)[:, None]], "int64 [20000]"),
    (4, [hidden_with(first=0, last=0)], "The shift is missing"),
    (4, [hidden_with(first=-2, last=-2)], "Shifted twice"),
    (4, [hidden_with(first=-99, last=-1)], "The prompt is in it"),
    (4, [hidden_with(first=0, last=-1)], "first completion token has no state"),
    (4, [hidden_with(order=True)], "order of the rows"),
    (4, [hidden_with(fed=0)], "need not be read"),
    (4, [padded_on_the_left], "Padded on the left"),
    (4, [lambda model, rows: step.completion_hidden(model, rows)[None]], "an axis too many"),
    (5, [divergence_with(lambda s, t, b, tau: D(s, t, beta=1 - b, temperature=tau))], "teacher are swapped"),
    (5, [divergence_with(lambda s, t, b, tau: D(s, t, beta=b))], "divide both logits"),
    (5, [divergence_with(lambda s, t, b, tau: D(s, t, beta=b, temperature=tau).mean())], "mean over the tokens"),
    (5, [divergence_with(lambda s, t, b, tau: D(s, t, beta=b, temperature=tau) * tau ** 2)], "Hinton"),
    (5, [divergence_with(lambda s, t, b, tau: D(s, t, beta=b, temperature=tau) / s.shape[-1])], "over the vocabulary"),
    (5, [divergence_with(summed_over_tokens)], "last axis"),
    (5, [divergence_with(m_swapped)], "weights inside m are swapped"),
    (5, [divergence_with(plain_kl)], "0 * inf"),
    (5, [divergence_with(attached)], "Detach them"),
    (5, [divergence_with(hidden_nan)], "Replace the -inf before"),
    (5, [divergence_with(log_of_the_mixture)], "nan: look for"),
    (6, [gradient_with(lambda g, *rest: -g)], "sign is turned around"),
    (6, [gradient_with(lambda g, z, t, b, tau: g * tau)], "1 / temperature is missing"),
    (6, [gradient_with(slope_only)], "slope for log q"),
    (6, [gradient_with(kl_forgotten)], "KL inside the bracket"),
    (6, [gradient_with(teacher_undivided)], "teacher's logits are not divided"),
    (6, [gradient_with(lambda g, z, t, b, tau: g if b in (0, 1) else g / (1 - b))], "factor (1 - beta)"),
    (7, [chunks_with(scale="mean")], "mean of the chunks' means"),
    (7, [chunks_with(scale="own")], "own size"),
    (7, [chunks_with(scale="none")], "divide by N"),
    (7, [chunks_with(add=False)], "adds up over the chunks"),
    (7, [chunks_with(tau_once=True)], "lacks 1 / temperature"),
    (7, [chunks_with(keep=True)], "one chunk at a time"),
    (8, [rubrics.prompt, encode_joined], "encoded as text"),
    (8, [rubrics.prompt, encode_special], "written in the data became one"),
    (8, [rubrics.prompt, lambda t, sections: encode(t, sections) + [t.eos]], "no EOS"),
    (8, [prompt_with(lambda p, more: p[:-1]), encode], "last section is missing"),
    (8, [prompt_with(lambda p, more: p[1:-1] + p[:1] + p[-1:]), encode], "question comes first"),
    (8, [prompt_with(lambda p, more: p[:-1] + [("solve", "")]), encode], "that is 'write_rubric' here"),
    (9, [advantages_with(group_of="batch")], "whole batch"),
    (9, [advantages_with(less=1)], "n - 1"),
    (9, [interleaved], "groups are neighbours"),
    (9, [zero_deviation], "Compare the rewards themselves"),
    (9, [advantages_by_torch(more=1e-4)], "added to the deviation"),
    (9, [advantages_with(divide=False)], "division by the standard deviation"),
    (9, [advantages_with(nan=True)], "equal rewards"),
    (9, [advantages_with(result=lambda silent, groups: silent)], "number of silent groups"),
    (9, [lambda rollouts, rewards, group: 0.5], "Set rollout.advantage"),
    (10, [clip_with(scale=lambda f, d, c: d * (c / d).clamp(max=1))], "not detached"),
    (10, [clip_with(scale=lambda f, d, c: d * (c / d.detach()))], "at most 1"),
    (10, [clip_with(scale=lambda f, d, c: d.clamp(max=c))], "not detached"),
    (10, [clip_with(pointwise=lambda f, d, c: f.clamp(-c, c).sum(-1))], "negative terms are clamped too"),
    (10, [clip_with(token=lambda f, d, c: f.clamp(max=c).sum(-1))], "This is clip_mode 'pointwise'"),
    (11, [attribute_with(left=lambda s, r, i: s(r[:i] + r[i + 1:]) - s(()))], "compared with no rubric"),
    (11, [attribute_with(left=lambda s, r, i: s(r[:i] + r[i + 1:]) - s(r))], "sign is turned"),
    (11, [attribute_with(whole=lambda s, r: s(()) - s(r))], "sign is turned"),
    (11, [attribute_with(alone=lambda s, r, i: s((r[i],)) - s(r))], "alone is against none"),
    (11, [attribute_with(alone=lambda s, r, i: s(r) - s((r[i],)))], "alone is against none"),
    (11, [attribute_with(alone=lambda s, r, i: s((r[i],)))], "score(()) is not subtracted"),
    (11, [attribute_with(left=lambda s, r, i: s((r[i],)) - s(()))], "each criterion alone"),
    (11, [attribute_with(left=the_others_added_up)], "score(()) is defined"),
    (11, [attribute_with(left=lambda s, r, i: s(r) - s(tuple(c for c in r if c != r[i])))], "by place"),
    (11, [attribute_with(alone=lambda s, r, i: s(r[i]) - s(()))], "the tuple (c,)"),
    (11, [attribute_with(left=lambda s, r, i: s(r) - s(r[i + 1:] + r[:i]))], "Another order is another prompt"),
    (11, [attribute_with(axis=1)], "the first axis"),
    (11, [attribute_with(cached=False)], "before the loop"),
]


@pytest.mark.parametrize("case", range(len(WRONG)), ids=lambda i: f"{WRONG[i][0]}-{WRONG[i][2]}")
def test_a_typical_mistake_is_named(case):
    number, functions, words = WRONG[case]
    _, _, file, test, _ = entry(number)
    message = check.run(test, file, functions)
    assert words in message, message
    assert "input " in message and "expected " in message and "came " in message


def divergence_by_hand(s, t, beta, temperature):
    """As a learner may write it, without the shipped terms."""
    a, b = ((z / temperature).log_softmax(-1).clamp(min=-1e4) for z in (s, t.detach()))              # [N, V]
    def kl(x, y):
        return (x.exp() * (x - y)).sum(-1)
    if beta in (0, 1):
        return kl(b, a) if beta == 0 else kl(a, b)
    m = torch.logaddexp(b + math.log(beta), a + math.log(1 - beta))
    return beta * kl(b, m) + (1 - beta) * kl(a, m)


def gradient_by_autograd(z, t, beta, tau):
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        return torch.autograd.grad(divergence_by_hand(z, t, beta, tau).sum(), z)[0]


def in_vocabulary_order(logits, temperature, top_k, top_p, uniform):
    """The same distribution as the shipped sampler's, laid out in another order."""
    if temperature == 0:
        return logits.argmax(-1)
    p = (logits / temperature).softmax(-1)
    order = p.argsort(-1, descending=True)
    q = p.gather(1, order)
    q[:, top_k or q.shape[1]:] = 0
    if top_p is not None:
        q[q.cumsum(-1) - q >= top_p * q.sum(-1, keepdim=True) - 1e-12] = 0
    edges = torch.zeros_like(p).scatter(1, order, q).cumsum(-1)
    return torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True)[:, 0]


@pytest.mark.parametrize("number, function", [
    (1, merge_with()), (2, attend_with("own")), (3, in_vocabulary_order), (4, hidden_with()),
    (5, divergence_with(divergence_by_hand)), (6, gradient_by_autograd), (7, chunks_with()), (9, advantages_with()),
    (9, advantages_by_torch()), (3, sampler_by_sorting()),
    (10, clip_with(scale=lambda f, d, c: d * (c / d.detach()).clamp(max=1), token=lambda f, d, c: d.clamp(max=c),
                   pointwise=lambda f, d, c: f.clamp(max=c).sum(-1), none=lambda f, d, c: d)),
    (11, attribute_with())])
def test_another_right_solution_passes(number, function):
    _, _, file, test, _ = entry(number)
    assert check.run(test, file, [function]) == ""


def test_every_exercise_has_at_least_two_wrong_solutions():
    assert all(sum(w[0] == number for w in WRONG) >= 2 for number in NUMBERS)


# ----------------------------------------------------------------------------------------------------- the checker
def learner(tmp_path, monkeypatch, number, body, head=""):
    """A copy of the folder in which one stub has a body (its lines indented by 4), and what check.py then prints."""
    for e in check.EXERCISES:
        (tmp_path / e[2]).write_text((FOLDER / e[2]).read_text(encoding="utf-8"), encoding="utf-8")
    file = tmp_path / entry(number)[2]
    stub = f'    raise NotImplementedError("exercise {number}: replace this line")'
    file.write_text(head + file.read_text(encoding="utf-8").replace(stub, body), encoding="utf-8")
    monkeypatch.setattr(check, "HERE", tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = check.main([str(number)])
    return code, out.getvalue(), file


def test_a_solution_passes(tmp_path, monkeypatch):
    solution = "    from loss import token_divergence as t\n    return t(student_logits, teacher_logits, beta=beta, " \
               "temperature=temperature)"
    assert learner(tmp_path, monkeypatch, 5, solution)[:2] == (0, "5 token divergence: passed\n")


def test_what_the_learner_sees_of_an_error(tmp_path, monkeypatch):
    code, out, file = learner(tmp_path, monkeypatch, 1, "    first = word[0]\n    return first + 1 + 'x'")
    number = file.read_text(encoding="utf-8").split("\n").index("    return first + 1 + 'x'") + 1
    assert code == 1 and f"line {number} of 01_bpe_merge.py: TypeError" in out and "Traceback" not in out
    code, out, file = learner(tmp_path, monkeypatch, 9, "    return (")
    assert code == 1 and "of 09_advantages.py: SyntaxError" in out and "Traceback" not in out
    code, out, _ = learner(tmp_path, monkeypatch, 1, "    return [word[i] + word[i + 1] for i in range(len(word))]")
    assert "IndexError: list index out of range\n    input     word [b'a', b'a', b'a', b'b'], pair" in out
    code, out, _ = learner(tmp_path, monkeypatch, 4, "    raise SystemExit('bye')")
    assert code == 1 and "SystemExit: bye" in out


@pytest.mark.skipif(not hasattr(check.signal, "SIGALRM"), reason="needs alarms")
def test_an_endless_loop_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 1)
    code, out, _ = learner(tmp_path, monkeypatch, 1, "    while True:\n        pass")
    assert code == 1 and "does a loop never end?\n    input     word" in out


def test_which_of_two_functions_is_missing(tmp_path, monkeypatch):
    stub = (FOLDER / entry(8)[2]).read_text(encoding="utf-8").replace(
        '    raise NotImplementedError("exercise 8: replace this line")',
        "    from rubrics import prompt as p\n    return p(question, rubric=rubric, answer=answer, solution=solution, "
        "task=task)", 1)
    (tmp_path / entry(8)[2]).write_text(stub, encoding="utf-8")
    monkeypatch.setattr(check, "HERE", tmp_path)
    assert check.run(check.check_8, entry(8)[2], names=["prompt", "encode"]).startswith("encode is not written yet")


def test_the_digits_and_the_place_of_a_difference():
    a, b = torch.zeros(5, 4).double(), torch.zeros(5, 4).double()
    b[3, 1] = 2.5
    cases = (1.0, 1.00001, "expected  1.00001\n"), (b, a, "at [3, 1], where they differ most, 2.5")
    for got, expected, words in cases:
        with pytest.raises(check.Wrong) as error:
            check.compare("a case", got, expected)
        assert words in str(error.value)


def test_the_command_line():
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "exercises.check", *arguments], cwd=ROOT, capture_output=True, text=True)

    for bad in ("99", "five", "-1"):
        assert check.main([bad]) == 2
    done = run("0")
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "'0'" in done.stderr and "1 to 11" in done.stderr
    done = run()
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and len(lines) == len(NUMBERS) + 1 and lines[-1] == f"0 of {len(NUMBERS)} passed"
    assert all(line.endswith(": not written yet") for line in lines[:-1])


# ---------------------------------------------------------------------------------------------------- find the bug
ANSWERS = (FOLDER / "bugs" / "ANSWERS.md").read_text(encoding="utf-8")
FIXES = {name: text for name, text in re.findall(r"<summary>(\S+\.py)</summary>(.*?)</details>", ANSWERS, re.S)}
BUGS = sorted(path.name for path in (FOLDER / "bugs").glob("*.py"))


def symptom(source, path):
    """Runs a snippet; its last line is "what: number (healthy: at least|at most number)". (healthy?, the line)"""
    out, before = io.StringIO(), list(sys.path)
    with contextlib.redirect_stdout(out), torch.random.fork_rng():
        exec(compile(source, str(path), "exec"), {"__name__": "__main__", "__file__": str(path)})
    sys.path[:] = before
    line = out.getvalue().strip().split("\n")[-1]
    value, rule, bound = re.search(r": (\S+) \(healthy: (at least|at most) (\S+)\)$", line).groups()
    return float(value) >= float(bound) if rule == "at least" else float(value) <= float(bound), line


def fixed(source, answer):
    """The source with the diffs of an answer applied: the lines with - are there once and become those with +."""
    for diff in re.findall(r"```diff\n(.*?)```", answer, re.S):
        old, new = ("\n".join(line[1:] for line in diff.split("\n") if line.startswith(sign)) for sign in "-+")
        assert source.count(old + "\n") == 1
        source = source.replace(old + "\n", new + "\n")
    return source


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_shows_and_its_fix_heals(name):
    path = FOLDER / "bugs" / name
    source = path.read_text(encoding="utf-8")
    assert len([line for line in source.split("\n") if line.strip()]) <= 45 and max(map(len, source.split("\n"))) <= 120
    healthy, line = symptom(source, path)
    assert not healthy, line
    healthy, line = symptom(fixed(source, FIXES[name]), path)
    assert healthy, line


def test_every_bug_has_an_answer_and_its_pointers_hold():
    assert list(FIXES) == BUGS and len(BUGS) >= 8
    for name, answer in FIXES.items():
        assert "**What.**" in answer and "```diff" in answer
        done = answer[answer.index("**Done right.**"):]
        found = re.findall(r"`((?:data/)?\w+\.py)`: `(\w+)", done)
        assert found, name
        for path, what in found:
            assert re.search(rf"^(def |class )?{what}\b", (ROOT / path).read_text(encoding="utf-8"), re.M), (path, what)


def test_the_commands_of_the_investigations_are_accepted():
    """Each command parses with today's settings. Nothing is trained."""
    from trainer.command_line import settings_from, settings_parser
    text = (FOLDER / "INVESTIGATIONS.md").read_text(encoding="utf-8")
    shared, = re.findall(r'^run\(\) .*python rcsd\.py (stage2 .*) --out out/"\$@"; }$', text, re.M)
    commands = re.findall(r"^run (\S+ --.*)", text, re.M)
    assert len(commands) >= 6
    parser = settings_parser("")
    parser.add_argument("command")
    for command in commands:
        command = command.split("#")[0].replace("$mode", "scale")
        command = re.sub(r"\$\w+", "0.5", command)                             # $rate, $beta
        settings_from(parser.parse_args(f"{shared} --out out/{command}".split()))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_shell_functions_of_the_investigations(tmp_path):
    """`run` gives rcsd.py the folder and the flags, `share` links, `columns` prints: with a python that only echoes."""
    text = (FOLDER / "INVESTIGATIONS.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```bash\n(.*?)```", text, re.S) if "() {" in block]
    script = "\n".join(blocks).replace("columns out/cpu/stage2.jsonl", "columns log.jsonl")
    (tmp_path / "log.jsonl").write_text('{"step": 0, "loss": 0.5}\n{"step": 1, "correct": 1}\n', encoding="utf-8")
    script += "\npython() { echo \"$@\"; }\nfor i in 1 2; do run a --rubrics reference; done; ls out/a"
    script = f"python() {{ '{sys.executable}' \"$@\"; }}\n" + script
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["0\t0.5\t\t\t", "1\t\t1\t\t"]
    assert lines[2:4] == ["rcsd.py stage2 --preset cpu --batch 32 --eval-every 10 --out out/a --rubrics reference"] * 2
    assert lines[4:] == sorted(["data", "base.pt", "base.jsonl", "stage1.pt", "stage1.jsonl", "rubrics.jsonl"])
