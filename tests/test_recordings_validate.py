"""Recordings of real kernels replayed on the model: the committed page, what must hold in every run, and bad input."""

import gzip
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.command_line import Cli
from tests.places import EVIDENCE, FITTED, ROOT
from tiergym.errors import UserError
from tiergym.recordings.format import read_recording
from tiergym.validation import replay_page, replay_plots
from tiergym.validation.outcomes import Outcome, read_all, summarise, validate
from tiergym.validation.recorded_machine import ZONE_OF, kernel_version, sections, switches
from tiergym.validation.replay import CLASSES, STEPS, WAIT_FOR_KILL_S, _others_at, replay
from tiergym.validation.requests import SLEEPING_TEXT, read_requests
from tiergym.validation.score import CELLS_WITHIN, base_name, cell_errors, measured_pages
from tiergym.validation.task_progress import task_progress
from tiergym.validation.tasks import read_tasks, script_commands

ONE = "a_llama_anon_on"


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return validate(read_all(FITTED))


def rows(outcomes: list[Outcome], name: str) -> dict[str, bool]:
    """Whether each run's row of that name is met; required rows only."""
    return {
        outcome.score.run: row.ok
        for outcome in outcomes
        for row in outcome.score.rows
        if row.name.startswith(name) and row.required
    }


@pytest.mark.parametrize("evidence", replay_page.EVIDENCE, ids=lambda evidence: evidence.folder)
def test_the_pages_show_what_the_model_says(evidence: replay_page.Evidence, outcomes: list[Outcome]) -> None:
    """After a change of the model: python -m tiergym.validation docs."""
    runs = outcomes if EVIDENCE / evidence.folder == FITTED else validate(read_all(EVIDENCE / evidence.folder))
    page = (ROOT / "docs" / evidence.page).read_text(encoding="utf-8")
    assert replay_page.page(evidence, [outcome.score for outcome in runs]) == page


def test_the_score_does_not_fall(outcomes: list[Outcome]) -> None:
    """94 % of all cells are within their tolerance; docs/validation.md names those that are not."""
    counts = summarise([outcome.score for outcome in outcomes])
    assert counts.failed == 0
    assert counts.cells == 12 * len(outcomes)
    assert counts.within >= 0.94 * counts.cells
    assert counts.above <= 5
    assert counts.missed <= 3
    assert CELLS_WITHIN == 0.95


@pytest.mark.parametrize(
    "name",
    [
        *(
            "marks of",
            "managed pages of node 1",
            "blocks of node 1 online",
            "memmap of node 1",
            "kernel pages on node 1",
        ),
        *(
            "OOM kill",
            "OOM constraint",
            "request that failed",
            "reclaimed before fallback",
            "pages demoted",
            "blocks offline",
        ),
    ],
)
def test_what_holds_in_every_run(outcomes: list[Outcome], name: str) -> None:
    """Watermarks to the page [F-watermarks], kernel pages never in MOVABLE [F-movable-clean], OOM and its constraint
    [F-premature-oom] [F-both-full], no reclaim before a fallback [F-fallback], demotion that kernel requests drive
    [F-boosts], blocks that a kernel page pins [F-pinned-blocks]."""
    judged = rows(outcomes, name)
    assert len(judged) >= 5
    assert [run for run, ok in judged.items() if not ok] == []


def test_the_measured_placement_is_never_an_input() -> None:
    """A replay of a recording whose later samples say something else is the same replay."""
    recording = read_recording(FITTED / ONE)
    changed = {name: column.copy() for name, column in recording.columns.items()}
    for name, column in changed.items():
        if name.split(".")[0] in ("n0", "n1", "vm"):
            column[1:] = 7
    other = type(recording)(recording.path, recording.meta, changed, recording.events)
    assert (replay(recording).pages == replay(other).pages).all()
    assert cell_errors(recording, replay(recording)) != cell_errors(other, replay(other))


def test_the_name_of_a_run_makes_no_difference(tmp_path: Path) -> None:
    shutil.copytree(FITTED / ONE, tmp_path / "something_else")
    first, second = (replay(read_recording(path)) for path in (FITTED / ONE, tmp_path / "something_else"))
    assert (first.pages == second.pages).all()


