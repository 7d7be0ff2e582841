"""What the lab offers on a card beyond the plain path, by the names that its packages give it now. A part
that finds none says so."""

from __future__ import annotations

import importlib.util

NO_VARLEN = "attention over rows of different lengths is not registered in this version"


def varlen_attention() -> str:
    """The name of the lab's varlen attention as ``attn_implementation``; "" where there is none."""
    return ""


def has_liger() -> bool:
    """Whether the Liger kernels are installed."""
    return importlib.util.find_spec("liger_kernel") is not None
