"""What a run with pretrained weights will hold, said before it starts; and whether it trains at all."""

import math
import os

import torch
from torch import Tensor

from fused_loss import default_budget
from model import GPT
from trainer.processes import device_of, rank_and_size
from trainer.settings import Settings
from trainer.sharding import full

try:
    import resource
except ImportError:  # Windows
    resource = None


def bytes_of(tensors) -> int:
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors)


def activation_bytes(model: GPT, tokens: int) -> int:
    """What a forward pass keeps for the backward pass, for a micro-batch of `tokens`.

    A block keeps, for each token, four vectors of the residual stream's width (the inputs and
    outputs of two norms), the queries three times, keys and values, and four of the MLP's. Recomputed
    blocks keep their input, and one block at a time all of it.
    """
    c = model.config
    queries, keys = c.n_head * c.head_dim, c.n_kv_head * c.head_dim
    block = 4 * c.n_embd + 3 * queries + 2 * keys + 4 * c.mlp_width
    if c.qk_norm:
        block += queries + keys
    kept = block * c.n_layer if not model.recompute else c.n_embd * c.n_layer + block
    return 4 * tokens * kept


def cache_bytes(model: GPT, rows: int, columns: int) -> int:
    """Keys and values of `rows` while they are sampled."""
    c = model.config
    return 2 * c.n_layer * rows * c.n_kv_head * columns * c.head_dim * model.head_weight.itemsize


CACHE = 2**30  # bytes: most of the keys and values of rows that are answered at one time


def places_for(model: GPT, columns: int) -> int:
    """How many rows of that length are answered at one time: 128, or what CACHE has room for."""
    return max(1, min(128, CACHE // cache_bytes(model, 1, columns)))


def loss_bytes(model: GPT) -> int:
    """The loss's buffers and its gradient for the head (see fused_loss.py)."""
    head = model.head_weight.numel() * 4 if model.head_weight.requires_grad else 0
    return default_budget(len(model.head_weight)) + head


def gathered_bytes(model: GPT, settings: Settings, copies: int) -> int:
    """What is whole at once while a sharded model of `copies` (student, teacher) learns.

    Embedding, norm and head of each with the student's gradient of them; and of the blocks four: one
    that is read, the one that is gathered behind it, its gradient and the one that is added up.
    Weights that autocast narrows stay until the backward pass, unless blocks are recomputed.
    """
    block = bytes_of(model.blocks[0].parameters())
    ends = bytes_of(model.parameters()) - len(model.blocks) * block
    is_trained = model.head_weight.requires_grad
    narrow = settings.dtype == "bfloat16" and is_trained and not model.recompute
    casts = len(model.blocks) * block // 2 if narrow else 0
    return ends * (copies + is_trained) + 4 * block + casts


def held(student: GPT, settings: Settings, processes: int = 1) -> dict[str, int]:
    """{part: bytes} in each process, in a step whose rows are as long as they may be.

    Sampling, learning and answering take turns, so only the largest of the three counts.
    """
    longest, rows = settings.max_seq_len, math.ceil(settings.batch / processes)
    trained = [p for p in student.parameters() if p.requires_grad]
    has_copy = settings.teacher == "ema" or (settings.teacher == "fixed" and not settings.lora_rank)
    tokens = max(longest, min(settings.micro_tokens, rows * longest))
    learning = activation_bytes(student, tokens) + loss_bytes(student)
    answering = cache_bytes(student, places_for(student, longest), longest)
    sampling, parts = max(cache_bytes(student, rows, longest), answering), 1
    if settings.shard == "yes":
        sampling, parts = sampling + bytes_of(student.parameters()), processes
        learning += gathered_bytes(student, settings, 1 + has_copy)
    return {
        "weights of student and teacher": bytes_of(student.parameters()) * (1 + has_copy) // parts,
        "gradients": bytes_of(trained) // parts,
        "optimizer": 2 * bytes_of(trained) // parts,
        "a step": max(sampling, learning),
    }


def there_is(device: torch.device) -> int:
    """Bytes of memory of the GPU, or of this machine; 0 if the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def print_memory(student: GPT, settings: Settings) -> int:
    """Print what the run will hold in each process, and return it in bytes.

    Raises ValueError if that is more than there is.
    """
    processes, is_sharded = rank_and_size()[1], settings.shard == "yes"
    parts = held(student, settings, processes)
    device = device_of(settings) if is_sharded else student.head_weight.device
    if device.type == "cpu" and resource is not None:
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        parts["programs"] = max(0, now - bytes_of(student.parameters()))
    total, most = sum(parts.values()), there_is(device)
    said = ", ".join(f"{name} {n / 2**20:,.0f}" for name, n in parts.items())
    where = f" in each of {processes} processes" * is_sharded
    print(f"memory{where}, MiB: {said}; in all {total / 2**20:,.0f} of {most / 2**20:,.0f}")
    if most and total > most:
        raise ValueError(
            f"--model {settings.model}: the run would hold {total / 2**20:,.0f} MiB, there are "
            f"{most / 2**20:,.0f}: try --lora-rank 16, --recompute yes, a smaller --micro-tokens "
            "or --batch, or more processes with --shard yes"
        )
    return total


class FirstStep:
    """Whether the first step trains at all: a pretrained model's weights before and after it."""

    def __init__(self, model: GPT):
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.before = fingerprints(self.trained)

    def changes(self, stage: str, lr: float) -> str:
        """How many numbers are in tensors that have changed. Raises ValueError if it is none."""
        differ = (fingerprints(self.trained) != self.before).any(1).tolist()
        changed = sum(p.numel() for p, other in zip(self.trained, differ) if other)
        if not changed:
            raise ValueError(f"{stage}: the first step changed no weight: is lr {lr} rounded away?")
        total = sum(p.numel() for p in self.trained)
        return (
            f"{stage}: the first step changed tensors of {changed:,} of {total:,} trained numbers"
        )


def fingerprints(tensors: list[Tensor]) -> Tensor:
    """Two sums [n, 2] over the bits of each tensor: a changed number changes them, almost surely."""
    sums = []
    for p in map(full, tensors):
        bits = p.detach().view(torch.int16 if p.itemsize == 2 else torch.int32).flatten()
        sums += [bits.sum(dtype=torch.int64), bits[::2].sum(dtype=torch.int64)]
    return torch.stack(sums).view(-1, 2)
