"""The error that is for people: one line that says what is wrong and what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class UserError(Exception):
    """Bad input. Stages print the message, without a traceback, and exit with 1."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """ " (did you mean …?)" with the choice most like ``word``, or the list of choices if none is."""
    choices = [str(choice) for choice in choices]
    close = get_close_matches(str(word), choices, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (one of {', '.join(choices)})"


def of_the_disk(error: OSError) -> str:
    """What the operating system says is wrong with a disk, file or folder, in one line."""
    return f"{error.filename or Path.cwd()}: {error.strerror or error}; mend it and run dvc repro again to go on"
