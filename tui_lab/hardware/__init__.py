"""GPUs, CPUs and memory of this machine, and their live telemetry."""
