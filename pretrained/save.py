"""The way back: a trained student as a folder that transformers loads.

    python -m pretrained.save out/own/stage2.pt DIR     # LoRA merged; the tokenizer's files copied

stage1.pt gives the rubric writer. The weights are written in float32 unless --dtype says otherwise.
"""

import sys
from pathlib import Path

import torch

from data.console import Parser, exit_code, file_path, folder_path
from pretrained.lora import merge_lora
from pretrained.weights import folder_digest, save_pretrained
from trainer.checkpoints import load, load_model, require_same_inputs
from trainer.settings import DTYPES


def save(checkpoint: Path, folder: Path, dtype: str) -> None:
    """Write the model of a finished stage as `folder`.

    Raises ValueError for a checkpoint that is unfinished, or whose --model is not there as it was,
    and for a folder that is there already.
    """
    content = load(checkpoint)
    source = content["settings"].get("model")
    if not source:
        raise ValueError(f"{checkpoint}: expected a run with --model: others have no such folder")
    if folder.exists():
        raise ValueError(f"{folder} is there already: expected the name of a new folder")
    require_same_inputs(checkpoint, content["inputs"], {"--model": folder_digest(Path(source))})
    # Merged in float32: bfloat16 would round small changes away.
    model = merge_lora(load_model(checkpoint, torch.device("cpu")).float())
    save_pretrained(model.to(getattr(torch, dtype)), Path(source), folder)
    print(f"{folder}: the model of {checkpoint}, in {dtype}")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    parser.add_argument("checkpoint", type=file_path, help="stage2.pt or stage1.pt of a run")
    parser.add_argument("folder", type=folder_path, help="a new folder")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    args = parser.parse_args(arguments)
    return exit_code("pretrained.save", lambda: save(args.checkpoint, args.folder, args.dtype))


if __name__ == "__main__":
    sys.exit(main())
