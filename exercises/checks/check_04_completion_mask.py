"""Exercise 4, the completion mask and the shift: its check and the mistakes it knows."""

import random

import torch

import step
from exercises.harness import Echo, compare, given, show, small_model, wrong

TITLE = "the completion mask and the shift"
SHIPPED = (step.completion_hidden,)


def check(completion_hidden):
    def states(rows, first, last):
        """(token, position) read, where each row's positions run from first to last, counted from
        the completion."""
        out = []
        for prompt, completion in rows:
            ids = prompt + completion
            out += [[ids[t], t] for t in range(len(prompt) + first, len(ids) + last) if t >= 0]
        return torch.tensor(out, dtype=torch.float64).view(-1, 2)

    rng = random.Random(0)
    batches = [
        [([5, 6], [7, 8, 9])],
        [([5, 6], [7, 8, 9]), ([1], [2]), ([3, 4, 5, 6, 7, 8], [9, 10])],
    ]
    batches += [
        [
            (
                [rng.randrange(1, 99) for _ in range(rng.randint(1, 9))],
                [rng.randrange(1, 99) for _ in range(rng.randint(1, 9))],
            )
            for _ in range(5)
        ]
        for _ in range(5)
    ]
    for rows in batches:
        echo, case = Echo(), f"rows {show(rows)}, a model whose state is (token, position)"
        expected = states(rows, -1, -1)
        with given(case):
            got = completion_hidden(echo, [(list(p), list(c)) for p, c in rows])
        longest = max(len(p) + len(c) for p, c in rows)
        late = [[0, longest - len(p) - len(c)] for p, c in rows for _ in c]
        order = sorted(range(len(rows)), key=lambda b: len(rows[b][0]) + len(rows[b][1]))
        compare(
            case,
            got,
            expected,
            [
                (
                    states(rows, 0, 0),
                    "The shift is missing: these are the states at the completion tokens, each of which "
                    "predicts the token after. y_t is predicted one position before it.",
                ),
                (
                    states(rows, -2, -2),
                    "Shifted twice: y_t is predicted one position before it, not two.",
                ),
                (
                    states(rows, 0, -1),
                    "The first completion token has no state: it is predicted from the last prompt "
                    "token.",
                ),
                (
                    states(rows, -1, 0),
                    "One state too many: the last completion token predicts nothing that the loss is "
                    "on.",
                ),
                (
                    torch.cat([states([([], p + c)], 0, -1) for p, c in rows]),
                    "The prompt is in it: the loss is on the completion only.",
                ),
                (states([rows[b] for b in order], -1, -1), "The order of the rows has changed."),
                (
                    expected + torch.tensor(late),
                    "Padded on the left, which shifts the positions: pad on the right.",
                ),
            ],
        )
        needed = max(len(p) + len(c) for p, c in rows) - 1
        if echo.fed > needed:
            raise wrong(
                case,
                f"a model fed {needed} positions",
                f"it was fed {echo.fed}",
                "The last completion token need not be read: a row that fills the context would not fit.",
            )
    gpt = small_model(1)
    rows = [([1, 2, 3], [4, 5]), ([6], [7, 8, 9, 10, 11]), ([12, 13], [14])]
    with torch.no_grad():
        alone = torch.cat([step.completion_hidden(gpt, [row]) for row in rows])
        compare(
            f"a small GPT, rows {rows}",
            completion_hidden(gpt, rows),
            step.completion_hidden(gpt, rows),
        )
        compare(
            "the same rows; expected: each row alone, without padding",
            completion_hidden(gpt, rows),
            alone,
            tolerance=1e-7,
        )
