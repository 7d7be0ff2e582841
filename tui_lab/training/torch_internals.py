"""Private parts of torch that the memory probe reads (torch 2.9 to 2.13)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Reads a tensor's only element (``.item()``), as a dispatch mode sees it.
LOCAL_SCALAR = torch.ops.aten._local_scalar_dense.default


def storage_key(tensor: Tensor) -> int:
    """Identifies the storage of a tensor while it lives; fake tensors have no data pointer."""
    return int(tensor.untyped_storage()._cdata)


def own_tensors(module: nn.Module) -> tuple[dict[str, nn.Parameter | None], dict[str, Tensor | None]]:
    """A module's own parameters and buffers by name: the dictionaries themselves, which can be changed."""
    return module._parameters, module._buffers
