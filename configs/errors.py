"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """What is wrong and what would be right, in one line. The command line prints it and exits with 2."""
