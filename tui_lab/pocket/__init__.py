"""The bundled model, its tokenizer, and the program that builds both."""
