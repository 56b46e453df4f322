"""Make the numbers that pretrained/ is tested against, with the libraries that it does without.

    pip install transformers tokenizers && python -m tests.pretrained_numbers.make

Writes numbers.json: for a small random model of each family its config.json, the logits that
transformers computes and its greedy tokens; a small tokenizer, and the ids that the tokenizers
library finds with the text cut as each family cuts it; and prompts as each family's chat template
writes them. The weights are not stored: `weights` makes them anew, the same everywhere.
"""

import json
from pathlib import Path

import numpy

HERE = Path(__file__).parent
SMALL = dict(vocab_size=90, hidden_size=16, intermediate_size=24, num_hidden_layers=2)
SMALL |= dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0)
LLAMA3 |= dict(high_freq_factor=4.0, original_max_position_embeddings=32)
MODELS = {  # family: config.json
    "qwen3": SMALL | dict(model_type="qwen3", head_dim=6, tie_word_embeddings=True),
    "smollm2": SMALL | dict(model_type="llama", tie_word_embeddings=True, rms_norm_eps=1e-5),
    "llama3": SMALL | dict(model_type="llama", tie_word_embeddings=False, rope_parameters=LLAMA3),
}
PROMPT = [(7 * i * i + 3 * i) % 90 for i in range(40)]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern: str) -> dict:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, BYTE_LEVEL | {"use_regex": False}]}


CUTS = {  # family: (normalizer, pre_tokenizer) of its tokenizer.json
    "qwen3": ({"type": "NFC"}, split(WORDS + r"\p{N}" + REST)),
    "llama3": (None, split(WORDS + r"\p{N}{1,3}" + REST)),
    "smollm2": (
        None,
        {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                BYTE_LEVEL | {"use_regex": True},
            ],
        },
    ),
    "gpt2": (None, BYTE_LEVEL | {"use_regex": True}),
}


def weights(shapes: dict[str, list[int]]) -> dict[str, numpy.ndarray]:
    """Random float32 weights by name, the same on every machine: norms near 1, matrices near 0."""
    made = {}
    for i, (name, shape) in enumerate(sorted(shapes.items())):
        noise = numpy.random.RandomState(i).standard_normal(shape) * 0.15
        made[name] = (noise + (len(shape) == 1)).astype(numpy.float32)
    return made


def strings(count: int, seed: int = 0) -> list[str]:
    """Random texts of many scripts, with what tokenizers stumble over."""
    rng, texts = numpy.random.RandomState(seed), []
    blocks = [(32, 127), (0xA0, 0x250), (0x370, 0x500), (0x2000, 0x2100), (0x300, 0x370)]
    blocks += [(0x4E00, 0x4F00), (0x1F300, 0x1F650), (0xAC00, 0xAD00), (0x600, 0x700), (0, 32)]
    pieces = ["force", " mass =", " 12", "2026", " I'm", "they'LL", "\n\n", "  \t", " x²", "×", "½"]
    pieces += ["\\frac{a}{b}", " \r\n", "é", "e\u0301", "ﬀ", "۳۴", "²³", "   ", " naïve", "kg·m/s²"]
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(1, 20)):
            if rng.rand() < 0.5:
                text += pieces[rng.randint(len(pieces))]
            else:
                low, high = blocks[rng.randint(len(blocks))]
                text += chr(rng.randint(low, high))
        texts.append(text)
    return texts


def main() -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM

    found = {"models": {}, "tokenizers": {}}
    for family, config in MODELS.items():
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).float().eval()
        shapes = {name: [*p.shape] for name, p in model.named_parameters()}
        state = {name: torch.from_numpy(w) for name, w in weights(shapes).items()}
        model.load_state_dict(state, strict=False)
        ids = torch.tensor([PROMPT])
        with torch.no_grad():
            logits = model(ids).logits[0]
            new = model.generate(ids, max_new_tokens=64, do_sample=False, eos_token_id=None)
        found["models"][family] = {
            "config": config,
            "shapes": shapes,
            "logits": [[round(x, 6) for x in row] for row in logits[[0, 1, 20, 39]].tolist()],
            "greedy": new[0, len(PROMPT) :].tolist(),
        }
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(strings(400, seed=1), trainer)
    added = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer.add_special_tokens(added)
    whole = json.loads(tokenizer.to_str())
    found["tokenizer"] = whole
    for family, (normalizer, cut) in CUTS.items():
        file = whole | {"normalizer": normalizer, "pre_tokenizer": cut}
        theirs = Tokenizer.from_str(json.dumps(file))
        texts = strings(80)
        ids = [theirs.encode(text, add_special_tokens=False).ids for text in texts]
        found["tokenizers"][family] = ids
    (HERE / "numbers.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
