"""4. The completion mask and the shift                                about 8 lines, 25 minutes

The loss is on the tokens that the student wrote, not on the prompt. And a language model that has read positions 0 .. t
predicts position t + 1: the state that has to be good at completion token y_t is the one *before* it.

    model   ids [B, T], int64 -> hidden [B, T, n_embd]; causal, so padding on the right (any id) changes no real
            position. model.head_weight.device says where the ids have to be. (The shipped function calls
            model(ids, positions=[b * T + t, ...]) to save time, which returns the states there alone; you need not.)
    rows    list of (prompt, completion) pairs of id lists, of different lengths, each with at least one token
    out     [N, n_embd]: for each row, for each of its completion tokens, the state that predicts it; N tokens in all,
            in the order of the rows

By hand: prompt 5 6, completion 7 8 9. The token 7 is predicted from the state at 6, 8 from that at 7, 9 from that at 8.
So the model is fed 5 6 7 8 and positions 1, 2, 3 are read: the states at the tokens 6 7 8. The 9 is never fed.

Student and teacher are read by this one function, with different prompts before the same completion. That is what keeps
them aligned: row n of both results is about the same token.

The answer lives in step.py: completion_hidden. Check with: python -m exercises.check 4
"""

import torch


def completion_hidden(model, rows: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    raise NotImplementedError("exercise 4: replace this line")
