"""Exercise 3, a seeded sampler: its check and the mistakes it knows."""

import random

import torch

import model
from exercises.harness import compare, given, logs, normal, show, wrong

TITLE = "a seeded sampler"
SHIPPED = (model.sample,)


def kept(p, temperature, top_k, top_p, *, late=False, crossing=0, power=None):
    """What the sampler's distribution should be, in Python floats; the switches are typical
    mistakes."""

    def cut(w):
        order = sorted(range(len(w)), key=lambda i: -w[i])[:top_k]
        if top_p is not None:
            mass, total, n = 0.0, sum(w[i] for i in order), 0
            while mass < top_p * total and n < len(order):
                mass += w[order[n]]
                n += 1
            order = order[: max(1, n + crossing)]
        return order

    heated = [x ** (1 / temperature if power is None else power) for x in p]
    order = cut(p if late else heated)
    total = sum(heated[i] for i in order)
    return [heated[i] / total if i in order else 0.0 for i in range(len(p))]


def check(sample):
    draws = 20_000
    even = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws  # [draws]

    def shares(function, p, *settings):
        with given(f"p = {show(p)}, temperature, top_k, top_p = {settings}"):
            ids = function(logs(p).expand(draws, -1).clone(), *settings, even.clone())
        if not isinstance(ids, torch.Tensor) or ids.shape != (draws,) or ids.dtype != torch.int64:
            came = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, torch.Tensor) else show(ids)
            raise wrong(f"logits [{draws}, {len(p)}]", f"ids, int64 [{draws}]", came)
        return (torch.bincount(ids, minlength=len(p)).double() / draws).tolist()

    def near(a, b):
        return len(a) == len(b) and all(
            abs(x - y) < 0.001 and (y > 0 or x == 0) for x, y in zip(a, b)
        )

    uniform = torch.rand(
        50, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )  # [50]
    logits = normal(3, 50, 7)
    before = logits.clone()
    with given("logits [50, 7], temperature 1, top_k None, top_p None"):
        first, second = (sample(logits.clone(), 1.0, None, None, uniform) for _ in range(2))
    compare(
        "the same call a second time: the same tokens",
        second,
        first,
        [(second, "Something else is random here: draw with the numbers in `uniform` alone.")],
    )
    settings = [
        (0.5, None, None),
        (0.5, 2, None),
        (0.5, None, 0.6),
        (1.0, None, 0.6),
        (1.0, None, None),
        (2.0, 3, 0.7),
        (1.5, 99, None),
        (1.0, 1, None),
        (1.0, None, 1.0),
    ]
    rng = random.Random(0)
    p = [0.5, 0.3, 0.15, 0.05]
    for number, (temperature, top_k, top_p) in enumerate(settings * 2):
        if number >= len(settings):
            p = [rng.random() ** 2 + 0.01 for _ in range(6)]
            p = [x / sum(p) for x in p]
        case = f"p = {show(p)}, temperature {temperature}, top_k {top_k}, top_p {top_p}; shares of {draws} draws"
        got, expected = (
            shares(sample, p, temperature, top_k, top_p),
            shares(model.sample, p, temperature, top_k, top_p),
        )
        if near(got, expected):
            continue

        def as_if(**switch):
            return kept(p, temperature, top_k, top_p, **switch)

        why = next(
            (
                text
                for value, text in (
                    (as_if(power=1.0), "As without a temperature: divide the logits by it."),
                    (
                        as_if(power=temperature),
                        "Multiplied by the temperature: divide the logits by it.",
                    ),
                    (
                        as_if(late=True),
                        "Temperature first: the nucleus is that of the heated distribution.",
                    ),
                    (as_if(crossing=-1), "The token that reaches top_p is kept too."),
                    (
                        as_if(crossing=1),
                        "One token too many: the nucleus ends at the token that reaches top_p.",
                    ),
                    (kept(p, temperature, None, top_p), "As without top_k."),
                    (kept(p, temperature, top_k, None), "As without top_p."),
                    (
                        sorted(expected, reverse=True),
                        "These are ranks among the sorted tokens: map them back to ids.",
                    ),
                )
                if near(got, value)
            ),
            "",
        )
        if not why and top_p is not None and any(x == 0 < y for x, y in zip(got, expected)):
            why = "The nucleus lacks a token: the one that reaches top_p is kept too."
        if not why and max(got) == 1.0:
            why = (
                "Every row drew the same token: each row has its own random number. (Or all probabilities are 0 or "
                "nan.)"
            )
        if not why and any(x > 0 == y for x, y in zip(got, expected)):
            why = "A token that was cut is drawn: after each cut renormalise what is left."
        raise wrong(case, show(expected), show(got), why)

    compare(
        "temperature 0: the most likely token of each row",
        sample(logits.clone(), 0, None, None, uniform),
        logits.argmax(-1),
    )
    first = sample(before, 1.0, 5, 0.9, uniform)
    compare("the logits after the call", before, logits)
    for row in (0, 17):
        compare(
            f"row {row} of 50 alone: the token that it drew among the others",
            sample(logits[row : row + 1], 1.0, 5, 0.9, uniform[row : row + 1]),
            first[row : row + 1],
        )
