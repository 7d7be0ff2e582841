"""Errors that are shown to users: one clear sentence each, without a traceback."""


class LabError(Exception):
    """Invalid input or an impossible request. ``str(error)`` is the message: what, where, what to do."""


class LabEnded(Exception):
    """An error of tui-lab itself has ended the full-screen lab. ``__cause__`` is that error."""
