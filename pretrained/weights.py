"""Pretrained weights: a Hugging Face folder in, a Hugging Face folder out.

A folder holds config.json, *.safetensors (one file, or shards with an index) and tokenizer.json.
Qwen3 and models of Llama's shape have our block: their tensors only change their names. Nothing is
unpickled. The safetensors format: the header's length in 8 bytes, the header in JSON
{name: {dtype, shape, data_offsets}}, then the bytes of the tensors.
"""

import json
import math
import mmap
import re
import shutil
from pathlib import Path

import torch

from data.files import digest, replacing, write_lines
from model import GPT, GPTConfig, rope_tables

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
INDEX = "model.safetensors.index.json"
SUPPORTED = ("qwen3", "llama")
_MUST_BE = {  # fields that would change the block, with the only value that ours can do
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "use_sliding_window": False,
    "partial_rotary_factor": 1.0,
}
_TOP = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
VOCABULARY = ("embed.weight", "head.weight")  # a row for each token, and spare rows in some files
_BLOCK = {
    "attn_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
    "attn_out": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "mlp_out": "mlp.down_proj",
}


def their_name(name: str) -> str:
    """Our parameter's name in a Hugging Face file: blocks.0.q.weight is ...self_attn.q_proj..."""
    if match := re.fullmatch(r"blocks\.(\d+)\.(\w+)\.weight", name):
        return f"model.layers.{match[1]}.{_BLOCK[match[2]]}.weight"
    return _TOP[name.removesuffix(".weight")] + ".weight"


def read_object(path: Path) -> dict:
    """The JSON object in a file of a model's folder. Raises ValueError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a file with a JSON object: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_config(folder: Path, max_seq_len: int) -> GPTConfig:
    """The shape of a folder's model, for rows of at most `max_seq_len` tokens.

    Raises ValueError, which names the field, for a model that our block cannot be.
    """
    path = folder / "config.json"
    config = read_object(path)

    def field(name: str, kind: type = int, default=None):
        value = config.get(name, default)
        is_right = isinstance(value, (int, float) if kind is float else kind)
        if not is_right or (kind is not bool and (isinstance(value, bool) or not value > 0)):
            raise ValueError(f"{path}: {name}: expected a positive {kind.__name__}, got {value!r}")
        return kind(value)

    if config.get("model_type") not in SUPPORTED:
        raise ValueError(
            f"{path}: model_type: expected one of {', '.join(SUPPORTED)}, "
            f"got {config.get('model_type')!r}"
        )
    for name, wanted in _MUST_BE.items():
        if config.get(name, wanted) not in (wanted, None):
            raise ValueError(f"{path}: {name}: expected {wanted!r}, got {config[name]!r}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}  # newer, older files
    config.setdefault("rope_theta", rope.get("rope_theta", 10_000.0))
    width, heads = field("hidden_size"), field("num_attention_heads")
    if config.get("head_dim") is None:
        config["head_dim"] = width // heads
    longest = field("max_position_embeddings", default=max_seq_len)
    if max_seq_len > longest:
        raise ValueError(f"--max-seq-len {max_seq_len}: {path} allows {longest} positions")
    try:
        return GPTConfig(
            vocab_size=field("vocab_size"),
            max_seq_len=max_seq_len,
            n_layer=field("num_hidden_layers"),
            n_head=heads,
            n_kv_head=field("num_key_value_heads", default=heads),
            head_dim=field("head_dim"),
            n_embd=width,
            mlp_width=field("intermediate_size"),
            rope_theta=field("rope_theta", float),
            tie_head=field("tie_word_embeddings", bool, default=False),
            norm_eps=field("rms_norm_eps", float, default=1e-6),
            qk_norm=config["model_type"] == "qwen3",
            rope_scaling=_rope_scaling(rope, path),
        )
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _rope_scaling(rope: dict, path: Path) -> tuple[float, ...] | None:
    """Llama 3's four numbers (see model.rope_tables), or None for a plain rotary embedding."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"{path}: rope_scaling: expected default or llama3, got {kind!r}")
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    numbers = tuple(rope.get(name) for name in names)
    if not all(isinstance(n, (int, float)) and n > 0 for n in numbers):
        raise ValueError(f"{path}: rope_scaling: expected positive numbers {', '.join(names)}")
    return tuple(map(float, numbers))


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file, mapped: their bytes are read when they are used.

    Raises ValueError, with the file and the tensor, for a file that is not whole.
    """
    try:
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise ValueError(f"{path}: expected a safetensors file: {error}") from None
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        if not 8 < start <= len(data):
            raise ValueError(f"a header of {start - 8} bytes in a file of {len(data)}")
        header = json.loads(data[8:start])
        header.pop("__metadata__", None)
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: header: expected that of a safetensors file: {error}") from None
    tensors, end = {}, 0
    for name, entry in entries:
        try:
            dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
            first, last = entry["data_offsets"]
            size = math.prod(shape) * dtype.itemsize
            fits = first == end and last - first == size and start + last <= len(data)
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path}: {name}: expected dtype ({', '.join(DTYPES)}), shape and data_offsets, "
                f"got {json.dumps(entry)[:80]}"
            ) from None
        if not fits or not size:
            raise ValueError(
                f"{path}: {name}: expected {size} bytes from {end} on in a file of "
                f"{len(data) - start}, got data_offsets [{first}, {last}]: cut off or overlapping?"
            )
        end = last
        flat = torch.frombuffer(data, dtype=dtype, count=math.prod(shape), offset=start + first)
        tensors[name] = flat.view(shape)
    if start + end != len(data):
        raise ValueError(f"{path}: {len(data) - start - end} bytes behind the last tensor")
    return tensors


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, from one file or from the shards that the index names."""
    if not (folder / INDEX).exists():
        single = folder / "model.safetensors"
        if not single.exists() and (found := sorted(folder.glob("*.bin"))):
            raise ValueError(f"{found[0]}: a pickle; expected {single.name}, which runs no code")
        return read_safetensors(single)
    where = read_object(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(f, str) for f in where.values()):
        raise ValueError(f"{folder / INDEX}: weight_map: expected names of tensors and files")
    tensors = {}
    for file in sorted(set(where.values())):
        if Path(file).name != file:
            raise ValueError(f"{folder / INDEX}: weight_map: {file!r} is not in this folder")
        tensors |= read_safetensors(folder / file)
    for name in where.keys() - tensors.keys():
        raise ValueError(f"{folder / where[name]}: {name}: missing, although {INDEX} names it")
    return tensors


