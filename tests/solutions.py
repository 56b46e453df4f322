"""Solutions of the exercises as learners write them: wrong ones, by switches, and right ones."""

import functools
import math
from types import SimpleNamespace

import torch

import loss
import model
import rubrics
import step
from exercises.checks.check_02_attention_cache import read
from exercises.checks.check_06_gradient import divergence_gradient


def merge_with(step=2, first_only=False, in_place=False):
    def merge(word, pair):
        out, i, done = [], 0, False
        while i < len(word):
            if tuple(word[i : i + 2]) == pair and not (first_only and done):
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
        hit = tuple(word[max(0, i - 2) : i]) == pair
        out.insert(0, pair[0] + pair[1] if hit else word[i - 1])
        i -= 2 if hit else 1
    return out


def attend_with(write=True, **switch):
    def attend(q, k, v, keys, values, lengths):
        for b, length in enumerate(lengths if write == "own" else [max(lengths)] * len(lengths)):
            new = slice(length, length + q.shape[2])
            keys[b, :, new], values[b, :, new] = k[b], v[b]
        return read(q, keys, values, lengths, **switch)

    return attend


def joined_beside(q, k, v, keys, values, lengths):
    """Never writes, and reads the whole buffer."""
    return torch.nn.functional.scaled_dot_product_attention(
        q, torch.cat([keys, k], 2), torch.cat([values, v], 2), enable_gqa=True
    )


def sample_with(change=None, ranks=False):
    def sample(logits, temperature, top_k, top_p, uniform):
        settings = logits, temperature, top_k, top_p, uniform
        logits, temperature, top_k, top_p, uniform = change(*settings) if change else settings
        if ranks:
            logits = logits.sort(-1, descending=True).values
        return model.sample(logits, temperature, top_k, top_p, uniform)

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
    return ids.gather(1, torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True))[
        :, 0
    ]


def without_the_crossing_token(logits, temperature, top_k, top_p, uniform):
    if temperature == 0:
        return logits.argmax(-1)
    z, ids = (logits / temperature).topk(min(top_k or logits.shape[-1], logits.shape[-1]), -1)
    if top_p is not None:
        out = z.softmax(-1).cumsum(-1) >= top_p - 1e-9
        out[:, 0] = False
        z = z.masked_fill(out, -math.inf)
    edges = z.softmax(-1).cumsum(-1)
    return ids.gather(1, torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True))[
        :, 0
    ]


def sampler_by_sorting(bound="kept", renormalise=True):
    def sample(logits, temperature, top_k, top_p, uniform):
        if temperature == 0:
            return logits.argmax(-1)
        p, ids = (logits / temperature).softmax(-1).sort(-1, descending=True)
        p[:, top_k or p.shape[1] :] = 0
        p = p / p.sum(-1, keepdim=True) if renormalise else p
        if top_p is not None:
            p[p.cumsum(-1) - (p if bound == "kept" else 0) >= top_p] = 0
            p = p / p.sum(-1, keepdim=True)
        drawn = torch.searchsorted(p.cumsum(-1), uniform[:, None], right=True).clamp(
            max=p.shape[1] - 1
        )
        return ids.gather(1, drawn)[:, 0]

    return sample


def padded_on_the_left(model, rows):
    ids = [p + c[:-1] for p, c in rows]
    longest = max(map(len, ids))
    states = model(torch.tensor([[0] * (longest - len(row)) + row for row in ids]))
    return torch.cat([state[longest - len(c) :] for state, (_, c) in zip(states, rows)])


def hidden_with(first=-1, last=-1, order=False, fed=-1):
    def completion_hidden(model, rows):
        if order:
            rows = sorted(rows, key=lambda r: len(r[0]) + len(r[1]))
        out = []
        for p, c in rows:
            ids = p + c if fed == 0 or first == 0 or last == 0 else (p + c)[:-1]
            out.append(
                model(torch.tensor([ids]))[0, max(0, len(p) + first) : len(p) + len(c) + last]
            )
        return torch.cat(out)

    return completion_hidden


def divergence_with(change):
    """`change(f [N, V], p, q, temperature)` makes the value from the shipped terms; or other
    settings go in."""

    def token_divergence(
        s, t, *, beta=0.0, temperature=1.0, top_k=None, clip=None, clip_mode="none"
    ):
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
    return loss.divergence_terms(
        (t / temperature).log_softmax(-1), (s / temperature).log_softmax(-1), beta
    )[0].sum(0)


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
    return lambda z, t, beta, tau: change(divergence_gradient(z, t, beta, tau), z, t, beta, tau)


