"""A secret of this user's, by which a checkpoint shows later that it was written here and is as it was.

It lies in the folder of the user's state, `$XDG_STATE_HOME/tiergym/key` or `~/.local/state/tiergym/key`, readable by
this user alone. It leaves the machine with that folder only, so no stranger can seal anything.
"""

import hmac
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_BYTES = 32


def seal(text: str) -> str:
    """HMAC-SHA256 of a text, hexadecimal; empty where no secret can be kept."""
    key = _key()
    return "" if key is None else hmac.new(key, text.encode(), "sha256").hexdigest()


def is_sealed(text: str, found: object) -> bool:
    """Whether `found` is what `seal` gave for this text."""
    expected = seal(text)
    return isinstance(found, str) and bool(expected) and hmac.compare_digest(expected.encode(), found.encode())


def _key() -> bytes | None:
    """The secret, made where there is none; None where that is impossible, or where others could know it."""
    path = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "tiergym" / "key"
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, draft = tempfile.mkstemp(dir=path.parent)  # which this user alone may read
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
            with suppress(FileExistsError):  # another process was first: its key is as good
                path.hardlink_to(draft)
            Path(draft).unlink()
        status = path.lstat()
        private = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
        key = path.read_bytes() if private else b""
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None
    return key if len(key) == _BYTES else None
