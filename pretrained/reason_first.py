"""--reason-first N: the teacher writes an analysis of at most N tokens, then scores behind it.

It writes it greedily from its own prompt, so it has read what the teacher sees. The student's prompt
and the tokens that are scored stay as they are.
"""

from collections.abc import Callable

from data.tokenizer import encode
from model import GPT
from pretrained.tokenizer import ChatTokenizer
from rubrics import Example, Sections, analysis_prompt, behind_analysis
from step import Rollout, greedy
from trainer.settings import Settings


def with_analyses(
    teacher: GPT, tokenizer: ChatTokenizer, prompts: list[Sections], settings: Settings
) -> list[Sections]:
    """Each teacher's prompt with the analysis that the teacher writes from it.

    One that leaves no room for an answer (text that is encoded again may be longer) is left out.
    """
    asked = [encode(tokenizer, analysis_prompt(sections)) for sections in prompts]
    written = greedy(teacher, tokenizer, asked, settings, max_new_tokens=settings.reason_first)
    found = []
    for sections, (text, _, _) in zip(prompts, written):
        longer = behind_analysis(sections, text)
        fits = len(encode(tokenizer, longer)) <= settings.prompt_room()
        found.append(longer if fits else sections)
    return found


def reason_first(
    teacher: GPT,
    tokenizer: ChatTokenizer,
    rollouts: list[Rollout],
    teacher_prompt: Callable[[Example], Sections],
    settings: Settings,
) -> None:
    """Put the teacher of each rollout behind its analysis."""
    prompts = [teacher_prompt(r.example) for r in rollouts]
    for r, sections in zip(rollouts, with_analyses(teacher, tokenizer, prompts, settings)):
        r.teacher_prompt_ids = encode(tokenizer, sections)
