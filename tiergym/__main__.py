"""`tiergym` and `python -m tiergym`: the command line, with bad input as one line and exit code 2."""

import sys

from tiergym.errors import UserError


def main() -> None:
    """Run the command line on `sys.argv`; bad input prints `error: ...` and exits with 2."""
    from tiergym.cli.app import app

    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
