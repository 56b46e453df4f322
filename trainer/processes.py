"""One process or several.

`torchrun --nproc_per_node=N rcsd.py ...`: every process holds the whole model, or with --shard a part
of it, and draws the same questions. It samples and scores its share of the rows. Rank 0 writes. With
one process these functions do nothing.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from data.console import GO_ON
from trainer.settings import Settings


def device_of(settings: Settings) -> torch.device:
    """The CPU, or this process's GPU. Raises ValueError for --device cuda without a GPU."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no usable GPU; expected cpu or auto")
    if settings.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


def rank_and_size() -> tuple[int, int]:
    """The number of this process and how many there are: (0, 1) without torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def join_processes(settings: Settings) -> None:
    """Join the processes that torchrun started, if it did: one process too, by the same calls.

    All but rank 0 are silent; only `exit_code` of data/console.py gives them their stderr back.
    """
    started = int(os.environ.get("WORLD_SIZE", 1)) > 1 or dist.is_torchelastic_launched()
    if started and not dist.is_initialized():
        dist.init_process_group("nccl" if device_of(settings).type == "cuda" else "gloo")
        if dist.get_rank():
            sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")


@contextmanager
def all_processes() -> Iterator[None]:
    """Around what all processes do together. Raises ConnectionError if another one has ended.

    So an error of this process's own is never taken for one of another.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConnectionError(
            f"another process of this run has ended, see its own error ({reason}); {GO_ON}"
        ) from None


def share(rows):
    """The rows of this process: every `size`-th."""
    rank, size = rank_and_size()
    return rows[rank::size]


def gather(rows: list) -> list:
    """What `share` took apart, whole again and in order, on every process."""
    if not dist.is_initialized():
        return rows
    parts = [None] * dist.get_world_size()
    with all_processes():
        dist.all_gather_object(parts, rows)
    whole = [None] * sum(map(len, parts))
    for start, part in enumerate(parts):
        whole[start :: len(parts)] = part
    return whole


def sum_gradients(parameters: list[torch.Tensor]) -> None:
    """Add up the gradients of all processes; a process without rows adds zeros.

    Those of --shard are added up already.
    """
    if dist.is_initialized() and not hasattr(parameters[0], "full_tensor"):
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        )
        with all_processes():
            dist.all_reduce(flat)
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters])):
            p.grad = part.view_as(p).clone()


def wait_for_all() -> None:
    if dist.is_initialized():
        with all_processes():
            dist.barrier()