def test_the_machine_is_read_from_the_recording() -> None:
    old = read_recording(FITTED / "k61_llama_anon_mov")
    assert kernel_version(old) == (6, 1)
    assert sections(old)["kernel"]["pcp_scale"] == 0
    tiering = read_recording(FITTED / "a_llama_anon_tier_on")
    assert switches(tiering)["numa_balancing"] == "2"
    kernel = sections(tiering)["kernel"]
    assert (kernel["demotion"], kernel["numa_balancing"], kernel["slow_in_lower_tier"]) == ("on", "tiering", "on")
    assert sections(read_recording(FITTED / "v_thp_llama_on"))["kernel"]["thp"] == "on"
    assert sections(read_recording(FITTED / "s_single_512_llama"))["machine"]["slow_mib"] == 0
    assert len(ZONE_OF) == 5


def test_a_script_is_read_as_processes() -> None:
    assert script_commands("w anon name=A mb=5 pol=bind node=1 & ; /gt sleep 2\nw sparse n=3") == [
        ("anon", {"name": "A", "mb": "5", "pol": "bind", "node": "1"}, True),
        ("sparse", {"n": "3"}, False),
    ]
    tasks = read_tasks(read_recording(FITTED / "e_phases_mov"))
    assert [task.name for task in tasks] == ["A", "pt", "B", "C"]
    assert [task.killed for task in tasks] == [True, False, False, True]
    assert tasks[1].arguments["adj"] == "-500"


def test_requests_follow_the_counters_process_by_process() -> None:
    """Their sum is the common counter while all processes live, and nothing is left at the end."""
    recording = read_recording(FITTED / "e_phases_on")
    tasks = [task for task in read_tasks(recording) if task.command == "anon"]
    column = recording.column("w.anon_touched_pages").astype(float)
    series = task_progress(recording.t_s, column, tasks, [float(task.size) for task in tasks])
    growing = recording.t_s < tasks[0].shrink_s
    assert (sum(series)[growing] == column[growing]).all()  # type: ignore[index]
    assert all(one.max() == task.size and one[-1] == 0 for one, task in zip(series, tasks, strict=True))


def test_a_killed_process_would_have_gone_on() -> None:
    """The model may kill a little later than the kernel, so the request goes on at its last pace."""
    recording = read_recording(FITTED / "g_oom_default_mov")
    (region,) = [region for region in read_requests(recording).regions if region.process == "p0"]
    assert region.target.max() > recording.column("w.anon_touched_pages").max() * 1.2


@pytest.mark.parametrize(
    ("run", "referenced"),
    [("b_sparse_write_dem_mov", False), ("a_llama_anon_tier_mov", True), ("v_lruold_llama_tier_on", True)],
)
def test_text_of_programs_that_sleep_goes_with_its_generation(run: str, referenced: bool) -> None:
    """Beside data without accessed bits (NUMA balancing) and on the classic active list it stays."""
    regions = {region.name: region for region in read_requests(read_recording(FITTED / run)).regions}
    text = regions[SLEEPING_TEXT]
    assert text.target[0] > 100
    assert (text.access_hz is not None and text.access_hz.any()) == referenced


