"""Misconceptions: the same problem, solved without a slip from a wrong relation."""

from dataclasses import replace

from data.laws import BY_NAME
from data.problems import Problem, key_of, names_of, split_of
from data.relations import Form, is_workable


def wrong_forms(form: Form) -> list[Form]:
    """The wrong relations between a form's three quantities, the likeliest mistake first.

    For a product: sum, difference, quotient, inverse quotient. For a quotient: product, inverse
    quotient, sum, difference. `form` is a product or a quotient of two quantities.
    """
    first, second = form.over + form.under
    (a, _), (b, _) = first, second
    target = form.target
    product = Form(target, (first, second))
    quotient = Form(target, (first,), (second,))
    inverse = Form(target, (second,), (first,))
    total = Form(target, signs=((1, a), (1, b)))
    difference = Form(target, signs=((1, a), (-1, b)))
    if form.under:
        return [product, inverse, total, difference]
    return [total, difference, quotient, inverse]


def mistaken(problem: Problem, step: int) -> Problem | None:
    """The problem, solved from a wrong relation in one step (counted from 0).

    The relation is the first of `wrong_forms` that gives another answer through workable numbers;
    None if no relation does. A comparison only takes products and quotients, because a sum does
    not change by a factor. Where a datum is missing, the first relation is taken. The law of the
    step must relate two factors. A later step works on with the wrong value; its numbers must be
    for training too.
    """
    for wrong in wrong_forms(problem.forms[step]):
        steps = problem.forms[:step] + (wrong,) + problem.forms[step + 1 :]
        if problem.kind == "comparison":
            made = replace(problem, forms=steps)
            if not wrong.signs and made.factor() != problem.factor():
                return made
        elif problem.kind == "missing":
            return replace(problem, forms=steps)
        else:
            values = _work_out(steps, problem.values)
            if values and values[problem.target] != problem.values[problem.target]:
                made = replace(problem, forms=steps, values=values)
                later = range(step + 1, len(steps))
                if all(split_of(_key_of_step(made, i)) == "train" for i in later):
                    return made
    return None


def _key_of_step(problem: Problem, step: int) -> str:
    """The key of a step: its law and the numbers that the problem has for it."""
    law = BY_NAME[problem.keys[step].partition(":")[0]]
    values = {name: problem.values[name] for name in names_of(law)}
    return key_of(law, values)


def _work_out(steps: tuple[Form, ...], values: dict[str, int]) -> dict[str, int] | None:
    """The values with each step's target computed; None if a number is not workable."""
    values = dict(values)
    for form in steps:
        value = form.value(values)
        if not is_workable(value) or form.steps(values) is None:
            return None
        values[form.target] = int(value)
    return values
