"""A rubric's tokens: which share of an explanation's divergence lies on the lines of its links.

A rubric of a question that asks why has an Essential criterion for each link ("says that the cloud
cover rises, so the sunlight falls"). The line of a criterion is the line of the answer about the
same cause and effect, whether it states the link or contradicts it. As the loss of stage II is a
sum over tokens, its share on that line says how much of the training this criterion's line gets.
"""

from data.statements import Claim, claims_of
from report.explain import Run, divergences, fits, prompt_ids, token_text
from rubrics import SAYS, Example, Rubric
from step import sample_completions

MOST = 40  # answers that the means are over
LINES = ("states", "contradicts")  # what a line does to the link of a criterion


def link_of(criterion: str) -> Claim | None:
    """The link that an Essential criterion demands, (cause, effect, sign); None if it is no link."""
    category, _, said = criterion.partition(": ")
    for verb in SAYS:
        found = claims_of(said.removeprefix(verb)) if said.startswith(verb) else ()
        if category == "Essential" and len(found) == 1:
            return next(iter(found))
    return None


def line_numbers(texts: list[str]) -> list[int]:
    """The line of an answer that each token is on, from its tokens' texts; a break ends its line."""
    numbers, line = [], 0
    for text in texts:
        numbers.append(line)
        line += text.count("\n")
    return numbers


def shares(criteria: list[str], texts: list[str], divergence: list[float]) -> list[dict]:
    """For each criterion that demands a link: the line about it, and its shares of the answer.

    `texts` and `divergence` (nats) are of the n tokens of the answer. "line" is one of LINES, or ""
    if no line is about the link; then there are 0 "tokens", and no shares. Where some lines state
    the link, those that contradict it are left aside. "token share" is of n, "divergence share" of
    the sum of `divergence`; the latter is None if that sum is 0.
    """
    numbers, total = line_numbers(texts), sum(divergence)
    claims = [claims_of(line) for line in "".join(texts).split("\n")]
    rows = []
    for criterion in criteria:
        link = link_of(criterion)
        if link is None:
            continue
        stated = [i for i, found in enumerate(claims) if link in found]
        denied = [i for i, found in enumerate(claims) if link[:2] in {c[:2] for c in found}]
        lines = stated or denied
        own = [d for d, i in zip(divergence, numbers) if i in lines]
        row = {"criterion": criterion, "line": "", "tokens": len(own)}
        row |= {"token share": None, "divergence share": None}
        if lines:
            row["line"] = LINES[not stated]
            row["token share"] = len(own) / len(texts)
            row["divergence share"] = sum(own) / total if total > 0 else None
        rows.append(row)
    return rows


def words_of(run: Run, texts: list[str]) -> list[str]:
    """The texts of an answer's tokens; the mark of its end is a token, but no word of its line."""
    ends = {token_text(run.tokenizer, i) for i in run.tokenizer.ends}
    return [*texts[:-1], "" if texts[-1] in ends else texts[-1]]


def shares_of_answer(run: Run, example: dict, answer: dict) -> list[dict]:
    """The `shares` of an answer as explain.answer made it, before training."""
    criteria = [criterion["text"] for criterion in example["rubric"]]
    texts = words_of(run, [token["text"] for token in answer["tokens"]])
    return shares(criteria, texts, [token["before"]["divergence"] for token in answer["tokens"]])


def means(rows: list[dict]) -> list[dict]:
    """The mean shares over the criteria whose line states the link, contradicts it, or either.

    "count" is how many they are. A criterion without a line, or of an answer without divergence,
    has no part in them.
    """
    found = []
    for line in (*LINES, ""):
        mine = [r for r in rows if r["line"] and r["line"] in (line or r["line"])]
        mine = [r for r in mine if r["divergence share"] is not None]
        row = {"line": line, "count": len(mine), "token share": None, "divergence share": None}
        for name in ("token share", "divergence share"):
            if mine:
                row[name] = sum(r[name] for r in mine) / len(mine)
        found.append(row)
    return found


def link_tokens(run: Run, examples: list[Example], rubrics: dict[str, Rubric]) -> dict | None:
    """The means over one sampled answer of the student before training to each of MOST questions.

    The questions are the first that have a criterion with a link. `rubrics`, by question id, are
    what the teacher reads. Returns "questions", "criteria" (with a link), and the `means` as
    "lines"; None without such questions.
    """

    def texts_of(e: Example) -> list[str]:
        return [criterion.description for criterion in rubrics[e.id].criteria]

    examples = [e for e in examples if any(link_of(text) for text in texts_of(e))]
    examples = [e for e in examples if fits(run, e.question, rubric=rubrics[e.id])][:MOST]
    if not examples:
        return None
    prompts = [prompt_ids(run, e.question) for e in examples]
    samples = sample_completions(run.base, prompts, run.tokenizer, run.settings, "report", "links")
    rows = []
    for e, completion in zip(examples, samples):
        texts = words_of(run, [token_text(run.tokenizer, i) for i in completion.ids])
        divergence = divergences(run, e.question, rubrics[e.id], completion.ids)
        rows += shares(texts_of(e), texts, divergence)
    return {"questions": len(examples), "criteria": len(rows), "lines": means(rows)}
