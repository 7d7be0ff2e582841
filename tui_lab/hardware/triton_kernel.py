"""The smallest kernel for :mod:`tui_lab.hardware.gpu_trial`, in a file of its own: Triton reads its source,
and importing it needs Triton."""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def double(values, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Doubles ``count`` values in place, ``block`` of them in each program."""
    places = tl.program_id(0) * block + tl.arange(0, block)
    inside = places < count
    tl.store(values + places, 2 * tl.load(values + places, mask=inside), mask=inside)
