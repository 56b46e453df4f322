"""A finished base in a small file, so that a run can begin with stage I (--start FILE).

    python -m trainer.packed out/cpu shipped/base.pt     # bfloat16 weights, tokenizer, settings: 3 MB

The file says which data the base was trained on: a run that starts from it makes its questions with
the same generator, and a digest of the corpus's first rows tells when that has changed. The run's
seed varies its questions, their order and its samples, not the base.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from data.console import Parser, exit_code, file_path
from data.files import digest
from data.prepare import corpus_of
from data.tokenizer import TOKENIZER
from trainer.checkpoints import load, require_same_inputs, require_same_settings, save
from trainer.settings import Settings, settings_of

FIRST_ROWS = 300  # of the corpus, for its digest
# What may differ between a run and its base: the counts and the seed of the run's questions. The
# splits are hashes, the same for every seed: no test question of one is a row of another's corpus.
FREE = ("seed", "stage1_questions", "stage2_questions", "test_questions")


def corpus_digest(settings: Settings) -> str:
    """A digest of the first rows of the corpus that these settings make."""
    rows = corpus_of(**{**settings.up_to("data"), "base_rows": FIRST_ROWS})
    return digest(json.dumps(row, ensure_ascii=False) for row in rows)


def pack(out: Path, path: Path) -> None:
    """Write the base of a finished run, with its tokenizer.

    Raises ValueError if the run has no finished base.
    """
    base = load(out / "base.pt")
    if base["step"] < base["steps"]:
        raise ValueError(f"{out / 'base.pt'}: not finished; finish it with --resume")
    settings = settings_of(base["settings"], out / "base.pt")
    content = {name: base[name] for name in ("step", "steps", "settings", "config")}
    content["model"] = {name: w.to(torch.bfloat16) for name, w in base["model"].items()}
    content["tokenizer"] = (out / "data" / TOKENIZER).read_text(encoding="utf-8")
    content["inputs"] = {"corpus": corpus_digest(settings)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, content)


def packed(settings: Settings) -> dict:
    """What the file of --start holds.

    The run may have another seed than the base. Raises ValueError if the base was made with other
    settings, or another generator of the data.
    """
    path = Path(settings.start)
    content = load(path)
    if "tokenizer" not in content:
        raise ValueError(f"--start {path}: expected a file that `python -m trainer.packed` wrote")
    wanted = {name: x for name, x in settings.up_to("base").items() if name not in FREE}
    require_same_settings(path, content["settings"], wanted)
    made = replace(settings, seed=content["settings"]["seed"])
    require_same_inputs(path, content["inputs"], {"corpus": corpus_digest(made)})
    return content


def unpack(out: Path, settings: Settings, inputs: dict[str, str]) -> None:
    """Write the packed base as a run's finished base. `inputs`: the digests of what it goes with.

    Raises ValueError as `packed` does.
    """
    content = packed(settings)
    weights = {name: w.float() for name, w in content["model"].items()}
    made = {name: content[name] for name in ("step", "steps", "config")}
    made |= {"settings": settings.up_to("base"), "inputs": inputs, "kept": content["step"]}
    save(out / "base.pt", made | {"model": weights})
    print(f"base: from {settings.start}, trained for {content['steps']:,} steps")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    parser.add_argument("out", type=file_path, help="the folder of a run whose base is finished")
    parser.add_argument("path", type=Path, help="the file to write")
    args = parser.parse_args(arguments)
    return exit_code("packed.py", lambda: pack(args.out, args.path))


if __name__ == "__main__":
    sys.exit(main())
