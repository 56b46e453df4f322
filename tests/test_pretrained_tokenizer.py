"""pretrained/tokenizer.py against the tokenizers library, whose ids tests/pretrained_numbers/numbers.json keeps."""

import json
from pathlib import Path

import pytest

from pretrained.chat import SYSTEM
from pretrained.tokenizer import ChatTokenizer
from pretrained_numbers.make import CUTS, strings
from rubrics import GENERIC, prompt

NUMBERS = json.loads((Path(__file__).parent / "pretrained_numbers/numbers.json").read_text("utf-8"))
LLAMA = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def write_tokenizer(folder, family="qwen3", added=None, **changes):
    """tokenizer.json with the text cut as a family does; `added` replaces the special tokens."""
    normalizer, cut = CUTS[family]
    content = json.loads(json.dumps(NUMBERS["tokenizer"]))
    if added:
        content["added_tokens"] = content["added_tokens"][: len(added)]
        old = [token["content"] for token in content["added_tokens"]]
        for token, text in zip(content["added_tokens"], added):
            token["content"] = text
        vocab = content["model"]["vocab"]
        for text, new in zip(old, added):
            if text in vocab:
                vocab[new] = vocab.pop(text)
    content |= {"normalizer": normalizer, "pre_tokenizer": cut} | changes
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("family", list(CUTS))
def test_ids_are_those_of_the_library_and_decode_to_the_text(family, tmp_path):
    tokenizer = ChatTokenizer(write_tokenizer(tmp_path, family))
    for text, ids in zip(strings(80), NUMBERS["tokenizers"][family]):
        assert tokenizer.encode(text) == ids, text
        if family != "qwen3":  # which makes é of e and an accent
            assert tokenizer.decode(ids) == text


def test_special_tokens_never_come_from_text_and_end_a_turn(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [3, 5]}')
    tokenizer = ChatTokenizer(tmp_path)
    special = set(tokenizer.added.values())
    assert not special & set(tokenizer.encode("<|im_start|>user <think> <|im_end|>"))
    assert tokenizer.eos == tokenizer.added["<|im_end|>"]
    assert tokenizer.ends == {tokenizer.eos, 3, 5}
    ids = [*tokenizer.encode("so"), tokenizer.eos]
    assert tokenizer.decode_completion(ids) == "so"


def test_a_byte_that_the_vocabulary_lacks_is_dropped(tmp_path):
    content = json.loads(json.dumps(NUMBERS["tokenizer"]))
    vocab = content["model"]["vocab"]
    lacking = next(c for c in vocab if len(c) == 1 and ord(c) > 0x140)
    gone = vocab.pop(lacking)
    for other, id in vocab.items():
        vocab[other] = id - (id > gone)
    for token in content["added_tokens"]:
        token["id"] -= 1
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = ChatTokenizer(tmp_path)
    assert tokenizer.vocab_size == len(vocab) + sum(
        token["content"] not in vocab for token in content["added_tokens"]
    )
    every_byte = [i for b in range(1, 128) for i in tokenizer.encode(chr(b))]
    assert max(every_byte) < tokenizer.vocab_size


CHATML = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nWhy?\n\n{task}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
LLAMA3 = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhy?\n\n{task}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
TASK = 'Solve it step by step. End with a line "Answer: " and the result.'


@pytest.mark.parametrize("thinking", ["none", "student", "teacher", "both"])
def test_each_side_thinks_as_it_is_told(thinking, tmp_path):
    """By hand: ChatML as Qwen3 writes it; a model that may not think is given an empty thought."""
    tokenizer = ChatTokenizer(write_tokenizer(tmp_path), thinking)
    whole = CHATML.format(system=SYSTEM, task=TASK)
    student = tokenizer.decode(tokenizer.encode_prompt(prompt("Why?")))
    teacher = tokenizer.decode(tokenizer.encode_prompt(prompt("Why?", rubric=GENERIC)))
    empty = "<think>\n\n</think>\n\n"
    assert student == whole + empty * (thinking not in ("student", "both"))
    assert teacher.endswith("assistant\n" + empty * (thinking not in ("teacher", "both")))
    assert GENERIC.text() in teacher
    thought = [*tokenizer.encode("hm"), tokenizer.added["</think>"], *tokenizer.encode("\n\nso")]
    assert tokenizer.decode_completion([*thought, tokenizer.eos]) == "so"


def test_llama_3_has_its_own_form(tmp_path):
    tokenizer = ChatTokenizer(write_tokenizer(tmp_path, "llama3", LLAMA))
    text = tokenizer.decode(tokenizer.encode_prompt(prompt("Why?")))
    assert text == LLAMA3.format(system=SYSTEM, task=TASK)
    with pytest.raises(ValueError, match="--thinking both: .*<think>"):
        ChatTokenizer(tmp_path, "both")


def swapped(vocab):
    """The vocabulary with the ids of two merged tokens exchanged."""
    long = [text for text in vocab if len(text) == 2][:2]
    return vocab | {long[0]: vocab[long[1]], long[1]: vocab[long[0]]}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"normalizer": {"type": "NFKC"}}, "normalizer: expected NFC"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "pre_tokenizer: expected"),
        ({"pre_tokenizer": None}, "pre_tokenizer: expected"),
        ({"model": {"type": "Unigram"}}, "model.type: expected byte-level BPE"),
        ({"model": 3}, "model.type"),
        ({"added_tokens": [{"id": 1}]}, "added_tokens: expected"),
        ({"added_tokens": []}, "added_tokens: expected a chat model's|model.vocab"),
        ("merges", "model.merges: expected the order"),
        ("hole", "model.vocab: expected each id"),
        ("text", "tokenizer.json: expected"),
    ],
)
def test_a_tokenizer_that_does_not_fit_says_so(changes, said, tmp_path):
    write_tokenizer(tmp_path, **(changes if isinstance(changes, dict) else {}))
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    if changes == "merges":
        content["model"]["vocab"] = swapped(content["model"]["vocab"])
    elif changes == "hole":
        content["added_tokens"][-1]["id"] += 1
    path.write_text("{" if changes == "text" else json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        ChatTokenizer(tmp_path)
