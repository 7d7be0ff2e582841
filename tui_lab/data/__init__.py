"""Rows to tokens: formats, chat templates, label masks, splits and the bundled data sets."""
