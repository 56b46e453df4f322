"""What a run starts from: with --model the pretrained weights and their tokenizer, else its own."""

import copy
from pathlib import Path

import torch

from data.files import digest
from data.tokenizer import TOKENIZER, Tokenizer, read_tokenizer
from model import GPT
from pretrained.lora import WithoutAdapter, adapters, add_lora
from pretrained.memory import print_memory
from pretrained.tokenizer import ChatTokenizer
from pretrained.weights import folder_digest, load_pretrained
from trainer.settings import Settings, seed_for


def load_tokenizer(out: Path, settings: Settings) -> Tokenizer | ChatTokenizer:
    """The tokenizer of the pretrained model, or that of the run's data."""
    if settings.model:
        return ChatTokenizer(Path(settings.model), settings.thinking)
    return read_tokenizer(out)


def pretrained(settings: Settings) -> GPT:
    """The model of --model. Weights that are trained are float32; frozen ones are in --dtype."""
    folder, dtype = Path(settings.model), torch.float32
    if settings.lora_rank:
        dtype = getattr(torch, settings.dtype)
    vocab_size = ChatTokenizer(folder).vocab_size
    model = load_pretrained(folder, settings.max_seq_len, dtype, vocab_size)
    model.recompute = settings.recompute == "yes"
    return model


def adapted(model: GPT, settings: Settings) -> GPT:
    """The model as it is trained: with LoRA adapters if --lora-rank asks for them.

    Prints what a run with a pretrained model will hold. Raises ValueError if that is too much.
    """
    if settings.lora_rank:
        alpha = settings.lora_alpha or 2 * settings.lora_rank
        add_lora(model, settings.lora_rank, alpha, seed_for(settings, "lora"))
    if settings.model:
        print_memory(model, settings)
    return model


def frozen_copy(student: GPT) -> GPT | WithoutAdapter:
    """The student as it is now. With LoRA it needs no copy: it is what the adapter is added to."""
    return WithoutAdapter(student) if adapters(student) else copy.deepcopy(student)


def start_inputs(out: Path, settings: Settings) -> dict[str, str]:
    """Digests of the run's tokenizer and, with --model, of the pretrained weights."""
    if settings.model:
        return {"--model": folder_digest(Path(settings.model))}
    return {f"data/{TOKENIZER}": digest(out / "data" / TOKENIZER)}
