"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """What is wrong and what would be right, in one line. The command line prints it and exits with 2."""

    def __init__(self, message: str) -> None:
        # A loader process hands its error on with its traceback as text, which ends in what was raised.
        if message.startswith("Caught UserError in DataLoader worker"):
            message = message.rstrip().splitlines()[-1].partition(": ")[2]
        super().__init__(message)
