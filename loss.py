"""The divergence between teacher and student, twice: once plain, once within a memory budget.

Both models read the same completion and give a distribution over the vocabulary at each of its tokens:
p (teacher, who also sees the rubric) and q (student), each softmax(logits / temperature).

    beta = 0       KL(p || q)                                forward: cover what the teacher does
    beta = 1       KL(q || p)                                reverse: avoid what the teacher does not do
    0 < beta < 1   beta KL(p || m) + (1 - beta) KL(q || m)   generalised JSD, m = beta p + (1 - beta) q

The family is that of GKD (arXiv 2306.13649, section 2); OPSD (arXiv 2601.18734) and RCSD (arXiv 2606.19327)
train with it. The ends are special cases, not limits: as beta goes to 0 the middle form vanishes like
beta KL(p || q), and as beta goes to 1 like (1 - beta) KL(q || p). All values are in nats, and there is no
factor temperature ** 2 as in Hinton's distillation: it changes the step size, not the optimum.

`token_divergence` is the specification: autograd does its gradient. `distillation_loss` is what training
calls: the same number from hidden states, by the gradient worked out by hand.
"""
import math
from typing import NamedTuple

import torch

CLIP_MODES = ("none", "pointwise", "token", "scale")


def _terms(log_p, log_q, beta):
    """The divergence is a sum over the vocabulary: its terms f_v and their slopes g_v = df_v / d log q_v.

    A term with probability 0 in front is 0, whatever the logarithm behind it. A term that is truly infinite
    (forward: q = 0 < p, reverse: p = 0 < q) is +inf with slope 0. Never NaN. [.., V] x2 in, [.., V] x2 out.
    """
    floor = torch.finfo(log_q.dtype).min / 4                           # -inf minus -inf is NaN, floor minus floor is 0
    a, b = log_q.clamp(min=floor), log_p.clamp(min=floor)
    q, p = a.exp(), b.exp()
    if beta == 0:
        f, g, infinite = p * (b - a), -p, (log_q == -math.inf) & (p > 0)
    elif beta == 1:
        f, infinite = q * (a - b), (log_p == -math.inf) & (q > 0)
        g = f + q
    else:
        log_m = torch.logaddexp(b + math.log(beta), a + math.log1p(-beta))
        g = (1 - beta) * q * (a - log_m)                               # what passes through log m cancels
        return beta * p * (b - log_m) + g, g
    return f.masked_fill(infinite, math.inf), g.masked_fill(infinite, 0.0)


def token_divergence(student_logits, teacher_logits, *, beta=0.0, temperature=1.0, top_k=None,
                     clip=None, clip_mode="none"):
    """Divergence of each token in nats: student and teacher logits [N, V] in, [N] out.

    beta         0 forward KL, 1 reverse KL, between them the generalised JSD (see the top of this file)
    temperature  divides the logits of both
    top_k        keep the k most likely teacher tokens and renormalise p and q over them (RCSD's public code,
                 k = 20). Student mass outside is then free: watch `student_tail` of `distillation_loss`.
    clip_mode    how `clip` (nats) bounds a token
        "none"       not at all
        "pointwise"  clamp each vocabulary term before the sum, as RCSD's public code does (clip 0.05). The negative
                     terms stay: the loss can be negative and the gradient can point away from the teacher
        "token"      clamp the sum: no gradient on the tokens that differ most
        "scale"      multiply the token by min(1, clip / its detached divergence): bounded, direction kept

    Logits may be -inf. Forward KL with q = 0 < p and reverse KL with p = 0 < q are +inf; such a token has no
    gradient. (A row with no finite logit on its support is no distribution and gives NaN, as softmax does.)
    The teacher never gets a gradient. Half precision is computed in float32, float64 stays float64.
    Raises ValueError for settings out of range and for shapes that do not match.
    """
    _check_settings(beta, temperature, top_k, clip, clip_mode)
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(f"logits must both be [N, V], got {[*student_logits.shape]} and {[*teacher_logits.shape]}")
    dtype = _compute_dtype(student_logits, teacher_logits)
    student = student_logits.to(dtype) / temperature                   # [N, V]
    teacher = teacher_logits.detach().to(dtype) / temperature          # [N, V]
    if top_k is not None:
        support = teacher.topk(min(top_k, teacher.shape[-1])).indices  # [N, k]
        student, teacher = student.gather(-1, support), teacher.gather(-1, support)
    f, _ = _terms(teacher.log_softmax(-1), student.log_softmax(-1), beta)
    if clip_mode == "pointwise":
        f = f.clamp(max=clip)
    divergence = f.sum(-1)                                             # [N]
    divergence = torch.where(divergence == math.inf, divergence.detach(), divergence)
    if clip_mode == "token":
        divergence = divergence.clamp(max=clip)
    if clip_mode == "scale":
        factor = clip / divergence.detach().clamp(min=clip)
        divergence = torch.where(divergence == math.inf, clip, divergence * factor)  # inf * 0 would be NaN
    return divergence


