"""Exercise 8, the rubric prompt: its check and the mistakes it knows."""

from itertools import permutations

import data.tokenizer
import rubrics
import step
from exercises.harness import Echo, compare, given

TITLE = "the rubric prompt"
SHIPPED = (rubrics.prompt, data.tokenizer.encode)


def check(prompt, encode):
    rubric = rubrics.Rubric(
        (
            rubrics.Criterion("A", "Essential: uses a = b", 5),
            rubrics.Criterion("B", "Pitfall: does not guess", -1),
        )
    )
    cases = [
        dict(),
        dict(rubric=rubric),
        dict(answer="4 L"),
        dict(solution="a = b"),
        dict(rubric=rubric, answer="4 L"),
        dict(rubric=rubric, task="write_rubric"),
        dict(task="write_rubric"),
        dict(rubric=rubric, answer="4 L", solution="a = b"),
    ]
    for more in cases:
        said = ", ".join(f"{k}={'r' if k == 'rubric' else repr(v)}" for k, v in more.items())
        with given(f"prompt('What?'{', ' + said if said else ''})"):
            expected, got = rubrics.prompt("What?", **more), prompt("What?", **more)
        order = [x for x in expected[:-1] if x[0] != "question"]
        compare(
            f"prompt('What?'{', ' + said if said else ''})",
            got,
            expected,
            [
                (
                    expected[:-1],
                    "The last section is missing: an empty one, named by `task`, which the completion fills.",
                ),
                (
                    expected[:-1] + [("solve", "")],
                    "The last section is named by `task`, and that is 'write_rubric' here.",
                ),
                (
                    order + [x for x in expected if x[0] == "question"] + expected[-1:],
                    "The question comes first: then student and teacher begin alike.",
                ),
                *(
                    (
                        expected[:1] + list(other) + expected[-1:],
                        "The order is question, rubric, answer, solution.",
                    )
                    for other in permutations(order)
                ),
                (
                    [
                        (
                            n,
                            "\n".join(c.description for c in rubric.criteria)
                            if n == "rubric"
                            else t,
                        )
                        for n, t in expected
                    ],
                    "The weights are missing: rubric.text() has them.",
                ),
                (
                    [(n, str(rubric) if n == "rubric" else t) for n, t in expected],
                    "The object, as Python prints it: the prompt has rubric.text().",
                ),
                (
                    [
                        ("question", "What?"),
                        ("rubric", rubric.text() if "rubric" in more else ""),
                        ("answer", more.get("answer", "")),
                        ("solution", more.get("solution", "")),
                        expected[-1],
                    ],
                    "What is not given has no section, not an empty one.",
                ),
            ],
        )
    bytes_only = data.tokenizer.Tokenizer({bytes([i]): i for i in range(256)})
    corpus = ["speed = distance ÷ time\n5 Essential: uses speed"] * 3
    trained = data.tokenizer.Tokenizer(data.tokenizer.train_bpe(corpus, 300))
    student, teacher = (
        [("question", "ab"), ("solve", "")],
        [("question", "ab"), ("rubric", "5 c"), ("solve", "")],
    )
    texts = [
        ("question", "speed of a <|solve|> and <|eos|>"),
        ("rubric", "5 Essential: uses speed\n"),
        ("answer", " = 5"),
        ("solve", ""),
    ]
    for name, tokenizer, sections, by_hand in (
        ("bytes only", bytes_only, student, [258, 97, 98, 262]),
        ("bytes only", bytes_only, teacher, [258, 97, 98, 259, 53, 32, 99, 262]),
        ("bytes only", bytes_only, texts, None),
        ("trained", trained, texts, None),
        ("trained", trained, [("question", "speed"), ("write_rubric", "")], None),
    ):
        expected, t = by_hand or data.tokenizer.encode(tokenizer, sections), tokenizer

        def special(n):
            return [t.id[n]]

        marked = "".join(f"<|{n}|>{text}" for n, text in sections)
        with given(f"encode, tokenizer {name}, {sections}"):
            got = encode(t, sections)
        compare(
            f"encode, tokenizer {name}, {sections}",
            got,
            expected,
            [
                (
                    t.encode(marked),
                    "The section names were encoded as text: a special token is added by its id, "
                    "tokenizer.id[name].",
                ),
                (
                    t.encoding.encode(marked, allowed_special="all"),
                    "A special token written in the data became one: encode only the texts, add the special ids by hand.",
                ),
                (
                    special(sections[0][0]) + t.encode("".join(x for _, x in sections)),
                    "The texts were joined before encoding.",
                ),
                (
                    [i for n, x in sections for i in t.encode(x) + special(n)],
                    "The special token opens its section: it comes before the text.",
                ),
                (
                    [i for n, x in sections for i in t.encode(x)],
                    "The special tokens of the sections are missing.",
                ),
                (expected + [t.eos], "A prompt has no EOS: the completion ends with it."),
                (
                    [i for n, x in sections if x for i in special(n) + t.encode(x)],
                    "An empty section has its special token too: the completion follows it.",
                ),
            ],
        )
    y = [97, 98, 257]  # a completion's ids: carried, so they stand behind both prompts
    ids = [encode(bytes_only, prompt("ab", **more)) for more in ({}, dict(rubric=rubric))]
    read = [step.completion_hidden(Echo(), [(i, y)])[:, 0] for i in ids]
    compare(
        "completion ids [97, 98, 257] behind both prompts: the tokens before each, student (expected) and teacher",
        read[1],
        read[0],
    )
