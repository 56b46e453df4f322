"""Exercise 9, group-relative advantages: its check and the mistakes it knows."""

import random
import types

import torch

import step
from exercises.harness import compare, given, same, show, wrong

TITLE = "group-relative advantages"
SHIPPED = (step.set_advantages,)


def check(set_advantages):
    def advantages(function, rewards, group):
        rollouts = [types.SimpleNamespace(advantage=0.25) for _ in rewards]
        share = function(rollouts, list(rewards), group)
        return [r.advantage for r in rollouts], share

    def scaled(rewards, less=0, divide=True, more=0.0):
        n, mean = len(rewards), sum(rewards) / len(rewards)
        sd = (sum((r - mean) ** 2 for r in rewards) / max(1, n - less)) ** 0.5
        return [0.0 if sd < 1e-12 else (r - mean) / (sd + more if divide else 1) for r in rewards]

    rng = random.Random(0)
    cases = [
        ([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], 4),
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 3),
        ([1.0, 0.0, 0.0, 0.0], 2),
    ]
    cases += [
        ([rng.choice([0.0, 0.3, 1.0]) for _ in range(12)], rng.choice([2, 3, 4, 6]))
        for _ in range(20)
    ]
    for number, (rewards, group) in enumerate(cases):
        case = f"rewards {show(rewards)}, group {group}"
        parts = [rewards[i : i + group] for i in range(0, len(rewards), group)]
        with given(case):
            got, share = advantages(set_advantages, rewards, group)
        expected, silent = advantages(step.set_advantages, rewards, group)
        if number == 0:
            expected, silent = [1.7321, -0.5774, -0.5774, -0.5774, 0.0, 0.0, 0.0, 0.0], 0.5
        got = [a.item() if isinstance(a, torch.Tensor) and a.numel() == 1 else a for a in got]
        if any(a != a for a in got if isinstance(a, float)):
            raise wrong(
                case,
                show(expected),
                show(got),
                "nan: in a group of equal rewards the standard deviation is 0; its advantages are 0.",
            )

        def each(**switch):
            return [a for part in parts for a in scaled(part, **switch)]

        def rounding(values):
            return [round(a, 4) for a in values] if number == 0 else values

        if got == [0.25] * len(got):
            raise wrong(
                case,
                show(expected),
                "the advantages that the rollouts had before",
                "Set rollout.advantage on each.",
            )
        strided = [scaled(rewards[i :: len(parts)]) for i in range(len(parts))]
        unequal = [
            0.0 if max(p) == min(p) else a
            for p, i in zip(parts, range(0, len(rewards), group))
            for a in got[i : i + group]
        ]
        compare(
            f"{case}: the advantages",
            got,
            expected,
            [
                (rounding(value), text)
                for value, text in (
                    (
                        scaled(rewards),
                        "Mean and deviation of the whole batch: take those of each group.",
                    ),
                    (each(less=1), "Divided by the deviation with n - 1; divide by n."),
                    (each(divide=False), "The division by the standard deviation is missing."),
                    (
                        [0.0 if max(p) == min(p) else r for p in parts for r in p],
                        "The mean of the group is not subtracted.",
                    ),
                    *(
                        (value, "The groups are neighbours, not every n-th rollout.")
                        for value in (sum(strided, []), [a for row in zip(*strided) for a in row])
                    ),
                    *(
                        (
                            each(more=more),
                            f"A number like {more:g} is added to the deviation; the formula has none.",
                        )
                        for more in (1e-4, 1e-5)
                    ),
                )
            ]
            + [
                (
                    got,
                    "These rewards are equal, but their deviation is not quite 0: a sum of 0.1 is rounded. Compare the "
                    "rewards themselves.",
                )
            ]
            * (got != unequal and same(unequal, expected, 6e-5)),
            tolerance=6e-5 if number == 0 else 1e-5,
        )
        count = round(silent * len(parts))
        compare(
            f"{case}: what is returned",
            share,
            silent,
            [
                (count, "The number of silent groups; return their share."),
                (float(count), "The number of silent groups; return their share."),
                (1 - silent, "The share of groups with a signal; return that of those without."),
                (
                    count / len(rewards),
                    "Divided by the number of rollouts; divide by the number of groups.",
                ),
            ],
            tolerance=1e-5,
        )
    base = advantages(set_advantages, [3.0, 1.0, 2.0, 2.0], 4)[0]
    compare(
        "rewards 3 1 2 2, against the same times 10 plus 5: equal advantages",
        advantages(set_advantages, [35.0, 15.0, 25.0, 25.0], 4)[0],
        base,
        tolerance=1e-5,
    )
