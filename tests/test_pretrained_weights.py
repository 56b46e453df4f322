"""pretrained/weights.py against transformers, whose numbers tests/pretrained_numbers/numbers.json keeps."""

import json
from pathlib import Path

import numpy
import pytest
import torch

from model import generate
from pretrained.lora import WithoutAdapter, add_lora, merge_lora
from pretrained.weights import load_pretrained, read_safetensors, save_pretrained
from pretrained_numbers.make import PROMPT, weights

NUMBERS = json.loads((Path(__file__).parent / "pretrained_numbers/numbers.json").read_text("utf-8"))
FAMILIES = list(NUMBERS["models"])


def write_safetensors(path, tensors):
    """The format by hand, independent of pretrained/weights.py."""
    header, data = {}, b""
    for name, array in tensors.items():
        end = len(data) + array.nbytes
        entry = {"dtype": "F32", "shape": [*array.shape], "data_offsets": [len(data), end]}
        header[name], data = entry, data + array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_folder(folder, family, spare=0, **changes):
    """A model's folder; `spare` rows without a token stand behind its embedding."""
    folder.mkdir(parents=True, exist_ok=True)
    made = NUMBERS["models"][family]
    config = made["config"] | changes
    tensors = weights(made["shapes"])
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if spare and name in tensors:
            extra = numpy.full((spare, tensors[name].shape[1]), 9.0, dtype=numpy.float32)
            tensors[name] = numpy.concatenate([tensors[name], extra])
    config["vocab_size"] += spare
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def logits_of(model, ids=PROMPT):
    with torch.no_grad():
        return model(torch.tensor([ids]))[0] @ model.head_weight.T


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_greedy_tokens_are_those_of_transformers(family, tmp_path):
    model = load_pretrained(write_folder(tmp_path, family), 128, torch.float32)
    theirs = torch.tensor(NUMBERS["models"][family]["logits"])
    ours = logits_of(model)[[0, 1, 20, 39]]
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    (new,) = generate(model, [PROMPT], max_new_tokens=64, eos=-1, temperature=0)
    assert new.ids == NUMBERS["models"][family]["greedy"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_way_back_gives_the_same_tensors(family, tmp_path):
    """Spare rows of the embedding are left out, and come back."""
    source = write_folder(tmp_path / "a", family, spare=3)
    model = load_pretrained(source, 128, torch.float32, vocab_size=90)
    assert len(model.head_weight) == 90
    save_pretrained(model, source, tmp_path / "b")
    before = read_safetensors(source / "model.safetensors")
    after = read_safetensors(tmp_path / "b" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_shards_are_read_as_one(tmp_path):
    one = write_folder(tmp_path / "one", "llama3")
    two = write_folder(tmp_path / "two", "llama3")
    tensors = weights(NUMBERS["models"]["llama3"]["shapes"])
    (two / "model.safetensors").unlink()
    parts = {"a.safetensors": {}, "b.safetensors": {}}
    for i, (name, tensor) in enumerate(tensors.items()):
        parts[list(parts)[i % 2]][name] = tensor
    where = {name: file for file, part in parts.items() for name in part}
    for file, part in parts.items():
        write_safetensors(two / file, part)
    (two / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    models = [load_pretrained(folder, 64, torch.float32) for folder in (one, two)]
    assert torch.equal(logits_of(models[0]), logits_of(models[1]))


def spoil(folder, what):
    """A fault in a good folder."""
    file, config = folder / "model.safetensors", folder / "config.json"
    data, shape = file.read_bytes(), json.loads(config.read_text())
    tensors = weights(NUMBERS["models"]["qwen3"]["shapes"])
    name = "model.layers.1.mlp.up_proj.weight"
    if what == "cut off":
        file.write_bytes(data[:-100])
    elif what == "bytes behind":
        file.write_bytes(data + b"1234")
    elif what == "no header":
        file.write_bytes(b"\x00" * 20)
    elif what == "endless header":
        file.write_bytes(b"\xff" * 8 + data[8:])
    elif what == "empty":
        file.write_bytes(b"")
    elif what == "overlap":
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        first, last = header[name]["data_offsets"]
        header[name]["data_offsets"] = [first - 4, last - 4]
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    elif what == "missing":
        del tensors[name]
        write_safetensors(file, tensors)
    elif what == "left over":
        write_safetensors(file, tensors | {"extra.weight": tensors[name]})
    elif what == "shape":
        write_safetensors(file, tensors | {name: tensors[name].T.copy()})
    elif what == "pickle":
        file.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    elif what == "shard":
        where = {"weight_map": {name: "b.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(where))
    elif what == "config":
        config.write_text("{")
    else:
        field, value = what.split("=")
        config.write_text(json.dumps(shape | {field: json.loads(value)}))


@pytest.mark.parametrize(
    "what, said",
    [
        ("cut off", "model.safetensors: .*data_offsets"),
        ("bytes behind", "model.safetensors: 4 bytes behind"),
        ("no header", "model.safetensors: header"),
        ("endless header", "model.safetensors: header"),
        ("empty", "model.safetensors: expected"),
        ("overlap", "up_proj.weight: .*overlapping"),
        ("missing", "layers.1.mlp.up_proj.weight: missing"),
        ("left over", "extra.weight: a tensor that"),
        ("shape", "up_proj.weight: expected the shape"),
        ("pickle", "pytorch_model.bin: a pickle"),
        ("shard", "b.safetensors"),
        ("config", "config.json: expected"),
        ('model_type="gemma3"', "config.json: model_type: .*gemma3"),
        ("attention_bias=true", "config.json: attention_bias"),
        ('hidden_act="gelu"', "config.json: hidden_act"),
        ("hidden_size=0", "config.json: hidden_size: expected a positive int"),
        ('num_hidden_layers="2"', "config.json: num_hidden_layers"),
        ('rope_scaling={"rope_type": "yarn"}', "config.json: rope_scaling"),
        ("max_position_embeddings=16", "--max-seq-len 128"),
        ("num_key_value_heads=3", "config.json: .*n_kv_head"),
        ("vocab_size=89", "embed_tokens.weight: expected the shape"),
    ],
)
def test_a_folder_that_does_not_fit_says_so(what, said, tmp_path):
    folder = write_folder(tmp_path, "qwen3")
    spoil(folder, what)
    with pytest.raises(ValueError, match=said):
        load_pretrained(folder, 128, torch.float32)


def test_an_adapter_that_is_off_or_new_changes_no_bit_and_merging_changes_rounding(tmp_path):
    folder = write_folder(tmp_path, "qwen3")
    base = load_pretrained(folder, 128, torch.float32)
    student = add_lora(load_pretrained(folder, 128, torch.float32), 4, 8.0, seed=1)
    assert torch.equal(logits_of(student), logits_of(base))
    trained = [p for p in student.parameters() if p.requires_grad]
    assert len(trained) == 2 * 7 * 2  # A and B of seven matrices in two blocks
    with torch.no_grad():
        for i, p in enumerate(trained):
            p.add_(torch.sin(torch.arange(p.numel()) + i).view_as(p) * 0.1)
    changed = logits_of(student)
    assert (changed - logits_of(base)).abs().max() > 0.1
    assert torch.equal(logits_of(WithoutAdapter(student)), logits_of(base))
    # By hand, for one matrix: W + (alpha / r) B A.
    layer = student.blocks[0].gate
    by_hand = layer.frozen.weight.double() + 2.0 * layer.B.double() @ layer.A.double()
    merged = merge_lora(student)
    assert torch.allclose(merged.blocks[0].gate.weight.double(), by_hand, atol=1e-6)
    assert torch.allclose(logits_of(merged), changed, atol=1e-4)


def test_recomputed_activations_give_the_same_gradients(tmp_path):
    folder = write_folder(tmp_path, "llama3")
    grads = []
    for recompute in (False, True):
        model = load_pretrained(folder, 128, torch.float32)
        model.recompute = recompute
        (model(torch.tensor([PROMPT]))[0] @ model.head_weight.T).logsumexp(-1).sum().backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads))