class TokenStats(NamedTuple):
    """What `distillation_loss` knows about each token; [N] each, detached, entropies and divergence in nats."""
    divergence: torch.Tensor       # before any clipping
    clipped: torch.Tensor          # bool: the clip changed this token
    student_entropy: torch.Tensor  # of the full softmax at this temperature, also with top_k
    teacher_entropy: torch.Tensor
    student_tail: torch.Tensor     # student mass outside the teacher's top k, which the loss does not see
    turned: torch.Tensor           # bool: the gradient pushes the teacher's best token down though q < p there


def distillation_loss(student_hidden, student_head, teacher_hidden, teacher_head, *, beta=0.0, temperature=1.0,
                      top_k=None, clip=None, clip_mode="none", denominator=None, chunk_bytes=2**28,
                      return_stats=False):
    """Sum of `token_divergence` over N tokens / denominator, without ever holding logits [N, V]. Scalar, nats.

    student_hidden [N, Hs]   last hidden states, at the valid positions only (select first: inf * 0 is NaN)
    student_head   [V, Hs]   output head: logits = hidden @ head.T
    teacher_hidden [N, Ht], teacher_head [V, Ht]   the same of the teacher; never get a gradient
    denominator              default N. With micro-batches give each the token count of the whole step: their
                             losses, and gradients, then add up to exactly that of one large batch
    chunk_bytes              budget for the buffers of shape [rows, V] alive at once (see `sizes`); sets rows
    return_stats             also return a TokenStats, from the same pass
    The other settings are those of `token_divergence`, as are the errors.

    The hidden states go through in chunks of rows. With logits z, q = softmax(z / temperature) and the slopes
    g of `_terms`, the chain rule through the softmax gives

        dL/dz_i = (g_i - q_i sum_v g_v) / temperature     on the support, 0 elsewhere

    so each chunk turns its logits into dX = dz @ head and dW += dz.T @ X on the spot, and only these survive.
    Backward merely multiplies them by the incoming gradient. This takes the products 8 N H V FLOP (teacher
    forward, student forward, dX, dW), 6 with a frozen head; recomputing the logits in backward would take 12.

    Everything is float32 (float64 if an input is), under autocast too: logits rounded to bfloat16 leave the loss
    about right and the gradient wrong by percents. Gradients come back in the dtype of the inputs. Beside the
    chunk it holds [N, Hs] and [V, Hs] for the gradients, and a float32 copy of each head stored in half precision.
    N = 0 gives a zero connected to the graph.
    """
    _check_settings(beta, temperature, top_k, clip, clip_mode)
    n = len(student_hidden)
    inputs = (student_hidden, student_head, teacher_hidden, teacher_head)
    if (any(t.ndim != 2 for t in inputs) or len(teacher_hidden) != n or len(student_head) != len(teacher_head)
            or student_hidden.shape[1] != student_head.shape[1] or teacher_hidden.shape[1] != teacher_head.shape[1]):
        raise ValueError("need hidden [N, Hs], head [V, Hs], teacher's hidden [N, Ht] and head [V, Ht], got "
                         + ", ".join(str([*t.shape]) for t in inputs))
    if denominator is None:
        denominator = max(n, 1)
    elif not denominator > 0:
        raise ValueError(f"denominator must be positive, got {denominator}")
    grad_on = torch.is_grad_enabled()
    with torch.no_grad(), torch.autocast(student_hidden.device.type, enabled=False):
        loss, dx, dw, stats = _chunks(*inputs, beta, temperature, top_k, clip, clip_mode, denominator, chunk_bytes,
                                      grad_on and student_hidden.requires_grad,
                                      grad_on and student_head.requires_grad, return_stats)
    loss = _WithGradient.apply(student_hidden, student_head, loss, dx, dw)
    return (loss, stats) if return_stats else loss


CACHE = 2**19  # bytes of a [rows, V] that a core's cache holds a few of: on a CPU half the time of the passes below


