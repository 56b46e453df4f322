"""Checkpoints: written whole or not at all, read without unpickling, checked by content.

What a stage is made from, it names: the digests of its data, its tokenizer and the model before it
stand in its checkpoint. Whoever reads the checkpoint compares them with what is there now.
"""

import hashlib
import warnings
from pathlib import Path

import torch

from data.files import replacing
from data.reading import Check, check_fields, is_dict, is_name, is_whole
from model import GPT, GPTConfig
from pretrained.start import adapted, pretrained
from trainer.settings import Settings
from trainer.sharding import load_parts


def save(path: Path, content: dict) -> None:
    """Write a checkpoint with the digest of its weights and the seal of all that it holds.

    A killed run leaves the old one. Raises OSError if it cannot be written.
    """
    content = content | {"digest": weights_digest(content["model"])}
    with replacing(path) as file:
        try:
            torch.save(content | {"seal": seal(content)}, file)
        except RuntimeError:  # PyTorch hides why a write failed: one more says it
            file.write(b" " * 2**20)
            file.flush()
            raise


def load(path: Path) -> dict:
    """Read a checkpoint. Raises ValueError with one line if it is missing, damaged, or not one."""
    try:
        with warnings.catch_warnings():  # about the foreign file, which is refused anyway
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.pop("seal", None) == seal(content)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint; run the stage before it first") from None
    except OSError as error:
        raise ValueError(f"{path}: expected a checkpoint: {error.strerror}") from None
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a foreign file can fail in any way
        raise ValueError(
            f"{path}: not a checkpoint of this project ({type(error).__name__})"
        ) from None
    if not content.keys() >= FIELDS.keys():
        raise ValueError(f"{path}: not a checkpoint of this project, or of another version")
    if not found:
        raise ValueError(f"{path}: damaged or edited, it does not hold what was saved")
    check_fields(content, FIELDS, str(path))
    return content


FIELDS: dict[str, Check] = {
    **dict.fromkeys(("step", "steps"), (is_whole, "a whole number")),
    **dict.fromkeys(("settings", "inputs", "config", "model"), (is_dict, "a dict")),
    "digest": (is_name, "that of the weights"),
}


def seal(content: object) -> str:
    """16 hex digits that stand for everything in a checkpoint: tensors, numbers, texts."""
    found = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {[*value.shape]}".encode())
            found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        elif isinstance(value, dict):
            found.update(f"{{{len(value)}".encode())
            for name, part in value.items():
                found.update(repr(name).encode())
                add(part)
        elif isinstance(value, (list, tuple)):
            found.update(f"[{len(value)}".encode())
            for part in value:
                add(part)
        else:
            found.update(repr(value).encode())

    add(content)
    return found.hexdigest()[:16]


def weights_digest(model: dict[str, torch.Tensor]) -> str:
    """16 hex digits that stand for the weights: names, shapes, dtypes and bits."""
    found = hashlib.sha256()
    for name in sorted(model):
        tensor = model[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        found.update(tensor.view(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def trained_weights(model: GPT) -> dict[str, torch.Tensor]:
    """What training changes: all weights, or with LoRA the adapter's."""
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name in trained}


def load_weights(model: GPT, weights: dict[str, torch.Tensor]) -> None:
    """Put in what `trained_weights` took. Raises RuntimeError for other names, shapes or dtypes."""
    trained = trained_weights(model)
    if weights.keys() != trained.keys():
        odd = sorted(weights.keys() ^ trained.keys())
        raise RuntimeError(f"{odd[0]} is missing, or there although this model has none")
    for name, own in trained.items():
        if weights[name].dtype != own.dtype:
            raise RuntimeError(f"{name} is {weights[name].dtype}, not {own.dtype}")
    load_parts(model, weights, strict=False)


def load_model(path: Path, device: torch.device) -> GPT:
    """The model of a finished stage.

    Raises ValueError if the stage is not finished or the weights do not fit the shape.
    """
    content = load(path)
    step, steps = content["step"], content["steps"]
    if step < steps:
        raise ValueError(f"{path}: stopped at step {step} of {steps}; finish it with --resume")
    settings = content["settings"]
    try:
        if settings.get("lora_rank"):  # the checkpoint holds the adapter, not what it is added to
            settings = Settings(**settings)
            has_stage0 = not settings.skips("base")
            base = (
                load_model(path.parent / "base.pt", device) if has_stage0 else pretrained(settings)
            )
            model = adapted(base, settings)
        else:
            model = GPT(GPTConfig(**content["config"]))
        load_weights(model, content["model"])
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: weights and shape do not fit: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.to(device)


def require_same_settings(path: Path, made: dict, wanted: dict) -> None:
    """Raises ValueError naming the first setting in which a file differs from what is wanted.

    The path of a data file or a model does not count: its content is one of the inputs.
    """
    for name, value in wanted.items():
        if name not in ("data", "eval_data", "model", "start") and made.get(name) != value:
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
