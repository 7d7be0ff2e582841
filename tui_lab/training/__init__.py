"""The run process: one fine-tuning, writing nothing but its run folder."""
