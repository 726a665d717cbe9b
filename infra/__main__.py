"""The one entry for newcomers and operators: `python3 -m infra <command>`.

Until the project's own environment is set up, only the standard library is imported, and this file is valid for every
Python 3, so that an old one is told what it lacks.
"""

import sys


def main() -> int:
    """Make sure that we run inside the project's environment, then do what was asked; returns the exit status."""
    if tuple(sys.version_info) < (3, 11):
        print(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    from infra.arguments import parse
    from infra.dispatch import dispatch

    return dispatch(parse(sys.argv[1:]), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
