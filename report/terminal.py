"""The explanation of a question as text for a terminal, with the shades of the page if wanted."""

from report.markup import BINS, NAMES, level, mean_divergence, num, rubric_text

SHELL_SHADES = (  # of the 256 colours: background and text of each shade
    (None, None),
    (254, 16),
    (189, 16),
    (110, 16),
    (26, 231),
    (18, 231),
)
TOLD = 3  # tokens of an answer that are told, and the likeliest tokens of each


def paint(text: str, shade: int, colour: bool) -> str:
    """The text on the background of its shade; unchanged without colour or for shade 0."""
    if not colour or shade == 0:
        return text
    background, foreground = SHELL_SHADES[shade]
    return f"\x1b[48;5;{background}m\x1b[38;5;{foreground}m{text}\x1b[0m"


def expectations(opinion: dict) -> str:
    """The likeliest tokens of one model with their probabilities."""
    return ", ".join(f"{text!r} {num(p)}" for text, p in opinion["top"][:TOLD])


def terminal_strip(tokens: list[dict], side: str, colour: bool) -> list[str]:
    """The answer, shaded, then the tokens that diverge most with what each model expected."""

    def divergence(token: dict) -> float:
        return token[side]["divergence"]

    text = ""
    for token in tokens:
        text += paint(token["text"].replace("\n", "⏎"), level(divergence(token)), colour)
        text += "\n" * token["text"].count("\n")
    lines = [f"  {line}" for line in text.split("\n")]
    for token in sorted(tokens, key=divergence, reverse=True)[:TOLD]:
        if level(divergence(token)):
            student, teacher = expectations(token[side]), expectations(token["teacher"])
            nats = num(divergence(token))
            lines.append(f"  {token['text']!r}: {nats} nats; student {student}; teacher {teacher}")
    return lines


def terminal_criteria(answer: dict, rubric: list[dict]) -> list[str]:
    """A line for each criterion: its effect left out, its effect alone, its words."""

    def line(left_out: str, alone: str, words: str) -> str:
        return f"  {left_out:>9} {alone:>9}  {words}"

    effects, tokens = answer["effects"]["logprob"], answer["tokens"]
    lines = ["  change of the answer's log-probability under the teacher, nats"]
    lines.append(line("left out", "alone", "criterion (the token that leaving it out moves most)"))
    for criterion, left_out, alone in zip(rubric, effects["left out"], effects["alone"]):
        sizes = [abs(x) for x in left_out]
        t = sizes.index(max(sizes))
        words = f"{criterion['text']} ({tokens[t]['text']!r} {num(left_out[t])})"
        lines.append(line(num(sum(left_out)), num(sum(alone)), words))
    lines.append(line(num(sum(effects["whole"])), "", "the whole rubric"))
    for text, added in zip(answer["controls"], effects["control"]):
        lines.append(line(num(sum(added)), "", f"control, one line more: {text}"))
    return lines


def terminal(report: dict, colour: bool) -> str:
    """All questions of report["examples"]: what both models read, then strips and criteria."""
    lines = []
    for example in report["examples"]:
        lines += [
            "The student reads:",
            f"  {example['question']}",
            "The teacher reads in addition:",
        ]
        lines += [f"  {line}" for line in rubric_text(example["rubric"]).split("\n")]
        for answer in example["answers"]:
            for side in ("before", "after"):
                mean = num(mean_divergence(answer["tokens"], side), 3)
                lines.append("")
                lines.append(
                    f"Answer ({answer['by']}). {NAMES[side]}: divergence {mean} nats per token"
                )
                lines += terminal_strip(answer["tokens"], side, colour)
            lines += ["", *terminal_criteria(answer, example["rubric"])]
    if colour:
        edges = [f"below {BINS[0]:g}"] + [f"{edge:g}" for edge in BINS]
        shades = [paint(f" {edge} ", i, True) for i, edge in enumerate(edges)]
        lines += ["", "shades, nats from: " + " ".join(shades)]
    return "\n".join(lines)