def teacher_undivided(right, z, t, beta, tau):
    return divergence_gradient(z, t * tau, beta, tau)


def slope_only(right, z, t, beta, tau):
    return (
        loss.divergence_terms((t / tau).log_softmax(-1), (z / tau).log_softmax(-1), beta)[1] / tau
    )


def kl_forgotten(right, z, t, beta, tau):
    a, b = (z / tau).log_softmax(-1), (t / tau).log_softmax(-1)
    return right if beta != 1 else a.exp() * (a - b) / tau


def chunks_with(scale="all", add=True, keep=False, tau_once=False, last=True):
    def chunked_loss(x, w, y, u, *, beta=0.0, temperature=1.0, denominator=None, rows=128):
        n, total, dx, dw, kept = len(x), 0.0, [], torch.zeros_like(w), []
        starts = list(range(0, n, rows))
        for i in starts if last or len(starts) == 1 else starts[:-1]:
            part = x[i : i + rows]
            z, z_teacher = part @ w.T, y[i : i + rows] @ u.T
            losses = loss.token_divergence(z, z_teacher, beta=beta, temperature=temperature)
            dz = divergence_gradient(z, z_teacher, beta, temperature)
            count = {
                "all": denominator or n,
                "own": len(part),
                "mean": len(part) * len(starts),
                "none": 1,
            }[scale]
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
    return tokenizer.encoding.encode(
        "".join(f"<|{name}|>{text}" for name, text in sections), allowed_special="all"
    )


def prompt_with(change):
    return lambda question, **more: change(rubrics.prompt(question, **more), more)


def advantages_with(
    group_of=None, less=0, divide=True, nan=False, result=lambda silent, groups: silent / groups
):
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
        part = rewards[start : start + group]
        middle = sum(part) / group
        spread = (sum((r - middle) ** 2 for r in part) / group) ** 0.5
        for rollout, r in zip(rollouts[start : start + group], part):
            rollout.advantage = (r - middle) / spread if spread else 0.0
    return step.set_advantages([SimpleNamespace() for _ in rewards], rewards, group)


def interleaved(rollouts, rewards, group):
    for i in range(len(rewards) // group):
        part = slice(i, None, len(rewards) // group)
        step.set_advantages(rollouts[part], rewards[part], group)
    return 0.0


def clip_with(**own):
    def token_divergence(
        s, t, *, beta=0.0, temperature=1.0, top_k=None, clip=None, clip_mode="none"
    ):
        f = loss.divergence_terms(
            (t / temperature).log_softmax(-1), (s / temperature).log_softmax(-1), beta
        )[0]
        if clip_mode in own:
            return own[clip_mode](f, f.sum(-1), clip)
        return D(s, t, beta=beta, temperature=temperature, clip=clip, clip_mode=clip_mode)

    return token_divergence


def attribute_with(
    left=lambda s, r, i: s(r) - s(r[:i] + r[i + 1 :]),
    alone=lambda s, r, i: s((r[i],)) - s(()),
    whole=lambda s, r: s(r) - s(()),
    axis=0,
    cached=True,
):
    def attribute(score, criteria):
        s, places = functools.cache(score) if cached else score, range(len(criteria))
        return {
            "whole": whole(s, criteria),
            "left out": torch.stack([left(s, criteria, i) for i in places], axis),
            "alone": torch.stack([alone(s, criteria, i) for i in places], axis),
        }

    return attribute


def the_others_added_up(s, r, i):
    """Right for two criteria; of one there are no others, and stack([]) raises."""
    return s(r) - s(()) - torch.stack([s((c,)) - s(()) for c in r[:i] + r[i + 1 :]]).sum(0)


def divergence_by_hand(s, t, beta, temperature):
    """As a learner may write it, without the shipped terms."""
    a, b = ((z / temperature).log_softmax(-1).clamp(min=-1e4) for z in (s, t.detach()))  # [N, V]

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
    q[:, top_k or q.shape[1] :] = 0
    if top_p is not None:
        q[q.cumsum(-1) - q >= top_p * q.sum(-1, keepdim=True) - 1e-12] = 0
    edges = torch.zeros_like(p).scatter(1, order, q).cumsum(-1)
    return torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True)[:, 0]
