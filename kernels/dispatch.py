"""The one rule by which an operation runs as its Triton kernel or as its torch twin."""

import os
from typing import Literal

import torch
from torch import Tensor

_TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def backend(device: torch.device) -> Literal["triton", "torch"]:
    """Returns what serves a device: Triton on CUDA and wherever its interpreter is switched on."""
    return "triton" if device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1" else "torch"


def runs_triton(x: Tensor) -> bool:
    """Returns whether a tensor goes to the Triton kernel; float64 always goes to the twin."""
    return backend(x.device) == "triton" and x.dtype in _TRITON_DTYPES
