"""Exercise 11, per-criterion attribution: its check and the mistakes it knows."""

import torch

import report.explain
from exercises.harness import Wrong, compare, given, normal, show, wrong

TITLE = "per-criterion attribution"
SHIPPED = (report.explain.attribute,)


def attribution_mistakes(s, criteria, expected):
    """{key of the result: [(what a known mistake gives, text)]} for the values `s` of each tuple of
    criteria."""
    r, places = criteria, range(len(criteria))
    rest = [r[:i] + r[i + 1 :] for i in places]

    def stack(values):
        return torch.stack(list(values))

    known = {
        "whole": [
            (
                s(r),
                "score(()) is not subtracted: an effect is a difference to the teacher without a rubric.",
            )
        ],
        "left out": [
            (
                stack(s(x) - s(()) for x in rest),
                "The rest of the rubric was compared with no rubric: that is what the "
                "others do. Leaving c out is compared with the whole rubric: score(r) - score(r without c).",
            ),
            (
                stack(s(r) - s(tuple(c for c in r if c != r[i])) for i in places),
                "Two equal criteria were left out at once: leave out by place, r[:i] + r[i + 1:], not by value.",
            ),
            (expected["alone"], "These are the effects of each criterion alone."),
            (
                stack(s(x) for x in rest),
                "That is the score without c; the effect is score(r) less that.",
            ),
        ],
        "alone": [
            *(
                (
                    sign * stack(s((c,)) - s(r) for c in r),
                    "Compared with the whole rubric: alone is against none, "
                    "score((c,)) - score(()).",
                )
                for sign in (1, -1)
            ),
            (expected["left out"], "These are the effects of leaving each criterion out."),
            (
                stack(s((c,)) for c in r),
                "score(()) is not subtracted: an effect is a difference to the teacher without "
                "a rubric.",
            ),
        ],
    }
    for key, right in expected.items():
        known[key].insert(
            0,
            (
                -right,
                "The sign is turned around: a criterion that lifts the token has an effect > 0.",
            ),
        )
        if key != "whole":
            known[key] += [
                (
                    right.transpose(0, 1),
                    f"The criterion is the first axis: {list(right.shape)} is [C, M, n].",
                ),
                (
                    right * (expected["whole"] / right.sum(0)),
                    "Scaled so that they sum to the whole: they need not.",
                ),
            ]
    return known


def check(attribute):
    def compared(case, score, criteria, expected=None):
        asked = []

        def ask(chosen):
            if not isinstance(chosen, tuple):
                raise wrong(
                    case,
                    "score(...) of a tuple of criteria",
                    f"score({show(chosen)})",
                    "One criterion by itself is the tuple (c,), and () is none.",
                )
            left = iter(criteria)
            if not all(c in left for c in chosen):
                raise wrong(
                    case,
                    f"criteria of {show(criteria)}, in this order",
                    f"score({show(chosen)})",
                    "Another order is another prompt: leave out and keep the rest where it is.",
                )
            asked.append(chosen)
            return score(chosen).clone()

        try:
            with given(case):
                got = attribute(ask, criteria)
        except (Wrong, NotImplementedError):
            raise
        except Exception as error:
            if len(criteria) == 1:
                raise wrong(
                    case,
                    "the same effect three times",
                    f"{type(error).__name__}: {error}",
                    "Without its only criterion a rubric is (), and score(()) is defined: no rubric.",
                ) from error
            raise
        expected = expected or report.explain.attribute(score, criteria)
        if not isinstance(got, dict) or got.keys() != expected.keys():
            raise wrong(
                case,
                f"a dict with the keys {show(list(expected))}",
                show(list(got) if isinstance(got, dict) else got),
                "None: is a return missing?" * (got is None),
            )
        for key, mistakes in attribution_mistakes(score, criteria, expected).items():
            compare(f"{case}: {key!r}", got[key], expected[key], mistakes)
        if len(asked) > 2 + 2 * len(criteria):
            raise wrong(
                case,
                f"at most {2 + 2 * len(criteria)} calls of score",
                f"{len(asked)} calls",
                "Every call is a forward pass: ask for score(r) and score(()) once, before the loop.",
            )

    def effect(*values):
        return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)

    by_hand = {(): -3, ("A",): -1, ("B",): -2.5, ("A", "B"): -0.9}
    compared(
        "the criteria A and B of the text",
        lambda chosen: effect(by_hand[chosen])[0],
        ("A", "B"),
        {"whole": effect(2.1)[0], "left out": effect(1.6, 0.1), "alone": effect(2, 0.5)},
    )
    part = {c: normal(i, 2, 3) for i, c in enumerate("ABCD")}  # [M = 2, n = 3]
    base = normal(9, 2, 3)
    compared(
        "a rubric of one criterion", lambda chosen: sum((part[c] for c in chosen), base), ("A",)
    )
    compared(
        "criteria that each add a part of their own, whatever else is there",
        lambda chosen: sum((part[c] for c in chosen), base),
        tuple("ABCD"),
    )
    compared(
        "criteria A A B, and saying A once is enough",
        lambda chosen: sum((part[c] for c in sorted(set(chosen))), base),
        tuple("AAB"),
    )
    compared(
        "criteria A B C, of which A and B work only together",
        lambda chosen: base + part["A"] * ("A" in chosen and "B" in chosen),
        tuple("ABC"),
    )
    for names in (
        "AB",
        "CAB",
        "DBCA",
    ):  # a value of its own for each tuple: another order is another prompt
        compared(
            f"criteria {' '.join(names)}, random scores [3, 5]",
            lambda chosen: normal(int.from_bytes("".join(chosen).encode(), "big"), 3, 5),
            tuple(names),
        )
