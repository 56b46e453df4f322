"""The prompts of rubrics.py for a pretrained model: said in words, in the form of its chats."""

from dataclasses import dataclass

from rubrics import Sections

SYSTEM = "You solve science questions."
_SAID = {  # a section in words
    "question": "{}",
    "rubric": "A good answer meets these criteria (weight, kind, criterion):\n{}",
    "answer": "The correct answer is: {}",
    "solution": "A worked solution:\n{}",
    "hint": "{}",
    "analyse": (
        "Do not answer yet. Say in a few sentences what a right answer must have, which result it "
        "reaches, and which mistakes to avoid."
    ),
    "analysis": (
        "Your analysis:\n{}\n\nNow answer the question as if you had read nothing else, without a "
        "word about criteria or this analysis."
    ),
    "reply": "An answer to it:\n{}",
    "criterion": "A criterion for answers (weight, kind, what is asked):\n{}",
    "judge": (
        "Does the answer do what the criterion asks? A pitfall has to be avoided. Reply with one "
        "word, Yes or No."
    ),
    "solve": 'Solve it step by step. End with a line "Answer: " and the result.',
    "write_rubric": (
        "Write a rubric for answers to this question: 3 to 7 criteria, one a line, each a weight, "
        "a kind (Essential, Important, Optional or Pitfall) and what is asked. A pitfall has a "
        "negative weight. For example:\n"
        "5 Essential: uses force = mass × acceleration\n"
        "3 Important: gives the answer in N\n"
        "1 Optional: ends with the answer on a line of its own\n"
        "-2 Pitfall: does not divide mass by acceleration"
    ),
}


def chat(sections: Sections) -> list[tuple[str, str]]:
    """A prompt as the turns of a chat, (role, text) pairs, for a model that was trained on chats."""
    said = [_SAID[section].format(text) for section, text in sections]
    return [("system", SYSTEM), ("user", "\n\n".join(said).strip())]


@dataclass(frozen=True)
class ChatForm:
    """How a family of models writes a chat: special tokens, and the text between them."""

    begin: str
    """Special token before the first turn, or ""."""
    turn: str
    """Special token before a role."""
    role_end: str
    """Special token behind a role, or ""."""
    gap: str
    """Text between the role and what it says."""
    end_of_turn: str
    """Special token behind what it says: the EOS of a completion."""
    between: str
    """Text between two turns."""

    def pieces(self, turns: list[tuple[str, str]]) -> list[tuple[bool, str]]:
        """(is it a special token, text) pairs, up to where the assistant's turn begins."""
        found = [(True, self.begin)]
        for role, text in turns:
            found += [(True, self.turn), (False, role), (True, self.role_end)]
            found += [(False, self.gap + text), (True, self.end_of_turn), (False, self.between)]
        found += [(True, self.turn), (False, "assistant"), (True, self.role_end), (False, self.gap)]
        joined = []
        for is_special, text in found:
            if text and not is_special and joined and not joined[-1][0]:
                joined[-1] = (False, joined[-1][1] + text)  # encoded in one, as the model knows it
            elif text:
                joined.append((is_special, text))
        return joined


CHAT_FORMS = (
    ChatForm("", "<|im_start|>", "", "\n", "<|im_end|>", "\n"),  # ChatML: Qwen3, SmolLM2
    ChatForm(
        "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "<|eot_id|>", ""
    ),  # Llama 3
)
