"""6. The gradient of the divergence, by hand                          about 12 lines, 40 minutes, with paper

The loss of exercise 5 has a short gradient for the student's logits z. Derive it on paper, then write it down without
autograd (the check runs it under no_grad). With a = log q, b = log p, and the divergence as a sum of terms f_v:

    g_v     = df_v / da_v, with b fixed
    dD/dz_i = (g_i - q_i sum_v g_v) / temperature        because a = log_softmax(z / temperature)

    beta = 0       f_v = p (b - a)         which gives   (q_i - p_i) / temperature
    beta = 1       f_v = q (a - b)                       q_i [(a_i - b_i) - KL(q || p)] / temperature
    0 < beta < 1   f_v = beta p (b - log m) + (1 - beta) q (a - log m)       (m as in exercise 5; it depends on a, too)
                                                         (1 - beta) q_i [(a_i - log m_i) - KL(q || m)] / temperature

    z, z_teacher   [N, V]   logits, finite, not yet divided by the temperature
    out            [N, V]   row n: the gradient of the divergence of token n for z[n]

By hand: teacher (0.9, 0.1), student (0.8, 0.2), temperature 1.
    forward   q - p = (-0.10, 0.10): a step against it lifts the first logit, towards the teacher
    reverse   KL(q || p) = 0.0444; the first entry is 0.8 (log(0.8 / 0.9) - 0.0444) = 0.8 (-0.1178 - 0.0444) = -0.1297

Look at the two for a token that the student almost never writes (q_i near 0) but the teacher wants: forward pulls with
p_i, reverse with almost nothing. And each row adds up to 0: a softmax does not feel a constant added to its logits.

The answer lives in fused_loss.py: distillation_loss states the rule, what it calls for the rows of a chunk computes it.
Check with: python -m exercises.check 6
"""

import math

import torch


def divergence_gradient(z, z_teacher, beta, temperature):
    raise NotImplementedError("exercise 6: replace this line")
