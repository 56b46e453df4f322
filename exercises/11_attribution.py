"""11. Which criterion moves which token                               about 8 lines, 25 minutes

The divergence says where a rubric changes the teacher's mind, not which line of the rubric did it. So ask the teacher
again, with other rubrics, about the same n tokens. The function `score` does that:

    score      a tuple of criteria -> [M, n]: M measures of each token (say log p_T(y_t)) under a teacher who reads just
               these, in this order; () is no rubric. Every call is a forward pass of the teacher over the whole answer:
               call it at most 2 + 2C times
    criteria   the tuple of the C criteria of a rubric r, at least one; two of them may be equal
    out        a dict of three tensors, the effects of
               "whole"     [M, n]       the rubric             score(r)     - score(())
               "left out"  [C, M, n]    what goes if c goes    score(r)     - score(r without c)
               "alone"     [C, M, n]    c by itself            score((c,))  - score(())

By hand: one measure, one token, criteria A and B. The token has log p = -3 with no rubric, -1 with A, -2.5 with B, -0.9
with both. Whole: -0.9 + 3 = 2.1. Left out: A -0.9 + 2.5 = 1.6, B -0.9 + 1 = 0.1. Alone: A -1 + 3 = 2, B -2.5 + 3 = 0.5.

Those left out sum to 1.7, those alone to 2.5, the whole is 2.1. No sum has to fit, so do not scale them. A alone does 2
and takes only 1.6 along when it goes: the other 0.4 is what B says too, and it is missing in both rows "left out" and
counted in both rows "alone". Of two criteria that are equal, what do the rows say? Of two that work only together?
The check has both cases.

The answer lives in report/explain.py: attribute. Check with: python -m exercises.check 11
"""

import torch


def attribute(score, criteria: tuple) -> dict[str, torch.Tensor]:
    raise NotImplementedError("exercise 11: replace this line")
