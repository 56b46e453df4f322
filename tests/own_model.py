"""A random model of a few thousand weights in a folder, questions for it, and the commands on both."""

import json

import numpy

import evaluate
import rcsd
from pretrained import align
from pretrained.tokenizer import ChatTokenizer
from pretrained_numbers.make import MODELS, weights
from test_pretrained_tokenizer import write_tokenizer
from test_pretrained_weights import NUMBERS, write_safetensors

FLAGS = ["--max-seq-len", "900", "--max-new-tokens", "12", "--batch", "4", "--group-size", "2"]
FLAGS += ["--stage1-steps", "2", "--stage2-steps", "2", "--held-out", "0.25", "--device", "cpu"]


def make_mine(folder):
    """(model folder, data file): a random Qwen3 with a chat tokenizer, and questions with rubrics."""
    size = ChatTokenizer(write_tokenizer(folder)).vocab_size
    shapes = json.loads(json.dumps(NUMBERS["models"]["qwen3"]["shapes"]))
    shapes["model.embed_tokens.weight"][0] = size + 5  # spare rows, as in Qwen3
    tensors = weights(shapes)
    tensors["model.embed_tokens.weight"][size:] = numpy.float32(50)  # they would win every draw
    write_safetensors(folder / "model.safetensors", tensors)
    config = MODELS["qwen3"] | {"vocab_size": size + 5, "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config))
    rows = []
    for i in range(24):
        rubric = [{"description": f"Essential: says {i}", "weight": 5}]
        rubric.append({"description": "Pitfall: says no", "weight": -1})
        rows.append({"question": f"What is {i} + 1?", "answer": f"{i + 1}", "rubric": rubric})
    data = folder / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder, data


def arguments_of(mine, out, *more):
    """The flags of a run on this model and these questions."""
    return ["--model", str(mine[0]), "--data", str(mine[1]), "--out", str(out), *FLAGS, *more]


def run(mine, out, command, *more):
    argv = arguments_of(mine, out, *more)
    if command == "evaluate":
        return evaluate.main(argv)
    if command == "align":
        return align.main(argv)
    return rcsd.main([command, *argv])