@pytest.mark.parametrize(("run", "leaves"), [("b_sparse_write_dem_mov", True), ("f_pressure_anon_dem_mov", False)])
def test_pages_of_a_process_that_sleeps_go_before_text(run: str, leaves: bool) -> None:
    """One demotes beside the process that grows, the other beside one that holds what it touched long ago."""
    simulated, text = replay(read_recording(FITTED / run)), 400
    before, after = simulated.pages[0, CLASSES.index("file"), 0], simulated.pages[-1, CLASSES.index("file"), 0]
    unmapped = before - 659  # pages of files that the first sample counts as mapped
    assert (before - after > unmapped + text // 2) == leaves


def test_replicates_widen_the_tolerance(outcomes: list[Outcome]) -> None:
    assert base_name("a__r2") == base_name("a") == "a"
    (score,) = [outcome.score for outcome in outcomes if outcome.score.run == "f_pressure_anon_dem_on__r3"]
    assert score.tolerance("file", 1) > 0.2 > score.tolerance("slab_reclaim", 0) == 0.05


def test_a_page_of_plots(outcomes: list[Outcome]) -> None:
    (outcome,) = [outcome for outcome in outcomes if outcome.score.run == ONE]
    assert replay_plots.run_png(outcome).startswith(b"\x89PNG")
    assert measured_pages(outcome.recording).shape[1:] == (6, 2)


def test_the_command_writes_json_and_plots(cli: Cli, tmp_path: Path) -> None:
    """A run that is all within tolerance: exit code 0."""
    done = cli("validate", "recordings", FITTED / ONE, "--json", tmp_path / "v.json", "--plot", tmp_path / "plots")
    assert done.code == 0, done.out + done.err
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["ok"] and found["cells"] == 12 == len(found["runs"][0]["cells"])
    assert [path.name for path in (tmp_path / "plots").iterdir()] == [f"{ONE}.png"]
    assert "12 of 12 cells" in done.out


def copy_of_one(folder: Path) -> Path:
    shutil.copytree(FITTED / ONE, folder / ONE)
    return folder / ONE


def test_a_run_that_cannot_be_simulated_is_a_failed_row(cli: Cli, tmp_path: Path) -> None:
    """The other runs are judged all the same; the exit code is 1."""
    run = copy_of_one(tmp_path)
    meta = json.loads((run / "meta.json").read_text())
    (run / "meta.json").write_text(json.dumps(meta | {"memhp_default_state": "offline"}))
    shutil.copytree(FITTED / "b_sparse_write_on", tmp_path / "b_sparse_write_on")
    done = cli("validate", "recordings", tmp_path)
    assert done.code == 1
    assert "FAILED" in done.out and "memhp_default_state is 'offline'" in done.out
    assert "b_sparse_write_on" in done.out and "1 runs could not be simulated" in done.out


@pytest.mark.parametrize("fault", ["empty", "missing", "column", "clock", "truncated", "counters"])
def test_what_is_no_recording_is_refused_with_one_line(cli: Cli, fault: str, tmp_path: Path) -> None:
    """Exit code 2, the file and the column, no traceback."""
    folder, expected = tmp_path / "runs", "no recording"
    if fault == "missing":
        expected = "not a folder"
    else:
        folder.mkdir()
    if fault not in ("empty", "missing"):
        samples = copy_of_one(folder) / "samples.csv.gz"
        lines = gzip.decompress(samples.read_bytes()).decode().splitlines()
        if fault == "column":
            lines[0], expected = lines[0].replace("n0.nr_anon_pages", "n0.nr_other"), "n0.nr_anon_pages"
        elif fault == "clock":
            lines[5], lines[9], expected = lines[9], lines[5], "t_s"
        elif fault == "truncated":
            lines, expected = lines[:40], "truncated"
        else:
            lines[0], expected = lines[0].replace("n0.nr_page_table_pages", "n0.nr_pagetables"), "nr_page_table_pages"
        samples.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    done = cli("validate", "recordings", folder)
    assert done.code == 2, done.out + done.err
    assert expected in done.err and "Traceback" not in done.err


def test_a_workload_larger_than_the_model_is_refused() -> None:
    recording = read_recording(FITTED / ONE)
    meta = dict(recording.meta) | {"guest_script": "\n".join(f"w anon name=n{i} mb=1" for i in range(20))}
    event = type(recording.events[0])
    events = [event(1.0, "phase:grow", f"name=n{i} pages=256") for i in range(20)]
    with pytest.raises(UserError, match="processes; the model has 8"):
        replay(type(recording)(recording.path, meta, recording.columns, events))


def test_what_the_spared_give_back_because_of_a_kill_comes_after_it():
    """Recorded every 0.2 s, killed at 1.31 s. Until the model has killed as well, the others keep what they had in the
    sample at 1.2 s, even before the kill, where straight lines between samples would already give some of it back."""
    tasks = [SimpleNamespace(killed=True, exit_s=1.31), SimpleNamespace(killed=False, exit_s=1.5)]
    requests: Any = SimpleNamespace(t_s=np.arange(81) * 0.2 / STEPS, tasks=tasks)
    before, kill = 6 * STEPS, int(np.searchsorted(requests.t_s, 1.31))
    assert [_others_at(requests, 0, k) for k in (before - 1, before, before + 1, kill, kill + 1)] == [
        before - 1, before, before, before, before,
    ]  # fmt: skip
    assert _others_at(requests, 1, kill + 1) == kill + 1
    late = int(np.searchsorted(requests.t_s, 1.31 + WAIT_FOR_KILL_S)) + 1
    assert _others_at(requests, 0, late) == late
