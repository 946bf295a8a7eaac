"""The one exception class whose message is meant for a user."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right: a wrong path, a broken file, an impossible request.

    The message is one line that says what is wrong, where, and what to do. The command line prints it without a
    traceback and leaves with ``exit_code`` (the codes of docs/exit-codes.md): 2 usage, 3 incorrect result, 4 invalid
    environment, 6 this machine cannot run the request.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
