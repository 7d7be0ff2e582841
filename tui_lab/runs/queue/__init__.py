"""The queue of runs and sweeps over recipe fields."""
