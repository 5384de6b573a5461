"""Models whose weights and optimizer state are sharded over the processes, under FSDP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from harness.engine.layers import find_layers
from harness.errors import UserError


def shard_by_layer(accelerator: Accelerator, model: PreTrainedModel) -> None:
    """Makes FSDP shard the model layer by layer, unless the launch names classes to wrap; other launches are unchanged.

    accelerate would take the model's `_no_split_modules`. A model without that list would be a single unit, and one
    that has its embeddings in it, such as BERT, fails, since accelerate shards the embeddings once more.

    Raises:
        UserError: accelerate cannot shard the model: it uses its embeddings in several modules, as T5 does, or
            transformers does not find them.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return
    _check_embeddings(model)
    plugin = accelerator.state.fsdp_plugin
    if plugin.transformer_cls_names_to_wrap is not None:
        return
    try:
        plugin.transformer_cls_names_to_wrap = [type(find_layers(model, "FSDP")[0]).__name__]
    except UserError:  # a model without a single stack of layers is one unit
        plugin.transformer_cls_names_to_wrap = []


def _check_embeddings(model: PreTrainedModel) -> None:
    try:
        weights = getattr(model.get_input_embeddings(), "weight", None)
    except NotImplementedError:
        reason = "transformers does not find its embeddings"
    else:
        owners = [module for module in model.modules() if getattr(module, "weight", None) is weights]
        if weights is None or len(owners) == 1:
            return
        reason = f"it uses its embeddings in {len(owners)} modules"
    raise UserError(
        f"FSDP: unsupported for {type(model).__name__}: {reason}. Launch with another config, such as "
        "accelerate_configs/multi_gpu_bf16.yaml."
    )


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a sharded tensor with the parts of all processes, which must call this together; others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather_state(state: Any, keeps: bool) -> Any:
    """Returns nested dicts with their sharded tensors whole, on the CPU; all processes must call it together.

    Args:
        state: weights, or the state of an optimizer.
        keeps: whether this process needs them; others get None in the place of each.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if keeps else None
    if isinstance(state, Mapping):
        return {key: gather_state(value, keeps) for key, value in state.items()}
    return state


def shard_as(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns this process's part of a whole tensor that all processes have, sharded as `other`, if that is sharded."""
    if not isinstance(other, DTensor) or tensor.shape != other.shape:
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
