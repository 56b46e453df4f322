"""The loss that training runs: loss.py's `token_divergence` in bounded memory, gradient by hand.

Hidden states in, one number out. Logits exist only for a chunk of tokens at a time, and each chunk
leaves behind its part of the gradient. loss.py says what is computed; here it says how.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from loss import LossSettings, compute_dtype, divergence_terms


class TokenStats(NamedTuple):
    """What `distillation_loss` knows about each token: [N] each, detached, nats where not bool."""

    divergence: Tensor
    """Before any clipping."""
    clipped: Tensor
    """bool: the clip changed this token."""
    student_entropy: Tensor
    """Of the full softmax at this temperature, also with top_k."""
    teacher_entropy: Tensor
    """The same for the teacher."""
    student_tail: Tensor
    """Student mass outside the teacher's top k, which the loss does not see."""
    gradient_flipped: Tensor
    """bool: the gradient pushes the teacher's best token down though q < p there."""


def distillation_loss(
    student_hidden: Tensor,
    student_head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    *,
    beta: float = 0.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    clip: float | None = None,
    clip_mode: str = "none",
    denominator: float | None = None,
    chunk_bytes: int | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, TokenStats]:
    """Sum of `token_divergence` over N tokens / denominator, in nats, without logits [N, V].

    student_hidden [N, Hs]   last hidden states of the valid positions alone (inf * 0 is NaN)
    student_head [V, Hs]     output head: logits = hidden @ head.T
    teacher_hidden [N, Ht]   the same for the teacher, who never gets a gradient
    teacher_head [V, Ht]
    denominator              default N. Micro-batches get the token count of the whole step: their
                             losses and gradients then add up to those of one large batch
    chunk_bytes              budget for the buffers of the call: sets the rows of a chunk. None:
                             `default_budget`
    return_stats             also return a TokenStats, from the same pass
    The other options are those of LossSettings in loss.py, as are the errors.

    The hidden states go through in chunks of rows. With logits z, q = softmax(z / temperature) and
    the slopes g of `divergence_terms`, the chain rule through the softmax gives

        dL/dz_i = (g_i - q_i sum_v g_v) / temperature     on the support, 0 elsewhere

    so each chunk turns its logits into dX = dz @ head and dW += dz.T @ X on the spot, and only
    these survive. Backward merely multiplies them by the incoming gradient. This takes the products
    8 N H V FLOP (teacher forward, student forward, dX, dW), 6 with a frozen head; recomputing the
    logits in backward would take 12. With top_k, a frozen head and no statistics the student
    computes k logits a token: 2 N H V + 4 N k H.

    Everything is float32 (float64 if an input is), under autocast too: logits rounded to bfloat16
    leave the loss about right and the gradient wrong by percents. A head in half precision is
    converted block by block, once for each product of a chunk. Gradients come back in the dtype of
    the inputs. Beside chunk_bytes it holds only the float32 gradients [N, Hs] and, for a trainable
    head, [V, Hs]; those for a bfloat16 head are rounded before backward. N = 0 gives a zero
    connected to the graph.
    """
    settings = LossSettings(beta, temperature, top_k, clip, clip_mode)
    n = len(student_hidden)
    inputs = (student_hidden, student_head, teacher_hidden, teacher_head)
    if (
        any(t.ndim != 2 for t in inputs)
        or len(teacher_hidden) != n
        or len(student_head) != len(teacher_head)
        or student_hidden.shape[1] != student_head.shape[1]
        or teacher_hidden.shape[1] != teacher_head.shape[1]
    ):
        raise ValueError(
            "need hidden [N, Hs], head [V, Hs], teacher's hidden [N, Ht] and head [V, Ht], got "
            + ", ".join(str([*t.shape]) for t in inputs)
        )
    if chunk_bytes is None:
        chunk_bytes = default_budget(len(student_head))
    if denominator is None:
        denominator = max(n, 1)
    elif not denominator > 0:
        raise ValueError(f"denominator must be positive, got {denominator}")
    grad_on = torch.is_grad_enabled()
    with torch.no_grad(), torch.autocast(student_hidden.device.type, enabled=False):
        need_dx, need_dw = student_hidden.requires_grad, student_head.requires_grad
        wanted = Wanted(grad_on and need_dx, grad_on and need_dw, return_stats)
        loss, dx, dw, stats = _chunks(inputs, settings, denominator, chunk_bytes, wanted)
        # bfloat16 has float32's range: round now, block by block, so that backward never holds both
        # and its result.
        for i in range(len(dw) if student_head.dtype == torch.bfloat16 else 0):
            dw[i] = dw[i].bfloat16()
    loss = _WithGradient.apply(student_hidden, student_head, loss, dx, *dw)
    return (loss, stats) if return_stats else loss


