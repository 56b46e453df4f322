"""Do both sides see what they should? Look before any training.

    python -m pretrained.align --model DIR --data FILE

Prints who needs how many tokens, the prompts of student and teacher for one question, as text and as
ids, says whether a completion begins behind the same ids in both, and shows the tokens on which the
untrained model, with and without what the teacher sees, disagrees most.
"""

import sys
from math import exp
from pathlib import Path

from base import load_base
from data.console import exit_code
from data.needs import what_they_have
from data.split import training_questions
from data.tokenizer import encode
from model import generate
from pretrained.reason_first import with_analyses
from pretrained.start import load_tokenizer
from rcsd import lengths_of_run, method_of, teacher_context_of
from report.explain import Run, hidden, opinions, token_stats
from rubrics import Example, Sections, missing, prompt, teacher_prompt
from trainer.command_line import settings_from, settings_parser
from trainer.lengths import what_fits
from trainer.processes import device_of
from trainer.settings import Settings

MOST = 8  # tokens that are shown
ROWS = 3  # questions that `preview` shows


def preview(arguments: list[str]) -> None:
    """What of --data fits, and its first questions as a model of --model will see them.

    `arguments` are flags of rcsd.py, --model and --data among them.
    """
    out, settings = settings_from(settings_parser(__doc__).parse_args(arguments))
    print(what_fits(lengths_of_run("stage1", out, settings), settings))
    asked = training_questions("stage2", out, settings)
    print(what_they_have(asked))
    tokenizer, shown = load_tokenizer(out, settings), 0
    for e in asked[:ROWS]:
        shown += 1
        for side, sections in both_sides(e, settings).items():
            ids = encode(tokenizer, sections)
            print(f"==== row {shown}, {e.id}: the {side} reads {len(ids)} tokens")
            print(tokenizer.decode(ids))
        if answer := e.solution or e.answer:
            print(f"==== row {shown}, {e.id}: the reference\n{answer}")


def both_sides(e: Example, settings: Settings) -> dict[str, Sections]:
    """The prompts of a question, {"student", "teacher"}; no teacher without what it should see."""
    context = teacher_context_of(settings) or "rubric"
    sides = {"student": prompt(e.question)}
    if not missing(e, context, e.rubric):
        sides["teacher"] = teacher_prompt(e, context, e.rubric)
    return sides


def align(out: Path, settings: Settings) -> None:
    """Print it all for the first question that has what the teacher sees.

    Raises ValueError if no question has it and leaves room for an answer.
    """
    method_of(settings)
    print(what_fits(lengths_of_run("stage1", out, settings), settings))
    tokenizer = load_tokenizer(out, settings)
    longest = settings.prompt_room() - settings.reason_first  # of a prompt

    def fits(sides: dict[str, Sections]) -> bool:
        return len(sides) == 2 and all(len(encode(tokenizer, s)) <= longest for s in sides.values())

    asked = training_questions("stage2", out, settings)
    sides = next(filter(fits, (both_sides(e, settings) for e in asked)), None)
    if not sides:
        raise ValueError(
            f"{settings.data or out}: no question with what the teacher sees leaves room for an answer in "
            f"--max-seq-len {settings.max_seq_len}"
        )
    model = load_base(out, settings, device_of(settings))[0].eval()
    run = Run(settings, tokenizer, model, model, model)
    if settings.reason_first:
        (sides["teacher"],) = with_analyses(model, tokenizer, [sides["teacher"]], settings)
    found, ends = {side: encode(tokenizer, sections) for side, sections in sides.items()}, {}
    for side, ids in found.items():
        print(f"==== the {side} reads {len(ids)} tokens\n{tokenizer.decode(ids)}\n{ids}")
        ends[side] = ids[len(ids) - ids[::-1].index(tokenizer.eos) :]  # behind the last turn
    text, longest = tokenizer.decode(ends["student"]), settings.max_new_tokens
    if ends["student"] == ends["teacher"]:
        print(f"==== the same completion ids follow both, behind {text!r}")
    else:
        print(f"==== the student begins behind {text!r}, the teacher does not (--thinking)")
    options = dict(max_new_tokens=longest, eos=tokenizer.ends, temperature=0)
    ids = generate(model, [found["student"]], **options)[0].ids
    print(f"==== the completion: {len(ids)} tokens\n{tokenizer.decode(ids)}")
    states = {side: hidden(run, model, sections, ids) for side, sections in sides.items()}
    divergence = token_stats(run, model, states["student"], states["teacher"]).divergence  # [n]
    print(f"==== divergence: {divergence.mean():.3f} nats a token on average, most at:")
    student, teacher = (opinions(run, model, states[side], ids) for side in ("student", "teacher"))
    print(f"{'token':>6} {'text':16} {'student':>8} {'teacher':>8} {'nats':>9}  teacher expects")
    for t in divergence.topk(min(MOST, len(ids))).indices.tolist():
        chances = f"{exp(student[t]['logprob']):8.3f} {exp(teacher[t]['logprob']):8.3f}"
        best = teacher[t]["top"][0][0]
        text = repr(tokenizer.decode([ids[t]]))
        print(f"{t:6} {text:16} {chances} {divergence[t]:9.3f}  {best!r}")


def main(arguments: list[str] | None = None) -> int:
    args = settings_parser(__doc__).parse_args(arguments)
    return exit_code("pretrained.align", lambda: align(*settings_from(args)))


if __name__ == "__main__":
    sys.exit(main())
