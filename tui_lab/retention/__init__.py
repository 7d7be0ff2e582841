"""Measuring forgetting: suites, scoring, paired statistics, verdicts, the live probe, adapter strength."""
