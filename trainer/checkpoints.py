"""Checkpoints: written whole or not at all, read without unpickling, refused by other settings."""

from pathlib import Path

import torch

from data.files import replacing
from model import GPT, GPTConfig


def save(path: Path, content: dict) -> None:
    """Write a checkpoint; a killed run leaves the old one. Raises ValueError if it cannot."""
    try:
        with replacing(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # PyTorch turns a failed write into a RuntimeError
        raise ValueError(
            f"{path}: the checkpoint could not be written: {str(error).splitlines()[0]}"
        ) from None


def load(path: Path) -> dict:
    """Read a checkpoint. Raises ValueError with one line if it is missing or is not one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint; run the stage before it first") from None
    except Exception as error:  # a foreign file can fail in any way
        raise ValueError(
            f"{path}: not a checkpoint of this project ({type(error).__name__})"
        ) from None
    needed = {"step", "steps", "settings", "config", "model"}
    if not isinstance(content, dict) or not content.keys() >= needed:
        raise ValueError(f"{path}: not a checkpoint of this project")
    return content


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


def same_settings(path: Path, made: dict, wanted: dict) -> None:
    """Raises ValueError naming the first setting in which a file differs from what is wanted."""
    for name, value in wanted.items():
        if made.get(name) != value:
            raise ValueError(
                f"{path} was made with {name}={made.get(name)!r}, not {value!r}: "
                "use the same settings or another --out"
            )


def is_up_to_date(result: Path, *inputs: Path) -> bool:
    """Whether a result was made after all of its inputs, so that it need not be made again."""
    return result.exists() and all(
        result.stat().st_mtime_ns >= path.stat().st_mtime_ns for path in inputs
    )
