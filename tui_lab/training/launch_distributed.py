"""``python -m tui_lab.training.launch_distributed RUN_DIR``: starts the processes of a run on several GPUs.

This is ``accelerate launch`` with the recipe's number of processes or its accelerate config file (FSDP,
DeepSpeed, several machines), except that SIGHUP is ignored, as by every run. When one process dies, the
others are ended; its output is in ``worker.log``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tui_lab.core.privacy import keep_private, mask_output
from tui_lab.runs.folder import Run

#: Signals that end the run; accelerate's default has SIGHUP, too.
SIGNALS = "SIGTERM,SIGINT,SIGQUIT"


def arguments(run_dir: str, processes: int, config: str) -> list[str]:
    """The command line of ``accelerate launch`` for a run."""
    if config:
        options = ["--config_file", config]
        if processes > 1:
            options += ["--num_processes", str(processes)]
    else:
        options = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1"]
        # the Trainer sets the compute type; port 0: any free one
        options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    return [*options, "--module", "tui_lab.training", run_dir]


def main(arguments_: list[str]) -> int:
    """Starts all processes and waits. The exit status: 0 when the run finished or was stopped on request."""
    recipe = Run(Path(arguments_[0])).recipe()
    keep_private()
    mask_output()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // recipe.num_processes)))

    from accelerate.commands import launch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    found = launch.launch_command_parser().parse_args(
        arguments(arguments_[0], recipe.num_processes, recipe.accelerate_config)
    )
    found.signals_to_handle = SIGNALS
    try:
        launch.launch_command(found)
    except ChildFailedError as error:
        print(str(error), file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
