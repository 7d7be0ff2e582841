"""The pictures of the documentation; see ``__main__``."""
