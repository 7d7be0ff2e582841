"""The bundled model, its tokenizer, and the program that builds both. Importing this loads nothing heavy."""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
"""Folder of the shipped model, as `transformers` saves one."""

CONTEXT = 2048
"""Positions the model is made for; a part of its training runs at this length."""
