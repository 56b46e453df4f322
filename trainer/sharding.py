"""--shard yes: each process holds a part of every weight, of its gradient and of its optimizer state.

PyTorch's FSDP2 (`fully_shard`, arXiv 2304.11277) does it, block by block. A block's weights are
gathered when it is read and let go behind it; its gradients are added up and cut apart on the way
back. Embedding, last norm and head stay gathered for a whole micro-batch, because the loss reads the
head. Sampling reads every block for each token, so the whole model is gathered around it.

Without --shard these functions do nothing. The modules that they need are imported only with it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainer.processes import all_processes, device_of, gather, rank_and_size
from trainer.settings import Settings


def share_out(settings: Settings, *models: nn.Module) -> None:
    """Put models on the device: whole, or with --shard this process's part of each.

    Before, a model is on the CPU: it need not fit on one device.
    """
    for model in models:
        if settings.shard == "no" and isinstance(model, nn.Module):
            model.to(device_of(settings))
        elif isinstance(model, nn.Module) and not groups(model):
            shard_model(model, settings)


def shard_model(model: nn.Module, settings: Settings) -> None:
    """Cut each weight of a model into as many parts as there are processes, and keep this one's."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device_of(settings).type, (rank_and_size()[1],))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for module in groups(model):
        module.set_gradient_divide_factor(1.0)  # the sum over the processes, not their mean
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sum


def groups(model) -> list:
    """The modules whose weights are gathered together: the model itself and its blocks."""
    model = getattr(model, "student", model)  # of a WithoutAdapter
    return [m for m in model.modules() if hasattr(m, "unshard")] if model is not None else []


@contextmanager
def gathered(model) -> Iterator[None]:
    """Within it, all weights are whole on each process: any part of the model may be called."""
    for module in groups(model):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for i, module in enumerate(groups(model)):
            module.set_reshard_after_forward(i > 0, recurse=False)  # the first is the model itself
            module.reshard()


def in_lockstep(
    micro_batches: Iterator[list], spare: list, num_tokens: float, *models
) -> Iterator[tuple[list, float]]:
    """The micro-batches of this process, each with what its loss is divided by.

    Processes with parts of a model gather its blocks together, so each needs as many micro-batches
    as the others. One that has fewer goes on with `spare`, divided by infinity: that adds zero.
    """
    own = list(micro_batches)
    missing = max(gather([len(own)])) - len(own) if groups(models[0]) else 0
    for micro_batch in own:
        yield micro_batch, num_tokens
    for _ in range(missing):
        yield spare, math.inf
    for model in models:
        for module in groups(model):
            module.reshard()


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor on every process, which all call together; of one that is whole, itself."""
    if not hasattr(tensor, "full_tensor"):
        return tensor
    with all_processes():
        return tensor.full_tensor()


def whole(content):
    """A tensor, or all tensors in dicts and lists, with the parts of all processes put together.

    All processes call it together; rank 0 alone gets those that were apart, on the CPU.
    """
    if hasattr(content, "full_tensor"):
        tensor = full(content)
        return tensor.cpu() if rank_and_size()[0] == 0 else None
    if isinstance(content, dict):
        return {name: whole(value) for name, value in content.items()}
    return [whole(value) for value in content] if isinstance(content, list) else content


def part_of(tensor: Tensor, like: Tensor | None) -> Tensor:
    """This process's part of a whole tensor, if `like` is apart; else the tensor itself."""
    if not hasattr(like, "full_tensor") or hasattr(tensor, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # Each process has the whole and takes its part of it; the clone lets the rest go.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None).clone()


def load_parts(model: nn.Module, weights: dict[str, Tensor], strict: bool = True) -> None:
    """`load_state_dict` from whole tensors. Raises RuntimeError as that does."""
    own = model.state_dict()
    parts = {name: part_of(tensor, own.get(name)) for name, tensor in weights.items()}
    model.load_state_dict(parts, strict=strict)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """`load_state_dict` from the whole state. Raises what that raises."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {}
    for i, values in saved["state"].items():
        p = parameters[i]
        is_like = {name: getattr(value, "shape", None) == p.shape for name, value in values.items()}
        state[i] = {
            name: part_of(value, p) if is_like[name] else value for name, value in values.items()
        }
    optimizer.load_state_dict(saved | {"state": state})
