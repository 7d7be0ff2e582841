"""Errors that are shown to users: one clear sentence each, without a traceback."""


class LabError(Exception):
    """Invalid input or an impossible request. ``str(error)`` is the message: what, where, what to do."""
