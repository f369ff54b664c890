"""Validation against recordings: every run of a folder read, simulated and scored."""

from __future__ import annotations

import os
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiergym.errors import UserError
from tiergym.recordings.format import Recording, list_recordings, read_recording
from tiergym.recordings.kernel_release import parse_version, spelled
from tiergym.recordings.machine_totals import from_process_tree
from tiergym.validation.events import event_rows
from tiergym.validation.recorded_machine import machine_notes
from tiergym.validation.replay import Replay, replay
from tiergym.validation.requests import is_program
from tiergym.validation.score import (
    CELLS_WITHIN,
    Score,
    base_name,
    cell_errors,
    replicate_spread,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run with its simulation; `replay` is None where it could not be simulated."""

    recording: Recording
    replay: Replay | None
    score: Score


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over `runs`: cells within their tolerance and above the limit, required rows missed, runs that failed."""

    runs: int
    cells: int
    within: int
    above: int
    missed: int
    rows: int
    failed: int

    @property
    def ok(self) -> bool:
        """Whether everything that is required is met."""
        enough = self.within >= CELLS_WITHIN * self.cells
        return enough and self.above == 0 and self.missed == 0 and self.failed == 0


def read_all(folder: Path) -> list[Recording]:
    """Every run of a folder. Raises `UserError` for the first that is no recording, before any work."""
    return [read_recording(path) for path in list_recordings(folder)]


def validate(recordings: Iterable[Recording], say: Callable[[str], None] = lambda name: None) -> list[Outcome]:
    """Simulate and score all runs; replicates (`name__r2`) of a run that are among them widen its tolerances."""
    recordings = list(recordings)
    families: Mapping[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        families[base_name(recording.name)].append(recording)
    outcomes = []
    for recording in recordings:
        say(recording.name)
        outcomes.append(_judge(recording, families[base_name(recording.name)]))
    return outcomes


def _judge(recording: Recording, family: Sequence[Recording]) -> Outcome:
    """One run, simulated and scored; whatever goes wrong is its failure alone."""
    version = parse_version(recording.meta["kernel_release"])
    release = spelled(version) if version else recording.meta["kernel_release"]
    program = from_process_tree(recording)
    try:
        program = is_program(recording)
        simulated = replay(recording)
        score = Score(
            recording.name,
            cell_errors(recording, simulated),
            replicate_spread(family),
            event_rows(recording, simulated),
            release,
            program,
            notes=[*machine_notes(recording), *simulated.notes],
        )
    except Exception as error:  # a defect of ours, too, ends this run only
        return Outcome(recording, None, Score(recording.name, {}, {}, (), release, program, _why(error)))
    return Outcome(recording, simulated, score)


def _why(error: Exception) -> str:
    """What a failed row says: the message of bad input; of a defect of ours its class and place besides."""
    if isinstance(error, UserError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    ours = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}tiergym{os.sep}" in f.filename]
    place = (ours or [frame])[-1]
    return f"defect: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno}, in {place.name})"


def summarise(scores: Sequence[Score]) -> Summary:
    """Counts over `scores`."""
    cells = [(score, name, node) for score in scores for name in score.errors for node in (0, 1)]
    within = sum(score.errors[name][node] <= score.tolerance(name, node) for score, name, node in cells)
    above = sum(score.errors[name][node] > score.limit(name, node) for score, name, node in cells)
    required = [row for score in scores for row in score.rows if row.required]
    return Summary(
        len(scores),
        len(cells),
        within,
        above,
        sum(not row.ok for row in required),
        len(required),
        sum(bool(score.failure) for score in scores),
    )
