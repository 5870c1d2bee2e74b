"""What TRL's trainer is made of: its arguments, DeepSpeed's configuration, the model with its adapter, the tokenizer.

Nothing is compiled or downloaded: the optimizer is torch's own, weights are safetensors of a local directory, and no
code comes with them. Imports torch and everything above it: for workers alone.
"""

from typing import Any, Final

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig
from trl.trainer import utils as trl_utils

from training.job import TrainJob
from training.training_settings import TrainingSettings

_MAX_STEPS: Final = 1_000_000_000
"""The stream ends training; the trainer must be told a number all the same."""


def has_gpu() -> bool:
    """Whether this worker trains on a GPU."""
    return bool(torch.cuda.is_available())


def uses_bf16(settings: TrainingSettings) -> bool:
    """Whether weights are bf16; master weights are float32 in any case."""
    return has_gpu() if settings.bf16 == "auto" else settings.bf16


def deepspeed_config(settings: TrainingSettings) -> dict[str, Any]:
    """Return DeepSpeed's configuration; what is "auto" is filled in from the trainer's arguments."""
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": False},
        "zero_optimization": {"stage": settings.zero_stage, "overlap_comm": has_gpu()},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": _MAX_STEPS,
    }


def training_arguments(job: TrainJob) -> SFTConfig:
    """Return the trainer's arguments; the process group and accelerate's state must be there."""
    settings = job.settings
    return SFTConfig(
        output_dir=job.directory,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        max_steps=_MAX_STEPS,
        learning_rate=settings.rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=uses_bf16(settings),
        gradient_checkpointing=settings.gradient_checkpointing,
        max_length=settings.max_length,
        seed=settings.seed,
        average_tokens_across_devices=True,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        accelerator_config={"use_configured_state": True},
        deepspeed=deepspeed_config(settings),
        trust_remote_code=False,
    )


def score_taught_alone() -> None:
    """Have TRL's head score only the positions that are taught on CPU too, in this process.

    It picks them out on GPU alone, since elsewhere they would make compilers begin anew; here nothing is compiled, and
    a row of a dialogue teaches one position in ten.
    """
    if hasattr(trl_utils, "_use_triton"):
        trl_utils._use_triton = lambda _device: True


def load_tokenizer(path: str) -> Any:
    """Return a model's tokenizer."""
    return AutoTokenizer.from_pretrained(path, trust_remote_code=False)


def load_model(job: TrainJob, args: SFTConfig) -> Any:
    """Return the model to train, with its adapter if the method has one. `args` must stay alive meanwhile: under
    ZeRO-3 they are why each worker loads its part alone.
    """
    settings = job.settings
    dtype = torch.bfloat16 if uses_bf16(settings) else torch.float32
    quantized = _four_bits(dtype) if settings.method == "qlora" else None
    model = AutoModelForCausalLM.from_pretrained(
        job.model,
        dtype=dtype,
        quantization_config=quantized,
        attn_implementation="sdpa",
        use_safetensors=True,
        trust_remote_code=False,
    )
    if settings.method == "full":
        return model
    # ZeRO-3 gathers parameters of one dtype only; quantized weights want an adapter in float32.
    cast = settings.zero_stage != 3 or quantized is not None
    if job.adapter:
        return PeftModel.from_pretrained(model, job.adapter, is_trainable=True, autocast_adapter_dtype=cast)
    return get_peft_model(model, _adapter_config(settings), autocast_adapter_dtype=cast)


def _adapter_config(settings: TrainingSettings) -> LoraConfig:
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _four_bits(dtype: Any) -> BitsAndBytesConfig:
    """NF4 with double quantization; stored in the dtype of computing, so that ZeRO can partition it."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype,
    )


def placeholder_rows() -> Dataset:
    """Return the data set that TRL looks at when it is made; the rows that it trains on come from the stream."""
    return Dataset.from_dict({"input_ids": [[0, 0]], "labels": [[0, 0]]})