def folder_digest(folder: Path) -> str:
    """16 hex digits for what a folder's model is: its config, tokenizer and weights."""
    names = [folder / "config.json", folder / "tokenizer.json"]
    return digest(digest(path) for path in [*names, *sorted(folder.glob("*.safetensors"))])


def load_pretrained(
    folder: Path, max_seq_len: int, dtype: torch.dtype, vocab_size: int | None = None
) -> GPT:
    """The model of a Hugging Face folder, on the CPU, its weights in `dtype`.

    `vocab_size` is the number of tokens: spare rows of the embedding behind them are left out, so
    they are never sampled.
    Raises ValueError, with the file and the tensor or field, for what does not fit.
    """
    config = read_config(folder, max_seq_len)
    tensors, rows = read_weights(folder), config.vocab_size
    if vocab_size and vocab_size > rows:
        raise ValueError(
            f"{folder / 'tokenizer.json'} has {vocab_size} tokens, but config.json says "
            f"vocab_size {rows}: the tokenizer of another model?"
        )
    config.vocab_size = vocab_size or rows
    with torch.device("meta"):  # no memory yet: the file's own tensors are put in
        model = GPT(config)
    weights = {}
    for name, parameter in model.named_parameters():
        theirs, expected = their_name(name), [*parameter.shape]
        if name in VOCABULARY:
            expected[0] = rows
        if theirs not in tensors:
            raise ValueError(f"{folder}: {theirs}: missing from the safetensors files")
        tensor = tensors.pop(theirs)
        if [*tensor.shape] != expected:
            raise ValueError(
                f"{folder}: {theirs}: expected the shape {expected} of config.json, "
                f"got {[*tensor.shape]}"
            )
        weights[name] = tensor[: len(parameter)].to(dtype)
    head = tensors.pop("lm_head.weight", None)
    embedding = weights["embed.weight"]
    if head is not None and not torch.equal(head[: len(embedding)].to(dtype), embedding):
        raise ValueError(
            f"{folder}: lm_head.weight: differs from the embedding, but config.json says "
            "tie_word_embeddings"
        )
    for name in tensors:
        if not name.endswith("rotary_emb.inv_freq"):  # older files keep what config.json says
            raise ValueError(f"{folder}: {name}: a tensor that this model has no place for")
    model.load_state_dict(weights, assign=True)
    model.cos, model.sin = rope_tables(config)
    return model


def save_pretrained(model: GPT, source: Path, folder: Path) -> None:
    """Write the model as a folder that loads like `source`, whose other files are copied."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype_name = {dtype: name for name, dtype in DTYPES.items()}
    before = read_weights(source)
    header, parts, end = {}, [], 0
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        if name in VOCABULARY:  # the spare rows come back
            spare = before[their_name(name)][len(tensor) :]
            tensor = torch.cat((tensor, spare.to(tensor.dtype)))
        size = tensor.numel() * tensor.itemsize
        header[their_name(name)] = {
            "dtype": dtype_name[tensor.dtype],
            "shape": [*tensor.shape],
            "data_offsets": [end, end + size],
        }
        parts.append(tensor)
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    with replacing(folder / "model.safetensors") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in parts:
            file.write(tensor.view(-1).view(torch.uint8).numpy())
    for path in source.glob("*"):
        if path.suffix in (".json", ".jinja", ".txt") and path.name not in (INDEX, "config.json"):
            shutil.copyfile(path, folder / path.name)
    config = read_object(source / "config.json")
    dtype = str(model.embed.weight.dtype).removeprefix("torch.")
    config |= {"tie_word_embeddings": model.head is None, "torch_dtype": dtype}
    write_lines(folder / "config.json", [json.dumps(config, indent=2)])
