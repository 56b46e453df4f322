"""8. The rubric prompt, and why student and teacher stay aligned      about 10 lines, 20 minutes

A prompt is a list of (section, text) pairs; each section name has a special token. The student's prompt is the question
alone, a teacher's has more between the question and the end. Both end with the empty section that the completion fills:

    prompt(x)             [("question", x), ("solve", "")]
    prompt(x, rubric=r)   [("question", x), ("rubric", r.text()), ("solve", "")]
    the order             question, rubric, answer, solution, hint, then `task` ("solve" or "write_rubric");
                          None or "" has no section

    encode(tokenizer, sections)   ids: for each section its token tokenizer.id[name], then tokenizer.encode(text)

By hand: with a tokenizer that knows single bytes only, 256 to 263 are the special tokens (data/tokenizer.py: SPECIALS):
question 258, rubric 259, solve 262. prompt("ab") is 258 97 98 262. The teacher with a rubric whose text is "5 c" reads
258 97 98 259 53 32 99 262. Both end in 262, so the same completion ids can follow both.

Three ways to lose the alignment: to glue the texts together before encoding (a merge across the border changes ids), to
let the two prompts end differently (the first completion token then answers two different requests), and to decode the
completion and encode it again for the teacher. Here ids are made once, section by section, and carried. And a
question that contains the text "<|solve|>" must not turn into a prompt with two sections: tokenizer.encode never makes
a special token out of text.

The answer lives in rubrics.py: prompt and data/tokenizer.py: Tokenizer.encode_prompt.
Check with: python -m exercises.check 8
"""

from data.tokenizer import Tokenizer
from rubrics import Rubric


def prompt(
    question: str,
    *,
    rubric: Rubric | None = None,
    answer: str = "",
    solution: str = "",
    hint: str = "",
    task: str = "solve",
) -> list[tuple[str, str]]:
    raise NotImplementedError("exercise 8: replace this line")


def encode(tokenizer: Tokenizer, sections: list[tuple[str, str]]) -> list[int]:
    raise NotImplementedError("exercise 8: replace this line")
