"""Exports of a run: adapter, merged weights, GGUF and Modelfile, each loaded again and compared."""
