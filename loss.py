"""The divergence between teacher and student, one number a token: the specification.

Both models read the same completion and give a distribution over the vocabulary at each of its
tokens: p (teacher, who also sees the rubric) and q (student), each softmax(logits / temperature).

    beta = 0       KL(p || q)       forward: cover what the teacher does
    beta = 1       KL(q || p)       reverse: avoid what the teacher does not do
    between        generalised JSD: beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q

The family is that of GKD (arXiv 2306.13649, section 2); OPSD (arXiv 2601.18734) and RCSD (arXiv
2606.19327) train with it. The ends are special cases, not limits: as beta goes to 0 the middle form
vanishes like beta KL(p || q), and as beta goes to 1 like (1 - beta) KL(q || p). All values are in
nats, and there is no factor temperature ** 2 as in Hinton's distillation: it changes the step size,
not the optimum.

`token_divergence` is short and plain, and autograd does its gradient. Training calls
`distillation_loss` of fused_loss.py: the same number from hidden states within a memory budget, its
gradient worked out by hand. `tests/test_loss.py` holds the two together.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CLIP_MODES = ("none", "pointwise", "token", "scale")


@dataclass(frozen=True)
class LossSettings:
    """What a token's divergence depends on beside the two distributions.

    Raises ValueError for a value out of range.
    """

    beta: float = 0.0
    """0 forward KL, 1 reverse KL, between them the generalised JSD (see the top of this file)."""
    temperature: float = 1.0
    """Divides the logits of both."""
    top_k: int | None = None
    """Keep the k most likely teacher tokens and renormalise p and q over them (RCSD's public code:
    20). Student mass outside is then free: watch `student_tail` of `distillation_loss`.
    """
    clip: float | None = None
    """Upper bound on one token's divergence, in nats."""
    clip_mode: str = "none"
    """How `clip` bounds a token.
    none        not at all
    pointwise   clamp each vocabulary term before the sum, as RCSD's public code does (at 0.05).
                Negative terms stay: the loss can be negative, the gradient point away
    token       clamp the sum: no gradient on the tokens that differ most
    scale       multiply the token by min(1, clip / its detached divergence): direction kept
    """

    def __post_init__(self):
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta must be from 0 (forward KL) to 1 (reverse KL), got {self.beta}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1 or None, got {self.top_k}")
        if self.clip_mode not in CLIP_MODES:
            raise ValueError(
                f"clip_mode must be one of {', '.join(CLIP_MODES)}, got {self.clip_mode!r}"
            )
        if (self.clip is None) != (self.clip_mode == "none"):
            raise ValueError(
                "clip and clip_mode need each other, "
                f"got clip={self.clip} and clip_mode={self.clip_mode!r}"
            )
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any input is, otherwise at least float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def divergence_terms(log_p: Tensor, log_q: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The terms f_v of the divergence [.., V] and their slopes g_v = df_v / d log q_v [.., V].

    The divergence is the sum of its terms over the vocabulary.

    A term with probability 0 in front is 0, whatever the logarithm behind it. A term that is truly
    infinite (forward: q = 0 < p, reverse: p = 0 < q) is +inf with slope 0. Never NaN.
    """
    impossible_q, impossible_p = log_q == -math.inf, log_p == -math.inf
    floor = torch.finfo(log_q.dtype).min / 4  # -inf minus -inf is NaN, floor minus floor is 0
    log_q, log_p = log_q.clamp(min=floor), log_p.clamp(min=floor)
    q, p = log_q.exp(), log_p.exp()
    if beta == 0:
        f, g = p * (log_p - log_q), -p
        infinite = impossible_q & (p > 0)
    elif beta == 1:
        f = q * (log_q - log_p)
        g = f + q
        infinite = impossible_p & (q > 0)
    else:
        log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
        g = (1 - beta) * q * (log_q - log_m)  # what passes through log m cancels
        return beta * p * (log_p - log_m) + g, g
    return f.masked_fill(infinite, math.inf), g.masked_fill(infinite, 0.0)


def token_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 0.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    clip: float | None = None,
    clip_mode: str = "none",
) -> Tensor:
    """Divergence of each token in nats: student and teacher logits [N, V] in, [N] out.

    LossSettings describes the options.

    Logits may be -inf. Forward KL with q = 0 < p and reverse KL with p = 0 < q are +inf; such a
    token has no gradient. (A row with no finite logit on its support is no distribution and gives
    NaN, as softmax does.) The teacher never gets a gradient. Half precision is computed in float32,
    float64 stays float64. Raises ValueError for settings out of range and for shapes that do not
    match.
    """
    LossSettings(beta, temperature, top_k, clip, clip_mode)
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        shapes = f"{[*student_logits.shape]} and {[*teacher_logits.shape]}"
        raise ValueError(f"logits must both be [N, V], got {shapes}")
    dtype = compute_dtype(student_logits, teacher_logits)
    student = student_logits.to(dtype) / temperature  # [N, V]
    teacher = teacher_logits.detach().to(dtype) / temperature  # [N, V]
    if top_k is not None:
        support = teacher.topk(min(top_k, teacher.shape[-1])).indices  # [N, k]
        student, teacher = student.gather(-1, support), teacher.gather(-1, support)
    f, _ = divergence_terms(teacher.log_softmax(-1), student.log_softmax(-1), beta)
    if clip_mode == "pointwise":
        f = f.clamp(max=clip)
    divergence = f.sum(-1)  # [N]
    divergence = torch.where(divergence == math.inf, divergence.detach(), divergence)
    if clip_mode == "token":
        divergence = divergence.clamp(max=clip)
    if clip_mode == "scale":
        factor = clip / divergence.detach().clamp(min=clip)
        divergence = torch.where(
            divergence == math.inf, clip, divergence * factor
        )  # inf * 0 would be NaN
    return divergence
