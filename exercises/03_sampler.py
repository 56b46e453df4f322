"""3. A seeded sampler: temperature, top-k, top-p                      about 12 lines, 30 minutes

    logits     [B, V]   one row for each sequence that is being written
    uniform    [B]      one random number from [0, 1) a row, float64: all the randomness there is. The same numbers give
                        the same tokens, and a row's token depends on its own number alone
    out        [B]      one token id a row, int64

In this order:
    temperature   p = softmax(logits / temperature); 0 means the most likely token, without a draw
    top_k         keep the k most likely tokens (None: all); k may be larger than V
    top_p         of what is left, renormalised, keep the fewest most likely tokens whose probabilities add up to at
                  least top_p (None: all). The token that reaches the bound is kept, so one always is
    draw          from what is left, renormalised, by inverting the cumulative sum: lay the probabilities end to end on
                  [0, 1) in any fixed order and take the token that covers `uniform`. Return its id in the vocabulary

By hand: p = (0.5, 0.3, 0.15, 0.05) at temperature 1. At temperature 0.5 the probabilities are squared and renormalised:
0.25 / (0.25 + 0.09 + 0.0225 + 0.0025) = 0.685 for the first token. With top_k = 2 as well it is 0.25 / 0.34 = 0.735.
With top_p = 0.6 (and no top_k) at temperature 0.5 the first token alone reaches the bound: it is always drawn.

The check draws with 20,000 evenly spaced numbers, so that the shares of the tokens are their probabilities.

The answer lives in model.py: sample. Check with: python -m exercises.check 3
"""

import torch
from torch import Tensor


def sample(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, uniform: Tensor
) -> Tensor:
    raise NotImplementedError("exercise 3: replace this line")
