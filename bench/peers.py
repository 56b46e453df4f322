"""What other people wrote, called as their users call it. Nothing here needs them installed.

A contender raises Left where a package is missing or cannot run on this machine.
"""

import tempfile
from collections.abc import Callable

import torch


class Left(Exception):
    """Why something is left out."""


def missing(package: str, error: ImportError) -> Left:
    """The reason to leave out what needs a package."""
    return Left(f"{package} is not installed ({error})")


# ------------------------------------------------------------------------------------------- losses
def trl_loss(
    x: torch.Tensor, w: torch.Tensor, x_teacher: torch.Tensor, w_teacher: torch.Tensor
) -> torch.Tensor:
    """TRL's generalized_jsd_loss as the mean forward KL; states [N, H], heads [V, H]."""
    try:
        from trl.experimental.gkd import GKDTrainer
    except ImportError as error:
        raise missing("trl", error) from None
    logits, teacher_logits = (x @ w.T)[None], (x_teacher @ w_teacher.T)[None]
    return GKDTrainer.generalized_jsd_loss(
        logits, teacher_logits, beta=0, num_items_in_batch=len(x)
    )


def liger_loss(
    x: torch.Tensor, w: torch.Tensor, x_teacher: torch.Tensor, w_teacher: torch.Tensor
) -> torch.Tensor:
    """Liger's fused linear JSD in torch chunks as the mean forward KL; shapes as in trl_loss."""
    try:
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
    except ImportError as error:
        raise missing("liger-kernel", error) from None
    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=x.device.type == "cuda"
    )
    targets = torch.zeros(len(x), dtype=torch.long, device=x.device)
    return loss(x, w, x_teacher, w_teacher, targets)


def liger_triton_loss(
    x: torch.Tensor, w: torch.Tensor, x_teacher: torch.Tensor, w_teacher: torch.Tensor
) -> torch.Tensor:
    """Liger's fused linear JSD in Triton as the mean forward KL; shapes as in trl_loss."""
    if x.device.type == "cpu":
        raise Left("needs CUDA")
    try:
        from liger_kernel.transformers.fused_linear_jsd import LigerFusedLinearJSD
    except ImportError as error:
        raise missing("liger-kernel", error) from None
    return LigerFusedLinearJSD(jsd_beta=0.0)(x, w, x_teacher, w_teacher)


# ------------------------------------------------------------------------------- a model and a step
def qwen3(shape: dict, device: str, context: int) -> torch.nn.Module:
    """A model of the same architecture and sizes from transformers, with random weights.

    `shape` holds fields of GPTConfig, `context` is the longest sequence in tokens.
    """
    try:
        from transformers import Qwen3Config, Qwen3ForCausalLM, logging
    except ImportError as error:
        raise missing("transformers", error) from None
    logging.set_verbosity_error()
    config = Qwen3Config(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["n_embd"],
        intermediate_size=shape["mlp_width"],
        num_hidden_layers=shape["n_layer"],
        num_attention_heads=shape["n_head"],
        num_key_value_heads=shape["n_kv_head"],
        head_dim=shape["head_dim"],
        tie_word_embeddings=True,
        max_position_embeddings=context,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
    )
    return Qwen3ForCausalLM(config).to(device)


def trl_step(ids: torch.Tensor, new: int, shape: dict, device: str) -> Callable[[], None]:
    """A function that takes one step of TRL's on-policy distillation trainer.

    The step has the same models, prompts `ids` [B, T] and number of `new` tokens as ours, forward
    KL and AdamW.
    """
    teacher, student = qwen3(shape, device, 512), qwen3(shape, device, 512)
    try:
        from datasets import Dataset
        from trl.experimental.gkd import GKDConfig, GKDTrainer
    except ImportError as error:
        raise missing("trl", error) from None
    config = GKDConfig(lmbda=1.0, max_new_tokens=new, **trl_options(len(ids), device))
    trainer = GKDTrainer(
        student,
        teacher,
        args=config,
        data_collator=lambda rows: rows,
        processing_class=words(shape["vocab_size"]),
        train_dataset=Dataset.from_dict({"id": [0]}),
    )
    trainer.generation_config.eos_token_id = None  # as ours: no completion ends early
    mask = torch.ones_like(ids).to(device)
    inputs = {"prompts": ids.to(device), "prompt_attention_mask": mask}
    return step_of(trainer, inputs, num_tokens=ids.shape[0] * new)


def trl_distillation_step(
    ids: torch.Tensor, new: int, shape: dict, device: str
) -> Callable[[], None]:
    """As trl_step, by TRL's newer DistillationTrainer; it takes its prompts as texts."""
    teacher, student = qwen3(shape, device, 512), qwen3(shape, device, 512)
    try:
        from datasets import Dataset
        from trl import DistillationConfig, DistillationTrainer
    except ImportError as error:
        raise missing("trl", error) from None
    config = DistillationConfig(
        max_completion_length=new,
        generation_kwargs={"suppress_tokens": [0]},  # its EOS: no completion ends early
        **trl_options(len(ids), device),
    )
    prompts = [{"prompt": " ".join(f"w{i}" for i in row)} for row in ids.tolist()]
    trainer = DistillationTrainer(
        student,
        teacher,
        args=config,
        processing_class=words(shape["vocab_size"]),
        train_dataset=Dataset.from_list(prompts),
    )
    return step_of(trainer, prompts, num_tokens=ids.shape[0] * new)


def words(vocab_size: int):
    """A tokenizer of transformers whose token i is the word "w<i>"; w0 pads and ends."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"w{i}": i for i in range(vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", eos_token="w0")


def trl_options(batch: int, device: str) -> dict:
    """What both trainers are told: forward KL, temperature 1, float32, no output."""
    return dict(
        output_dir=tempfile.mkdtemp(),
        beta=0.0,
        temperature=1.0,
        per_device_train_batch_size=batch,
        learning_rate=1e-5,
        report_to=[],
        use_cpu=device == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )


def step_of(trainer, inputs: dict | list, num_tokens: int) -> Callable[[], None]:
    """A function that takes one step of a trainer of TRL, with AdamW."""
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()

    def step() -> None:
        num_items = torch.tensor(num_tokens)
        trainer.training_step(trainer.model, inputs, num_items_in_batch=num_items)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    return step
