"""10. Clipping without turning the gradient                           about 10 lines, 30 minutes

A few tokens can have a divergence far above the rest, so one may want a bound c = clip on it. The terms f_v of the
divergence D = sum_v f_v are made for you. What happens between them and the result is the exercise:

    "none"        D
    "pointwise"   sum_v min(f_v, c)              each vocabulary term is clamped, as in RCSD's public code
    "token"       min(D, c)
    "scale"       D * min(1, c / D_detached)     D_detached: the same number, but a constant for the gradient

    student_logits, teacher_logits   [N, V]
    out                              [N]

By hand: teacher (0.9, 0.1), student (0.8, 0.2), beta 0. The terms are 0.1060 and -0.0693, D = 0.0367, and the gradient
for the first logit is q - p = -0.10: a step against it lifts the logit, as it should.
    pointwise, c = 0.05   0.05 - 0.0693 = -0.0193. The first term is now a constant; what is left, 0.1 log(0.1 / 0.2),
                          has the gradient 0.1 q_1 = +0.08 for the first logit: it now falls, away from the teacher
    token,     c = 0.01   0.01, gradient 0: this token teaches nothing, though it is one of those that differ most
    scale,     c = 0.01   0.01, gradient -0.10 x 0.01 / 0.0367 = -0.0273: shorter, the same direction

"token" and "scale" give the same number and differ in the gradient only, so the check looks at both.

The answer lives in loss.py: token_divergence. Check with: python -m exercises.check 10
"""

import torch

from loss import divergence_terms


def token_divergence(
    student_logits,
    teacher_logits,
    *,
    beta=0.0,
    temperature=1.0,
    top_k=None,
    clip=None,
    clip_mode="none",
):
    log_q = (student_logits / temperature).log_softmax(-1)  # [N, V]
    log_p = (teacher_logits.detach() / temperature).log_softmax(-1)  # [N, V]
    f, _ = divergence_terms(log_p, log_q, beta)  # [N, V]
    raise NotImplementedError("exercise 10: replace this line")