def sizes(v, itemsize, beta, clip_mode, chunk_bytes, on_cpu):
    """Rows of a chunk, which the matrix products take at once, and of a group, which the other passes take at once.

    Alive at the worst moment (counted by a test) are the logits of both, [chunk, V], and 3 [group, V] more, or 12 where
    each term of the divergence is needed. On a GPU the group is the chunk.
    """
    row, more = v * itemsize, 12 if clip_mode == "pointwise" or 0 < beta < 1 else 3
    rows = max(1, chunk_bytes // ((2 + more) * row))
    if not on_cpu:
        return rows, rows
    group = max(1, min(CACHE // row, rows))
    return max(group, (chunk_bytes - more * group * row) // (2 * row)), group


def _chunks(student_hidden, student_head, teacher_hidden, teacher_head, beta, temperature, top_k, clip, clip_mode,
            denominator, chunk_bytes, need_dx, need_dw, need_stats):
    """The one pass: loss, its gradients for student_hidden and student_head (or None), TokenStats (or None)."""
    dtype = _compute_dtype(student_hidden, student_head, teacher_hidden, teacher_head)
    n, v = len(student_hidden), len(student_head)
    w, w_teacher = student_head.to(dtype), teacher_head.to(dtype)      # [V, Hs], [V, Ht]
    dx = torch.empty_like(student_hidden, dtype=dtype) if need_dx else None
    dw = torch.zeros_like(w) if need_dw else None
    total = torch.zeros((), dtype=dtype, device=w.device)
    columns = []
    rows, group = sizes(v, w.element_size(), beta, clip_mode, chunk_bytes, w.device.type == "cpu")
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        x = student_hidden[part].to(dtype) / temperature               # [C, Hs]
        x_teacher = teacher_hidden[part].to(dtype) / temperature       # [C, Ht]
        z, z_teacher = x @ w.T, x_teacher @ w_teacher.T                # [C, V]
        factors = []
        for few in (slice(c, c + group) for c in range(0, len(x), group)):
            losses, dz, factor, stats = _rows(z[few], z_teacher[few], beta, top_k, clip, clip_mode,
                                              need_dx or need_dw, need_stats)
            total += losses.sum()
            columns.append(stats)
            if dz is not None:
                z[few] = dz                                            # the gradient takes the logits' place
            factors.append(factor)
            del dz
        if need_dx or need_dw:
            scale = torch.cat(factors)[:, None] / denominator          # [C, 1]: scales x, H numbers a row instead of V
        if need_dx:
            dx[part] = torch.mm(z, w).mul_(scale / temperature)
        if need_dw:
            dw.addmm_(z.T, x.mul_(scale))
        del z, z_teacher                                               # before the next chunk's
    if need_stats:
        none = torch.empty(0, dtype=dtype, device=w.device)
        columns = columns or [TokenStats(none, none.bool(), none, none, none, none.bool())]
        columns = TokenStats(*map(torch.cat, zip(*columns)))
    return total / denominator, dx, dw, columns


def _rows(z, z_teacher, beta, top_k, clip, clip_mode, need_gradient, need_stats):
    """`token_divergence` by hand, for logits [C, V] that are divided by the temperature already; uses them up.

    Returns the losses [C], their gradient for z [C, V] (or None) but for a factor of each row, these factors [C], and
    TokenStats (or None).
    """
    shape, stats, turned, tail = z.shape, None, None, torch.zeros_like(z[:, 0])
    if top_k is not None:
        support = z_teacher.topk(min(top_k, z.shape[-1])).indices      # [C, k]
        if need_stats:
            tail = (1 - z.softmax(-1).gather(-1, support).sum(-1)).clamp(min=0)
    entropies = (_entropy(z), _entropy(z_teacher)) if need_stats else ()
    if top_k is not None:
        z, z_teacher = z.gather(-1, support), z_teacher.gather(-1, support)
    if clip_mode == "pointwise" or 0 < beta < 1:
        divergence, losses, dz, most, turned = _by_terms(z, z_teacher, beta, clip if clip_mode == "pointwise" else None,
                                                         need_gradient)
    else:
        divergence, dz = _ends(z, z_teacher, beta, need_gradient)
        losses, most = divergence, divergence
    del z, z_teacher
    if need_stats:
        clipped = most > (math.inf if clip is None else clip)
        stats = TokenStats(divergence, clipped, *entropies, tail, torch.zeros_like(clipped) if turned is None else turned)
    factor = torch.ones_like(divergence)
    if clip_mode == "token":
        losses, factor = divergence.clamp(max=clip), (divergence <= clip).to(divergence.dtype)
    elif clip_mode == "scale":
        losses, factor = divergence.clamp(max=clip), clip / divergence.clamp(min=clip)   # loss = divergence * factor
    if need_gradient and top_k is not None:
        dz = torch.zeros(shape, dtype=dz.dtype, device=dz.device).scatter_(-1, support, dz)  # [C, V]
    return losses, dz if need_gradient else None, factor, stats


def _softmax(z):
    """Probabilities [C, V] and log-sum-exp [C] of logits [C, V]. The best token is never rare: its log is exact."""
    probs = z.softmax(-1)
    return probs, z.amax(-1) - probs.amax(-1).log()


def _dot(a, b):
    """[C, V] x2 -> [C], without a third [C, V]."""
    return torch.bmm(a[:, None], b[:, :, None]).flatten()


def _entropy(z):
    """Entropy in nats of softmax(z): [C, V] -> [C]."""
    probs, lse = _softmax(z)
    return lse - _dot(probs, z)


def _ends(z, z_teacher, beta, need_gradient):
    """Forward (beta 0) or reverse (beta 1) KL: few passes over [C, V], for with d = z_teacher - z and the log-sum-exps

        KL(p || q) = sum_v p_v d_v - lse_p + lse_q          dL/dz = q - p
        KL(q || p) = -(sum_v q_v d_v) + lse_p - lse_q       dL/dz = q (sum_v q_v d_v - d)

    Returns divergence [C] and dz [C, V]. Neither can turn: where the teacher's best token has q < p, dz is negative.
    """
    (q, lse_q), (p, lse_p) = _softmax(z), _softmax(z_teacher)          # [C, V], [C]
    d = z_teacher.sub_(z)                                              # [C, V]
    if beta == 0:
        divergence = _dot(p, d) - lse_p + lse_q
        dz = q.sub_(p) if need_gradient else None
    else:
        mean = _dot(q, d)                                              # [C]
        divergence = lse_p - lse_q - mean
        dz = d.neg_().add_(mean[:, None]).mul_(q) if need_gradient else None
    return divergence, dz


def _by_terms(z, z_teacher, beta, clip, need_gradient):
    """Everything else goes through the terms themselves: the JSD, whose log m needs them, and pointwise clipping.

    Returns divergence [C], losses [C], dz [C, V], the largest term [C], and which tokens are turned [C].
    """
    log_q, log_p = z.log_softmax(-1), z_teacher.log_softmax(-1)        # [C, V]
    f, g = _terms(log_p, log_q, beta)
    best_p, best = log_p.max(-1, keepdim=True)                         # [C, 1]
    starved = log_q.gather(-1, best) < best_p
    del log_p
    divergence = losses = f.sum(-1)
    extreme = divergence
    if clip is not None:
        extreme = f.max(-1).values
        g.masked_fill_(f > clip, 0.0)
        losses = f.clamp_(max=clip).sum(-1)
    del f
    if not need_gradient:
        return divergence, losses, None, extreme, None
    total = g.sum(-1, keepdim=True)                                    # [C, 1]
    dz = g.sub_(log_q.exp_().mul_(total))                              # [C, V]
    return divergence, losses, dz, extreme, (starved & (dz.gather(-1, best) > 0))[:, 0]


class _WithGradient(torch.autograd.Function):
    """The loss as it is, with gradients for student_hidden and student_head that are known already."""

    @staticmethod
    def forward(ctx, student_hidden, student_head, loss, dx, dw):
        ctx.dtypes = student_hidden.dtype, student_head.dtype
        ctx.save_for_backward(dx, dw)
        return loss.clone()

    @staticmethod
    def backward(ctx, grad):
        # Out of place: a second backward through the same graph must find the gradients unscaled.
        dx, dw = ((None if d is None else (d * grad).to(dtype)) for d, dtype in zip(ctx.saved_tensors, ctx.dtypes))
        return dx, dw, None, None, None


def _compute_dtype(*tensors):
    """float64 if any input is, otherwise at least float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _check_settings(beta, temperature, top_k, clip, clip_mode):
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be from 0 (forward KL) to 1 (reverse KL), got {beta}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1 or None, got {top_k}")
    if clip_mode not in CLIP_MODES:
        raise ValueError(f"clip_mode must be one of {', '.join(CLIP_MODES)}, got {clip_mode!r}")
    if (clip is None) != (clip_mode == "none"):
        raise ValueError(f"clip and clip_mode need each other, got clip={clip} and clip_mode={clip_mode!r}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}")
