"""Measuring forgetting: suites, scoring, paired statistics, verdicts, the live probe and the adapter strength."""
