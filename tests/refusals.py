"""What every refusal looks like from outside: exit code 2 and one line that says what is wrong."""

from tests.command_line import Done

LONGEST_LINE = 5000


def assert_refused(done: Done, *parts: str) -> None:
    """The command refused its input in one line that has all of `parts`."""
    assert done.code == 2, (done.code, done.out[-300:], done.err[-300:])
    assert "Traceback" not in done.err + done.out
    lines = done.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) <= LONGEST_LINE, done.err[:2000]
    assert lines[0].isprintable()
    assert [part for part in parts if part not in lines[0]] == [], lines[0]
