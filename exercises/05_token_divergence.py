"""5. The token divergence: forward KL, reverse KL, and between        about 12 lines, 30 minutes

At each completion token the teacher has a distribution p and the student a distribution q over the vocabulary:
p = softmax(teacher_logits / temperature), q = softmax(student_logits / temperature).

    beta = 0       sum_v p_v log(p_v / q_v)                             forward KL(p || q)
    beta = 1       sum_v q_v log(q_v / p_v)                             reverse KL(q || p)
    0 < beta < 1   beta KL(p || m) + (1 - beta) KL(q || m),  m = beta p + (1 - beta) q     generalised Jensen-Shannon

    student_logits, teacher_logits   [N, V]
    out                              [N], nats, one number a token: no mean over tokens, no factor temperature ** 2

The ends are cases of their own, not limits: the middle formula goes to 0 at both. The teacher never gets a gradient.
A logit may be -inf in both (a forbidden token): such a token adds 0, not nan, to the value and to its gradient. So
work with logarithms (log_softmax, logaddexp), and mind that -inf - -inf is nan and that autograd goes through what a
mask hides.

By hand: teacher (0.9, 0.1), student (0.8, 0.2).
    forward   0.9 log(0.9 / 0.8) + 0.1 log(0.1 / 0.2) = 0.1060 - 0.0693 = 0.0367
    reverse   0.8 log(0.8 / 0.9) + 0.2 log(0.2 / 0.1) = -0.0942 + 0.1386 = 0.0444
    beta 0.5  m = (0.85, 0.15): KL(p || m) = 0.9 log(0.9 / 0.85) + 0.1 log(0.1 / 0.15) = 0.0109,
              KL(q || m) = 0.8 log(0.8 / 0.85) + 0.2 log(0.2 / 0.15) = 0.0090, half of each: 0.0100

Leave top_k, clip and clip_mode alone: the check does not use them here. Clipping is exercise 10.

The answer lives in loss.py: token_divergence (and divergence_terms). Check with: python -m exercises.check 5
"""

import math

import torch


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
    raise NotImplementedError("exercise 5: replace this line")
