"""The requests of any recording: of a lab's script by its commands, of any other program by its process tree."""

from __future__ import annotations

from tiergym.recordings.format import Recording
from tiergym.recordings.machine_totals import from_process_tree
from tiergym.validation.program_requests import program_requests
from tiergym.validation.request_series import Requests
from tiergym.validation.script_requests import script_requests
from tiergym.validation.tasks import read_tasks


def is_program(recording: Recording) -> bool:
    """Whether a run is read by its process tree and totals: its `w.*` are a tree's, or no command of the lab ran."""
    return from_process_tree(recording) or not read_tasks(recording)


def read_requests(recording: Recording) -> Requests:
    """The requests of a run, resampled at its sample times."""
    if is_program(recording):
        return program_requests(recording)
    return script_requests(recording, read_tasks(recording))
