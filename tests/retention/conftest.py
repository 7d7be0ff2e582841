"""The models of the decoding tests serve here too."""

from tests.decoding.conftest import pocket, stories, tiny_model  # noqa: F401 (fixtures)
