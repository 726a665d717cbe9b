"""What is told to the person at the terminal, as one sentence, instead of a traceback."""

from __future__ import annotations


class Problem(Exception):  # noqa: N818 - it is a sentence for a person, not an error of the program
    """Something that the person at the terminal can act on; the command ends with exit status 1."""
