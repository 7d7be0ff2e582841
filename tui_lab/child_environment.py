"""What a process that computes finds in its environment, whoever starts it: a run, a job, the host."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: How long a thread of libgomp (torch's on Linux) waits for the others at full speed before it sleeps. By
#: itself it does so for about a millisecond at every one of thousands of barriers a step, which pays only
#: while no other program wants a core: beside two busy programs on two cores a step of the bundled model took
#: 2 to 7 times as long as with this number, libgomp's own for when there are more threads than cores. Alone
#: it costs 1 to 9 %. (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html)
SPIN = {"GOMP_SPINCOUNT": "1000"}


def child_environment(
    more: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of this process (or ``environment``) for a child that computes, with ``more`` on top.
    What somebody has set there for OpenMP holds."""
    here = os.environ if environment is None else environment
    patience = {} if "OMP_WAIT_POLICY" in here else SPIN
    return {**patience, **here, "TOKENIZERS_PARALLELISM": "false", **(more or {})}
