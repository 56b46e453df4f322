"""Checkpoints: written whole or not at all, read without unpickling, checked by content.

What a stage is made from, it names: the digests of its data, its tokenizer and the model before it
stand in its checkpoint. Whoever reads the checkpoint compares them with what is there now.
"""

import hashlib
from pathlib import Path

import torch

from data.files import replacing
from model import GPT, GPTConfig


def save(path: Path, content: dict) -> None:
    """Write a checkpoint and the digest of its weights; a killed run leaves the old one.

    Raises ValueError if it cannot.
    """
    content = content | {"digest": weights_digest(content["model"])}
    try:
        with replacing(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # PyTorch turns a failed write into a RuntimeError
        raise ValueError(
            f"{path}: the checkpoint could not be written: {str(error).splitlines()[0]}"
        ) from None


def load(path: Path) -> dict:
    """Read a checkpoint. Raises ValueError with one line if it is missing, damaged, or not one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint; run the stage before it first") from None
    except Exception as error:  # a foreign file can fail in any way
        raise ValueError(
            f"{path}: not a checkpoint of this project ({type(error).__name__})"
        ) from None
    needed = {"step", "steps", "settings", "inputs", "config", "model", "digest"}
    if not isinstance(content, dict) or not content.keys() >= needed:
        raise ValueError(f"{path}: not a checkpoint of this project")
    if content["digest"] != weights_digest(content["model"]):
        raise ValueError(f"{path}: damaged, its weights are not those that were saved")
    return content


def weights_digest(model: dict[str, torch.Tensor]) -> str:
    """16 hex digits that stand for the weights: names, shapes, dtypes and bits."""
    found = hashlib.sha256()
    for name in sorted(model):
        tensor = model[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        found.update(tensor.view(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def load_model(path: Path, device: torch.device) -> GPT:
    """The model of a finished stage.

    Raises ValueError if the stage is not finished or the weights do not fit the shape.
    """
    content = load(path)
    step, steps = content["step"], content["steps"]
    if step < steps:
        raise ValueError(f"{path}: stopped at step {step} of {steps}; finish it with --resume")
    try:
        model = GPT(GPTConfig(**content["config"]))
        model.load_state_dict(content["model"])
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{path}: weights and shape do not fit: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.to(device)


def require_same_settings(path: Path, made: dict, wanted: dict) -> None:
    """Raises ValueError naming the first setting in which a file differs from what is wanted.

    The path of a data file does not count: its content is one of the inputs.
    """
    for name, value in wanted.items():
        if name != "data" and made.get(name) != value:
            raise ValueError(
                f"{path} was made with {name}={made.get(name)!r}, not {value!r}: "
                "use the same settings or another --out"
            )


def require_same_inputs(path: Path, made: dict[str, str], now: dict[str, str]) -> None:
    """Raises ValueError naming the first input, by digest, that is not what a file was made from."""
    for name, found in now.items():
        if made.get(name) != found:
            raise ValueError(
                f"{path} was made from another {name} than is there now: bring that back, take "
                f"another --out, or delete {path} to make it anew"
            )
