"""Models whose weights and optimizer state are sharded over the processes, under FSDP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from harness.engine.layers import find_layers, word_embeddings
from harness.errors import UserError


def shard_by_layer(accelerator: Accelerator, model: PreTrainedModel) -> None:
    """Shards each layer as one unit under FSDP, unless the launch names the classes; does nothing under other launches.

    accelerate would take the model's `_no_split_modules`. A model without that list would be a single unit, and one
    that has its embeddings in it, such as BERT, fails, since accelerate shards the embeddings once more.

    Raises:
        UserError: accelerate cannot shard the model: it uses its embeddings in several modules, as T5 does, or
            transformers does not find them.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return
    if accelerator.is_fsdp2:
        _check_embeddings(model)
    plugin = accelerator.state.fsdp_plugin
    if plugin.transformer_cls_names_to_wrap is not None:
        return
    try:
        plugin.transformer_cls_names_to_wrap = [type(find_layers(model, "FSDP")[0]).__name__]
    except UserError:  # a model without a single stack of layers is one unit
        plugin.transformer_cls_names_to_wrap = []


def _check_embeddings(model: PreTrainedModel) -> None:
    embedding = word_embeddings(model)
    weights = getattr(embedding, "weight", None)
    owners = [module for module in model.modules() if getattr(module, "weight", None) is weights]
    if embedding is None:
        reason = "transformers does not find its embeddings"
    elif weights is not None and len(owners) > 1:
        reason = f"it uses its embeddings in {len(owners)} modules"
    else:
        return
    raise UserError(
        f"FSDP: unsupported for {type(model).__name__}: {reason}. Launch with another config, such as "
        "accelerate_configs/multi_gpu_bf16.yaml."
    )


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the whole of a sharded tensor, and any other tensor unchanged; all processes must call it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def weights_hash(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Returns the sha256 of weights: names in order, bytes in each tensor's type; all processes must call it together.

    `weights` are pairs of a name and a tensor, sharded or not.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(weights):
        digest.update(name.encode())
        digest.update(whole_tensor(tensor.detach()).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def gather_state(state: Any, on_this_process: bool) -> Any:
    """Returns nested dicts with their sharded tensors whole, on the CPU; all processes must call it together.

    Args:
        state: weights, or the state of an optimizer.
        on_this_process: whether this process gets the whole tensors; elsewhere each is None.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if on_this_process else None
    if isinstance(state, Mapping):
        return {key: gather_state(value, on_this_process) for key, value in state.items()}
    return state


def shard_as(tensor: torch.Tensor, model_tensor: torch.Tensor) -> torch.Tensor:
    """Shards a whole tensor as `model_tensor`, if that is sharded and of the same shape, without communication."""
    if not isinstance(model_tensor, DTensor) or tensor.shape != model_tensor.shape:
        return tensor
    mesh, placements = model_tensor.device_mesh, model_tensor.placements
    return distribute_tensor(tensor.to(model_tensor.device), mesh, placements, src_data_rank=None)
