"""A pretrained model's tokenizer.json, run by tiktoken, and its chat form.

Byte-level BPE of Qwen3, Llama 3 and SmolLM2. tiktoken merges in the order of the ids, so the ids
must be in the order of the merges: that is checked. Special tokens never come from text.
"""

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import tiktoken

from data.files import digest
from pretrained.chat import CHAT_FORMS, chat
from pretrained.weights import read_object
from rubrics import Sections

# The split of ByteLevel itself (GPT-2's), and the same behind Digits, which come one by one.
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGITS = r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"


def byte_characters() -> dict[str, int]:
    """The characters that stand for the 256 bytes in a byte-level vocabulary (GPT-2's table).

    Printable bytes stand for themselves, the others are counted up from U+0100.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    found = {chr(byte): byte for byte in printable}
    return found | {chr(256 + i): byte for i, byte in enumerate(others)}


class ChatTokenizer:
    """Text to token ids and back, as data.tokenizer.Tokenizer, with prompts in the model's chat form.

    `eos` ends a turn; `ends` are all ids at which the model stops.
    """

    def __init__(self, folder: Path, thinking: str = "none"):
        """`thinking` says which side may think: none, student, teacher or both.

        Raises ValueError, which names file and field, for a tokenizer that tiktoken cannot be."""
        path = folder / "tokenizer.json"
        content = read_object(path)
        self.digest = digest(path)
        self.added = _added_tokens(content, path)
        ranks = _ranks(content, self.added, path)
        self.vocab_size = len(ranks) + len(self.added)
        ids = sorted([*ranks.values(), *self.added.values()])
        if ids != list(range(self.vocab_size)):
            raise ValueError(f"{path}: model.vocab: expected each id from 0 on, once")
        # tiktoken needs every byte. One that the model lacks gets an id that `encode` drops.
        missing = [b for b in range(256) if bytes([b]) not in ranks]
        fillers = {bytes([b]): self.vocab_size + i for i, b in enumerate(missing)}
        self.encoding = tiktoken.Encoding(
            "pretrained",
            pat_str=_pattern(content.get("pre_tokenizer"), path),
            mergeable_ranks=ranks | fillers,
            special_tokens=self.added,
        )
        self.is_nfc = _is_nfc(content.get("normalizer"), path)
        forms = [form for form in CHAT_FORMS if form.end_of_turn in self.added]
        if not forms:
            wanted = ", ".join(form.end_of_turn for form in CHAT_FORMS)
            raise ValueError(f"{path}: added_tokens: expected a chat model's, with one of {wanted}")
        self.form = forms[0]
        self.can_think = "<think>" in self.added
        if thinking != "none" and not self.can_think:
            raise ValueError(f"--thinking {thinking}: {path} has no token <think>")
        self.student_thinks = thinking in ("student", "both")
        self.teacher_thinks = thinking in ("teacher", "both")
        self.eos = self.added[self.form.end_of_turn]
        self.ends = {self.eos} | _stop_ids(folder, self.vocab_size)

    def encode(self, text: str) -> list[int]:
        """The ids of plain text, in which "<|im_end|>" is text too: it gives no special id."""
        if self.is_nfc:
            text = unicodedata.normalize("NFC", text)
        return [i for i in self.encoding.encode_ordinary(text) if i < self.vocab_size]

    def encode_prompt(self, sections: Sections) -> list[int]:
        """The ids of a prompt in the model's chat form, up to where its own turn begins.

        A prompt that shows more than the question is a teacher's.
        """
        thinks = self.teacher_thinks if len(sections) > 2 else self.student_thinks
        thinks = thinks and sections[-1][0] != "judge"  # a judge's next token is its verdict
        ids = []
        for is_special, text in self.form.pieces(chat(sections)):
            ids += [self.added[text]] if is_special else self.encode(text)
        if self.can_think and not thinks:  # an empty thought: the answer begins at once
            ids += [self.added["<think>"], *self.encode("\n\n"), self.added["</think>"]]
            ids += self.encode("\n\n")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; special tokens show as their text, half a character as U+FFFD."""
        return self.encoding.decode(list(ids), errors="replace")

    def decode_completion(self, ids: list[int]) -> str:
        """The text of a completion, without the token that ends it and without its thoughts."""
        text = self.decode(ids[:-1] if ids and ids[-1] in self.ends else ids)
        return text.rpartition("</think>")[2].lstrip("\n") if self.can_think else text


def _added_tokens(content: dict, path: Path) -> dict[str, int]:
    try:
        return {token["content"]: int(token["id"]) for token in content["added_tokens"]}
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: added_tokens: expected a list with content and id") from None


def _ranks(content: dict, added: dict[str, int], path: Path) -> dict[bytes, int]:
    """{token bytes: id} of the tokens that text can give. Raises ValueError if it is no such BPE."""
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ValueError(f"{path}: model.type: expected byte-level BPE (no SentencePiece)")
    byte_of, ranks, id_of, last = byte_characters(), {}, {}, -1
    seen = set()
    try:
        for text, id in model["vocab"].items():
            if added.get(text) != id:
                ranks[bytes(byte_of[c] for c in text)] = id_of[text] = id
        for merge in model["merges"]:
            pair = merge.split(" ") if isinstance(merge, str) else merge
            merged = id_of["".join(pair)]
            if merged not in seen and merged < last:
                raise ValueError(
                    f"{path}: model.merges: expected the order of the ids, as tiktoken"
                )
            seen.add(merged)
            last = max(last, merged)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: model: expected vocab and merges of a byte-level BPE") from None
    return ranks


def _pattern(split, path: Path) -> str:
    """The regular expression that cuts text into pieces which no token crosses."""
    steps = split.get("pretokenizers", [split]) if isinstance(split, dict) else []
    kinds = [step.get("type") for step in steps if isinstance(step, dict)]
    by_itself = kinds[-1:] == ["ByteLevel"] and steps[-1].get("use_regex", True)
    if kinds == ["Split", "ByteLevel"] and not by_itself:
        pattern = steps[0].get("pattern", {}).get("Regex")
        if isinstance(pattern, str) and steps[0].get("behavior") == "Isolated":
            return pattern
    if kinds == ["ByteLevel"] and by_itself and not steps[0].get("add_prefix_space"):
        return _GPT2
    if kinds == ["Digits", "ByteLevel"] and by_itself and steps[0].get("individual_digits"):
        return _DIGITS
    raise ValueError(
        f"{path}: pre_tokenizer: expected Split, Digits or nothing before ByteLevel, "
        f"got {json.dumps(split)[:60]}"
    )


def _is_nfc(normalizer, path: Path) -> bool:
    if normalizer is None:
        return False
    if isinstance(normalizer, dict) and normalizer.get("type") == "NFC":
        return True
    raise ValueError(f"{path}: normalizer: expected NFC or none, got {json.dumps(normalizer)[:60]}")


def _stop_ids(folder: Path, vocab_size: int) -> set[int]:
    """The ids at which the model stops by itself, from generation_config.json if it is there."""
    path = folder / "generation_config.json"
    stop = read_object(path).get("eos_token_id", []) if path.exists() else []
    ids = stop if isinstance(stop, list) else [stop]
    if not all(isinstance(i, int) and 0 <= i < vocab_size for i in ids):
        raise ValueError(f"{path}: eos_token_id: expected ids below {vocab_size}, got {stop!r}")
    return set(ids)
