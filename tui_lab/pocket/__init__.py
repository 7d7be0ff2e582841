"""The bundled model and its tokenizer. ``builder``, which makes them, is in the repository but not in the
wheel."""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
"""Folder of the shipped model, as `transformers` saves one."""

CONTEXT = 2048
"""Positions the model is made for; a part of its training runs at this length."""
