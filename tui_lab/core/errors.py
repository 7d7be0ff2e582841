"""Errors that people see: one clear sentence each, never a traceback."""


class LabError(Exception):
    """Bad input or an impossible request. ``str(error)`` is the whole message: what, where, what to do."""
