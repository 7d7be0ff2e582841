"""Fixtures of the evaluation tests: the adapters of the playground tests."""

from tests.playground.conftest import adapters, built

__all__ = ["adapters", "built"]