def default_budget(vocabulary: int) -> int:
    """Bytes for the buffers of a call: 128 MiB, or 3 KiB an entry of a large vocabulary.

    So a chunk of 152,000 logits has 340 rows. With 97 the loss took 1.26 times as long as with 390.
    """
    return max(2**27, 3072 * vocabulary)


class Wanted(NamedTuple):
    """What a call has to compute beside the loss."""

    dx: bool
    dw: bool
    stats: bool


class Plan(NamedTuple):
    """How a call keeps within its budget."""

    dense: bool
    """All logits of the student are computed; else its k logits of the teacher's top k."""
    rows: int
    """Rows in a chunk: the unit of the matrix products."""
    group: int
    """Rows in a group: the unit of the passes over the logits."""
    buffer_size: int
    """Numbers in the buffer through which a head of another dtype goes, block by block."""


# A chunk has this many groups. Their buffers are smaller than a chunk's, so a chunk has more rows,
# and part of a group stays in the cache.
GROUPS_PER_CHUNK = 8


def make_plan(inputs: tuple, settings: LossSettings, chunk_bytes: int, wanted: Wanted) -> Plan:
    """Sizes that keep all buffers of a call within chunk_bytes. A test counts them.

    Of a chunk there are the logits of both models [chunk, V] and their hidden states [chunk, Hs or
    Ht] twice. Of a group there are 2 [group, V] more, or 14 where pointwise clipping needs each
    term, and 10 [group, k]. Where not dense, the student has [group, k, Hs] instead of logits,
    twice if its head has to be converted. Else such a head takes an eighth of the budget.
    """
    student_hidden, student_head, teacher_hidden, teacher_head = inputs
    (n, hs), ht, v = student_hidden.shape, teacher_hidden.shape[1], len(student_head)
    dtype, k = compute_dtype(*inputs), min(settings.top_k or 0, v)
    convert = not student_head.dtype == teacher_head.dtype == dtype
    dense = not k or wanted.dw or wanted.stats
    buffer = max(hs, ht, chunk_bytes // (8 * dtype.itemsize)) if convert else 0
    numbers = max(0, chunk_bytes // dtype.itemsize - buffer)
    row = (2 if dense else 1) * v + 2 * (hs + ht)
    group_row = (14 if settings.clip_mode == "pointwise" else 2) * (v if dense else k) + 10 * k
    if not dense:
        group_row += (1 + convert) * k * hs
    group = max(1, numbers // (GROUPS_PER_CHUNK * row + group_row))
    rows = max(1, (numbers - group * group_row) // row)
    rows = math.ceil(n / math.ceil(n / rows)) if n else 1  # chunks of equal size
    return Plan(dense, rows, min(group, math.ceil(rows / GROUPS_PER_CHUNK)), buffer)


def _chunks(
    inputs: tuple, settings: LossSettings, denominator: float, chunk_bytes: int, wanted: Wanted
) -> tuple:
    """The one pass: loss, dx for student_hidden, dw for student_head in blocks, TokenStats.

    What is not wanted is None (dw: an empty list).
    """
    student_hidden, student_head, teacher_hidden, teacher_head = inputs
    n, v, device = len(student_hidden), len(student_head), student_head.device
    dtype, temperature = compute_dtype(*inputs), settings.temperature
    dense, rows, group, buffer_size = make_plan(inputs, settings, chunk_bytes, wanted)
    # All large buffers once, not for each chunk: on a CPU a first write to fresh memory is several
    # times slower.
    buffer = torch.empty(buffer_size, dtype=dtype, device=device)
    logits = torch.empty(1 + dense, rows, v, dtype=dtype, device=device)
    work = torch.empty(2 * dense, group, v, dtype=dtype, device=device)
    dx = torch.zeros_like(student_hidden, dtype=dtype) if wanted.dx else None
    dw = [torch.zeros_like(w) for _, w in _blocks(student_head, buffer)] if wanted.dw else []
    losses, columns = [torch.zeros(0, dtype=dtype, device=device)], []
    for chunk_slice in _slices(n, rows):
        x = student_hidden[chunk_slice].to(dtype) / temperature  # [C, Hs]
        x_teacher = teacher_hidden[chunk_slice].to(dtype) / temperature  # [C, Ht]
        z_teacher = _logits(x_teacher, teacher_head, buffer, logits[-1, : len(x)])  # [C, V]
        z = _logits(x, student_head, buffer, logits[0, : len(x)]) if dense else None
        factors = []
        for group_slice in _slices(len(x), group):
            if dense:
                space, need_gradient = work[:, : len(x[group_slice])], wanted.dx or wanted.dw
                loss, factor, stats = _rows(
                    z[group_slice],
                    z_teacher[group_slice],
                    space,
                    settings,
                    need_gradient,
                    wanted.stats,
                )
                columns.append(stats)
            else:
                dx_few = dx[chunk_slice][group_slice] if wanted.dx else None
                loss, factor = _topk_only(
                    x[group_slice], student_head, z_teacher[group_slice], settings, dx_few
                )
            losses.append(loss)
            factors.append(factor)
        # scales x, so H numbers a row instead of V
        scale = torch.cat(factors)[:, None] / denominator  # [C, 1]
        if dense and (wanted.dx or wanted.dw):
            x.mul_(scale)
            for i, (vocabulary, w) in enumerate(_blocks(student_head, buffer)):
                if wanted.dx:
                    dx[chunk_slice].addmm_(z[:, vocabulary], w)
                if wanted.dw:
                    dw[i].addmm_(z[:, vocabulary].T, x)
        if wanted.dx:
            dx[chunk_slice].mul_(scale / temperature)
    none = losses[0]
    columns = columns or [TokenStats(none, none.bool(), none, none, none, none.bool())]
    stats = TokenStats(*map(torch.cat, zip(*columns))) if wanted.stats else None
    return torch.cat(losses).sum() / denominator, dx, dw, stats


def _slices(n, step):
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _blocks(head, buffer):
    """Yield (slice, rows) of a head [V, H] in the buffer's dtype.

    All rows at once, or as many as the buffer holds.
    """
    if head.dtype == buffer.dtype:
        yield slice(0, len(head)), head
        return
    for rows in _slices(len(head), len(buffer) // head.shape[1]):
        yield rows, buffer[: head[rows].numel()].view_as(head[rows]).copy_(head[rows])


def _logits(x, head, buffer, out):
    """x [C, H] @ head.T [H, V], written into out [C, V]."""
    for vocabulary_slice, w in _blocks(head, buffer):
        torch.mm(x, w.T, out=out[:, vocabulary_slice])
    return out


def _rows(
    z: Tensor,
    z_teacher: Tensor,
    work: Tensor,
    settings: LossSettings,
    need_gradient: bool,
    need_stats: bool,
):
    """`token_divergence` by hand, for logits [C, V] that are divided by the temperature already.

    Returns the losses [C], the factor of each row [C] that their gradient for z still lacks, and
    TokenStats (or None). The gradient itself takes the place of z; z_teacher and work [2, C, V] are
    used up.
    """
    beta, clip, clip_mode = settings.beta, settings.clip, settings.clip_mode
    k = min(settings.top_k or 0, z.shape[-1])
    pointwise, full, stats = clip_mode == "pointwise", z, None
    if need_stats or not (k or pointwise):
        soft, soft_teacher = _softmax(z, work[0]), _softmax(z_teacher, work[1])
    if need_stats:
        entropy = soft[1] - _dot(soft[0], z)  # [C]
        teacher_entropy = soft_teacher[1] - _dot(soft_teacher[0], z_teacher)  # [C]
        tail, flipped = z.new_zeros(len(z)), z.new_zeros(len(z), dtype=torch.bool)
    if k:
        z_teacher, support = z_teacher.topk(k)  # [C, k]
        z = z.gather(-1, support)
        if need_stats:
            tail = (1 - soft[0].gather(-1, support).sum(-1)).clamp(min=0)
        if not pointwise:
            soft, soft_teacher = _softmax(z), _softmax(z_teacher)
    if pointwise:
        divergence, losses, largest_term, flipped = _pointwise(
            z, z_teacher, beta, clip, need_gradient
        )
    else:
        divergence = _closed_form(z, z_teacher, *soft, *soft_teacher, beta, need_gradient)
        losses = largest_term = divergence
    if need_stats:
        clipped = largest_term > (math.inf if clip is None else clip)
        stats = TokenStats(divergence, clipped, entropy, teacher_entropy, tail, flipped)
    factor = torch.ones_like(divergence)
    if clip_mode == "token":
        losses, factor = divergence.clamp(max=clip), (divergence <= clip).to(divergence.dtype)
    elif clip_mode == "scale":
        # loss = divergence * factor
        losses, factor = divergence.clamp(max=clip), clip / divergence.clamp(min=clip)
    if need_gradient and k:
        full.zero_().scatter_(-1, support, z)
    return losses, factor, stats


def _topk_only(
    x: Tensor, head: Tensor, z_teacher: Tensor, settings: LossSettings, dx: Tensor | None
):
    """`_rows` on the teacher's top k alone: no other student logit is computed.

    Fills dx [C, Hs] unless it is None.
    """
    z_teacher, support = z_teacher.topk(min(settings.top_k, len(head)))  # [C, k]
    w = head[support].to(x.dtype)  # [C, k, Hs]
    z = torch.bmm(w, x[:, :, None])[:, :, 0]  # [C, k]
    loss, factor, _ = _rows(
        z, z_teacher, (None, None), replace(settings, top_k=None), dx is not None, False
    )
    if dx is not None:
        torch.bmm(z[:, None], w, out=dx[:, None])
    return loss, factor


def _softmax(z, out=None):
    """Probabilities [C, V] and log-sum-exp [C] of logits [C, V].

    The likeliest token is never rare, so its logarithm is exact.
    """
    probs = torch.softmax(z, -1, out=out)
    return probs, z.amax(-1) - probs.amax(-1).log()


def _dot(a, b):
    """[C, V] x2 -> [C], without a third [C, V]."""
    return torch.bmm(a[:, None], b[:, :, None]).flatten()


def _closed_form(z, z_teacher, q, lse_q, p, lse_p, beta, need_gradient):
    """Divergence [C] from logits and probabilities [C, V] and log-sum-exps [C], in few passes.

    The gradient goes into z.

        KL(p || q) = sum_v p_v d_v - lse_p + lse_q      dL/dz = q - p      where d = z_teacher - z
        KL(q || p) = lse_p - lse_q - sum_v q_v d_v          dL/dz = q (sum_v q_v d_v - d)
        JSD        = beta sum_v p_v log(p_v / m_v) + (1 - beta) sum_v q_v r_v   where r = log(q / m)
                                                            dL/dz = (1 - beta) q (r - sum_v q_v r_v)

    The ratios are exact also where p and q nearly agree, which differences of logarithms are not.
    The gradient cannot flip: where the teacher's best token has q < p, it is negative.
    """
    if 0 < beta < 1:
        tiny = torch.finfo(z.dtype).tiny  # for 0 log 0 = 0
        m = torch.lerp(q, p, beta, out=z).clamp_(min=tiny)  # [C, V]
        s = torch.div(p, m, out=z_teacher).clamp_(min=tiny).log_()
        r = torch.div(q, m, out=m).clamp_(min=tiny).log_()
        mean = _dot(q, r)  # [C]
        if need_gradient:
            r.sub_(mean[:, None]).mul_(q.mul_(1 - beta))
        return beta * _dot(p, s) + (1 - beta) * mean
    d = z_teacher.sub_(z)  # [C, V]
    if beta == 0:
        if need_gradient:
            torch.sub(q, p, out=z)
        return _dot(p, d) - lse_p + lse_q
    mean = _dot(q, d)  # [C]
    if need_gradient:
        torch.sub(mean[:, None], d, out=z).mul_(q)
    return lse_p - lse_q - mean


def _pointwise(z, z_teacher, beta, clip, need_gradient):
    """Pointwise clipping needs each term of the divergence. The gradient goes into z.

    Returns divergence [C], losses [C], the largest term [C], and which tokens' gradients are
    flipped [C].
    """
    log_q, log_p = z.log_softmax(-1), z_teacher.log_softmax(-1)  # [C, V]
    f, g = divergence_terms(log_p, log_q, beta)
    best_p, best = log_p.max(-1, keepdim=True)  # [C, 1]
    student_below = log_q.gather(-1, best) < best_p
    divergence, largest_term = f.sum(-1), f.amax(-1)
    g.masked_fill_(f > clip, 0.0)
    if need_gradient:
        torch.sub(g, log_q.exp_().mul_(g.sum(-1, keepdim=True)), out=z)
        student_below &= z.gather(-1, best) > 0
    return divergence, f.clamp_(max=clip).sum(-1), largest_term, student_below[:, 0] & need_gradient


class _WithGradient(torch.autograd.Function):
    """The loss with gradients that are known already.

    dx [N, Hs] or None, and dw in blocks of rows (none for a frozen head).
    """

    @staticmethod
    def forward(ctx, student_hidden, student_head, loss, dx, *dw):
        ctx.dtypes = student_hidden.dtype, student_head.dtype
        ctx.save_for_backward(dx, *dw)
        return loss.clone()

    @staticmethod
    def backward(ctx, grad):
        # Out of place: a second backward through the same graph must find the gradients unscaled.
        (dx, *dw), (dtype, dtype_head) = ctx.saved_tensors, ctx.dtypes
        dx, head = None if dx is None else dx.mul(grad).to(dtype), None
        if dw:
            head = dw[0].new_empty(sum(map(len, dw)), dw[0].shape[1], dtype=dtype_head)  # [V, Hs]
            for block, place in zip(dw, head.split(len(dw[0]))):
                torch.mul(block, grad, out=place)
        return dx, head, None, None, *(None for _ in dw)
