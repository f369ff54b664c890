"""Commands that look at this machine with a policy's eyes: advise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiergym.cli import completion, options
from tiergym.cli.file_kinds import wanted
from tiergym.cli.record_commands import fold_of
from tiergym.errors import UserError
from tiergym.files import STDOUT
from tiergym.terminal import manner

if TYPE_CHECKING:
    from tiergym.lab.advise import Advice, Adviser

NAMED = 3
"""Entries of a group that are named; the others are counted."""


def advise(
    policy: Annotated[
        str,
        typer.Option(metavar="POLICY", help=f"Who decides: {options.POLICY_HELP}.", autocompletion=completion.policies),
    ],
    seconds: Annotated[
        int | None, typer.Option(min=1, max=86400, metavar="N", help="Stop after so many decisions. Default: Ctrl-C.")
    ] = None,
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="The machine whose proc and sys lie here, as a copy of another's.")
    ] = Path("/"),
    fast: Annotated[
        str | None, typer.Option(metavar="NODES", help="Memory nodes that are DRAM, as 0,1; with --slow.")
    ] = None,
    slow: Annotated[
        str | None, typer.Option(metavar="NODES", help="Memory nodes that are CXL, as 2. Default: those without CPUs.")
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            options.JSON,
            metavar="[FILE|-]",
            callback=options.claim_stdout,
            help="Also write a line of JSON per decision to a file; to stdout in place of text with - or nothing.",
        ),
    ] = None,
) -> None:
    """Say what a policy would decide on this machine, once a second, and which knobs of its kernel come closest.

    Reads /proc and /sys, without root, and never writes: the commands that it prints are for a person to weigh and
    type. What the machine does not tell is listed first, with what stands for it. What a policy learned on simulated
    machines need not hold on yours.

    Example: tiergym advise --policy adaptive --seconds 10
    """
    options.check_outputs(json)
    if not root.is_dir():
        raise UserError(f"--root is '{root}'; allowed: a folder with proc and sys in it")
    fold = fold_of(fast, slow)
    from tiergym.lab.advise import Adviser
    from tiergym.policy.load import load_policy
    from tiergym.recordings.live_observation import LiveMachine
    from tiergym.recordings.sampling import Machine

    with wanted(policy, "policy", "--policy"):
        adviser = Adviser(LiveMachine.find(Machine(root), fold), load_policy(policy))
    began = time.monotonic()
    adviser.look(0.0)
    _introduce(adviser)
    told: set[tuple[str, str]] = set()
    second = 0
    with _lines(json) as write:
        try:
            while seconds is None or second < seconds:
                second += 1
                time.sleep(max(0.0, began + second - time.monotonic()))
                advice = adviser.decide(time.monotonic() - began)
                _tell(second, advice, adviser, told)
                write(_document(advice, adviser))
        except KeyboardInterrupt:
            return


@contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes a line of JSON per document, at once and whole; nothing without a path."""
    if path is None:
        yield lambda document: None
        return
    if path == STDOUT:
        yield lambda document: print(dumps(document), flush=True)
        return
    with path.open("wb", buffering=0) as file:

        def write(document: dict[str, Any]) -> None:
            whole, left = file.tell(), f"{dumps(document)}\n".encode()
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError as error:
                file.truncate(whole)
                raise UserError(f"{path}: cannot be written: {error.strerror}") from error

        yield write


def _document(advice: Advice, adviser: Adviser) -> dict[str, Any]:
    """One decision, with the knobs that come closest to its modes."""
    from tiergym.recordings.knobs import closest

    knobs = {name: closest(name, mode, adviser.live) for name, mode in advice.modes.items()}
    return {
        "schema": 1,
        "t_s": round(advice.t_s, 3),
        "policy": adviser.policy.name,
        "modes": advice.modes,
        "impossible": advice.impossible,
        "knobs": {name: {"text": knob.text, "commands": knob.commands} for name, knob in knobs.items()},
    }


def _say(text: str) -> None:
    if not manner.json_on_stdout:
        print(text, flush=True)


def _introduce(adviser: Adviser) -> None:
    """Tiers, and what is not known of this machine."""
    from tiergym.lab.advise import stand_ins

    live = adviser.live
    fast, slow = (", ".join(map(str, nodes)) for nodes in (live.fold.fast, live.fold.slow))
    _say(f"read only: nothing is changed, no command is run. DRAM: node {fast}; slow memory: {slow or 'none'}")
    _say(f"the policy {adviser.policy.name} is asked once a second; simulated machines ask four times")
    _say("what this machine does not tell, or not exactly, and what stands for it:")
    for names, what in stand_ins(live):
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        _say(f"  {', '.join(names[:NAMED])}{more}: {what}")
    if not live.fold.slow:
        _say("no slow memory: every page is in DRAM, and every mode but the default is impossible")


def _tell(second: int, advice: Advice, adviser: Adviser, told: set[tuple[str, str]]) -> None:
    """One line for the decision, and the knobs of modes that had not come before."""
    from tiergym.recordings.knobs import closest

    words = " ".join(f"{name}={mode}" for name, mode in advice.modes.items()) or "nothing but the defaults"
    impossible = " ".join(f"{name}={mode}" for name, mode in advice.impossible.items())
    _say(f"{second:>4} s  {words}" + (f"  (impossible here: {impossible})" if impossible else ""))
    for name, mode in advice.modes.items():
        if (name, mode) not in told:
            told.add((name, mode))
            knob = closest(name, mode, adviser.live)
            _say(f"        {name}={mode}: {knob.text}")
            for command in knob.commands:
                _say(f"            {command}")
