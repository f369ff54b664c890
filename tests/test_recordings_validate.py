"""Recordings of real kernels replayed on the model: the committed page, what must hold in every run, and bad input."""

import functools
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
from tiergym.recordings.format import Event, Recording, read_recording
from tiergym.sim import names as n
from tiergym.sim.layout import REGION_SIZES
from tiergym.sim.parameters import N_PROCESSES
from tiergym.sim.units import PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE
from tiergym.validation import prices_page, replay_page, replay_plots
from tiergym.validation import requests as requests_module
from tiergym.validation.outcomes import Outcome, read_all, summarise, validate
from tiergym.validation.read_counts import (
    Counts,
    Windows,
    first_reads,
    measured_counts,
    readings_of,
    windows_of,
)
from tiergym.validation.recorded_machine import (
    ZONE_OF,
    action_modes,
    arrivals,
    first_sample,
    kernel_version,
    sections,
    switches,
    there_at_boot,
)
from tiergym.validation.replay import CLASSES, STEPS, WAIT_FOR_KILL_S, _others_at, replay, scenario_of
from tiergym.validation.request_series import SLEEPING_TEXT, SYSTEM
from tiergym.validation.requests import read_requests
from tiergym.validation.score import CELLS_WITHIN, base_name, cell_errors, measured_pages
from tiergym.validation.script_requests import script_requests
from tiergym.validation.task_progress import given_back_share, task_progress
from tiergym.validation.tasks import read_tasks, script_commands

ONE = "a_llama_anon_on"
pytestmark = pytest.mark.xdist_group("replays")
"""One process replays each recording once for all of these tests (`--dist loadgroup`)."""


@functools.cache
def simulated(folder: str) -> list[Outcome]:
    """A folder's recordings, each replayed once for all tests."""
    return validate(read_all(EVIDENCE / folder))


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return simulated(FITTED.name)


def rows(outcomes: list[Outcome], name: str) -> dict[str, bool]:
    """Whether each run's row of that name is met; required rows only."""
    return {
        outcome.score.run: row.ok
        for outcome in outcomes
        for row in outcome.score.rows
        if row.name.startswith(name) and row.required
    }


@pytest.mark.parametrize("evidence", replay_page.EVIDENCE, ids=lambda evidence: evidence.folder)
def test_the_pages_show_what_the_model_says(evidence: replay_page.Evidence) -> None:
    """After a change of the model: python -m tiergym.validation docs."""
    page = (ROOT / "docs" / evidence.page).read_text(encoding="utf-8")
    assert replay_page.page(evidence, [outcome.score for outcome in simulated(evidence.folder)]) == page


def test_the_page_of_prices_shows_what_was_counted() -> None:
    """After a change of the model: python -m tiergym.validation docs."""
    readings = [reading for folder in prices_page.FOLDERS for reading in readings_of(simulated(folder))]
    assert prices_page.page(readings) == (ROOT / "docs" / prices_page.PAGE).read_text(encoding="utf-8")


def counted(folder: str, run: str) -> tuple[Counts, Windows]:
    recording = read_recording(EVIDENCE / folder / run)
    requests = read_requests(recording)
    return measured_counts(recording, first_reads(recording, requests)), windows_of(recording, requests)


@pytest.mark.parametrize(("folder", "run"), [("fitted", "x_llama_swap_mov"), ("releases", "k72_x_llama_swap_on")])
def test_a_read_of_swept_swap_brings_a_cluster(folder: str, run: str) -> None:
    """swap_vma_readahead: what was not read ahead was waited for [K-read-around]."""
    counts, windows = counted(folder, run)
    assert counts.swapped_in - counts.swap_ahead == counts.major_faults
    assert counts.swapped_in / counts.major_faults == pytest.approx(windows.swept, rel=0.1)
    assert (windows.swept, windows.single) == (8, 1)


def test_who_wakes_up_reads_swap_page_by_page() -> None:
    counts, windows = counted("kinds", "m_swap_bind_on")
    assert counts.swapped_in / (counts.swapped_in - counts.swap_ahead) < 1.5 and windows.single == 1


@pytest.mark.parametrize("run", ["p_memcached_on", "p_redis_fill_mov", "p_pool_on"])
def test_a_miss_of_programs_text_reads_a_window_around_it(run: str) -> None:
    """do_sync_mmap_readahead [K-read-around]."""
    counts, windows = counted("programs", run)
    assert windows.file == 32
    assert counts.read / counts.major_faults == pytest.approx(windows.file, rel=0.1)


def test_a_stream_s_readers_seldom_wait() -> None:
    counts, windows = counted("kinds", "m_file_over_mov")
    assert counts.read / counts.major_faults > 1000 * windows.file


def test_the_classic_lru_counts_every_page_that_comes_back() -> None:
    """lru_gen_refault counts those that come back on the node they left [K-refaults]."""
    classic, generations = (counted("kinds", run)[0] for run in ("m_lruold_tier_file_on", "m_file_over_mov"))
    assert classic.refaults == pytest.approx(classic.back, rel=0.01)
    assert generations.refaults < 0.6 * generations.back


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
    assert scenario_of(old, read_requests(old)).sections["kernel"]["pcp_scale"] == 0
    tiering = read_recording(FITTED / "a_llama_anon_tier_on")
    assert switches(tiering)["numa_balancing"] == "2"
    kernel = sections(tiering)["kernel"]
    assert (kernel["demotion"], kernel["numa_balancing"], kernel["slow_in_lower_tier"]) == ("on", "tiering", "on")
    assert sections(read_recording(FITTED / "v_thp_llama_on"))["kernel"]["thp"] == "on"
    assert sections(read_recording(FITTED / "s_single_512_llama"))["machine"]["slow_mib"] == 0
    assert set(ZONE_OF.values()) == set(range(n.N_ZONES))


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


SETTINGS = "demotion true numa_balancing {} lru_gen {} wsf {} wbf 15000"
UNREADABLE: dict[str, tuple[dict[str, object], str, str]] = {
    "a switch": (
        {"guest_report": [SETTINGS.format("yes", "0x0", 10)]},
        "",
        "numa_balancing is 'yes'; allowed: a",
    ),
    "many digits": ({"guest_report": [SETTINGS.format(0, "0x0", "9" * 400)]}, "", "wsf is '999"),
    "generations": ({"guest_report": [SETTINGS.format(0, "enabled", 10)]}, "", "lru_gen is 'enabled'; allowed: a hexa"),
    "a ratio": (
        {"kernel_cmdline": "memory_hotplug.auto_movable_ratio=nan"},
        "",
        "memory_hotplug.auto_movable_ratio is 'nan'; allowed: a whole",
    ),
    "an event's size": ({}, "phase:grow,pages=nan", "event 'phase:grow': pages is 'nan'; allowed: a number from 0"),
    "files that are read": ({}, "phase:readfile,mb=1e999", "event 'phase:readfile': mb is '1e999'; allowed: a number"),
    "a block's times": ({}, "offline_block,tag=a t0=x", "event 'offline_block': t0 is 'x'; allowed: a number from 0"),
}
"""By name: changes of meta.json, an event, and what is said."""


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_replay_cannot_read_is_named_and_no_defect(case: str, cli: Cli, tmp_path: Path) -> None:
    changes, event, said = UNREADABLE[case]
    run = copy_of_one(tmp_path)
    meta = json.loads((run / "meta.json").read_text())
    (run / "meta.json").write_text(json.dumps(meta | changes))
    with (run / "workload.csv").open("a", newline="") as file:
        file.write(f"99.0,{event}\r\n" if event else "")
    assert cli("validate", "recordings", tmp_path, "--json", tmp_path / "v.json").code == 1
    (failed,) = json.loads((tmp_path / "v.json").read_text())["runs"]
    assert said in failed["failure"] and not failed["failure"].startswith("defect")


def test_a_defect_of_ours_fails_one_run_and_says_where(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised, the other runs are judged; the row names the exception and its place, the exit code is 1."""
    for run in (ONE, "b_sparse_write_on"):
        shutil.copytree(FITTED / run, tmp_path / "runs" / run)

    def broken(recording: Recording, tasks: object) -> object:
        return 1 // (recording.name != ONE) and script_requests(recording, read_tasks(recording))

    monkeypatch.setattr(requests_module, "script_requests", broken)
    done = cli("validate", "recordings", tmp_path / "runs", "--json", tmp_path / "v.json")
    assert done.code == 1 and "Traceback" not in done.out + done.err
    failed, judged = json.loads((tmp_path / "v.json").read_text())["runs"]
    assert failed["failure"].startswith("defect: ZeroDivisionError: ") and "in read_requests)" in failed["failure"]
    assert len(judged["cells"]) == 12


def test_a_kernel_that_is_not_known_is_named_and_used_as_far_as_it_goes(cli: Cli, tmp_path: Path) -> None:
    """Without a counter that every known kernel has, its class is not judged, and all others are."""
    run = copy_of_one(tmp_path)
    meta = json.loads((run / "meta.json").read_text())
    constant = {name: value for name, value in meta["constant_values"].items() if not name.endswith("nr_kernel_stack")}
    meta |= {"kernel_release": "8.3.1-new", "constant_values": constant}
    (run / "meta.json").write_text(json.dumps(meta))
    text = gzip.decompress((run / "samples.csv.gz").read_bytes()).decode()
    (run / "samples.csv.gz").write_bytes(gzip.compress(text.replace(".nr_kernel_stack", ".nr_stacks").encode()))
    done = cli("validate", "recordings", tmp_path, "--json", tmp_path / "v.json")
    document = json.loads((tmp_path / "v.json").read_text())
    (found,) = document["runs"]
    assert found["notes"] == [
        "Linux 8.3 is not known, it is read as 7.2",
        "no counter n0.nr_kernel_stack, n1.nr_kernel_stack: what it counts is not judged",
    ]
    assert all(note in done.out for note in ("Linux 8.3 is not known", "not judged"))
    assert len(found["cells"]) == 10 and "kernel_stacks" not in {cell["class"] for cell in found["cells"]}
    assert [group["group"] for group in document["groups"]] == ["synthetic", "Linux 8.3"]


def test_scores_are_summed_up_for_synthetic_runs_for_programs_and_by_release(outcomes: list[Outcome]) -> None:
    programs = validate([read_recording(EVIDENCE / "programs" / run) for run in ("p_pool_on", "p72_memcached_on")])
    scores = [outcome.score for outcome in [*outcomes, *programs]]
    groups = dict(replay_page.groups(scores))
    assert list(groups) == ["synthetic", "real programs", "Linux 6.1", "Linux 6.12", "Linux 7.2"]
    assert groups["synthetic"].cells == 12 * len(outcomes) and groups["real programs"].runs == 2
    assert groups["Linux 7.2"].cells == 12
    assert sum(groups[name].within for name in ("synthetic", "real programs")) == summarise(scores).within
    page = replay_page.page(replay_page.EVIDENCE[0], scores)
    assert "| real programs | 2 | " in page and "| Linux 7.2 | 1 | " in page


def test_a_node_that_is_there_at_boot_is_simulated() -> None:
    """Below 4 GiB, with its struct pages in memory of its own that no zone manages."""
    recording = read_recording(EVIDENCE / "kinds" / "m_boot_node1_on")
    assert there_at_boot(recording) and action_modes(recording) == {"zone": "normal", "memmap": "on_memory"}
    assert first_sample(recording).managed[n.SLOW_NORMAL] == 225702
    done = replay(recording)
    assert done.memmap == 229376 // STRUCT_PAGES_PER_PAGE
    errors = cell_errors(recording, done)
    assert max(errors["page_tables"]) < 0.05 and max(errors["anon"]) < 0.05
    assert not there_at_boot(read_recording(FITTED / ONE))
    assert not there_at_boot(read_recording(FITTED / "v_memmap_on_memory_on"))


def test_dimms_arrive_one_by_one() -> None:
    """Struct pages of the second and third are on the node that the first has made, not in DRAM."""
    recording = read_recording(EVIDENCE / "kinds" / "m_automovable_on")
    assert [event["mib"] for event in arrivals(recording)] == [512, 512]
    assert max(cell_errors(recording, replay(recording))["slab_unreclaim"]) < 0.05
    assert arrivals(read_recording(FITTED / ONE)) == []


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


def commands(count: int, mb: int = 1) -> Recording:
    """A run of the lab whose script starts so many commands at once, each smaller than the one before."""
    recording = read_recording(FITTED / ONE)
    sizes = [mb * PAGES_PER_MIB * (count - i) // count for i in range(count)]
    meta = dict(recording.meta) | {"guest_script": "\n".join(f"w anon name=n{i} mb={mb}" for i in range(count))}
    events = [Event(1.0, "phase:grow", f"name=n{i} pages={size}") for i, size in enumerate(sizes)]
    asked = np.interp(recording.t_s, [1.0, 3.0], [0, sum(sizes)]).astype(np.int64)
    columns = dict(recording.columns) | {"w.anon_touched_pages": asked}
    return Recording(recording.path, meta, columns, events)


def test_nine_processes_and_more_are_folded_the_smallest_into_one() -> None:
    """Their regions stay, the largest keep processes of their own, and a note says so."""
    recording = commands(20, mb=4)
    requests = read_requests(recording)
    assert len(requests.processes) == N_PROCESSES
    owners = {region.name: region.process for region in requests.regions if region.name.startswith("n")}
    assert len(owners) == 20 and len({owners[f"n{i}"] for i in range(7)}) == 7
    assert len({owners[f"n{i}"] for i in range(6, 20)}) == 1
    done = replay(recording)
    assert done.notes == ["20 processes, the model has 7: the 14 smallest are one"]
    asked = int(recording.column("w.anon_touched_pages")[-1])
    grown = done.pages[:, CLASSES.index("anon")].sum(axis=1)
    assert asked <= grown.max() - grown[0] <= asked + 20 * 60  # and what every command has for itself


def test_more_regions_than_the_model_has_are_joined_where_they_are_alike() -> None:
    requests = read_requests(commands(70))
    assert len(requests.regions) <= max(REGION_SIZES)
    most = sum(region.target for region in requests.regions if region.process != SYSTEM)
    assert np.max(most) == pytest.approx(commands(70).column("w.anon_touched_pages").max())


def test_commands_that_overlap_are_read_apart() -> None:
    """Processes and threads come and go beside a model that is looped over, and the recording ends amid them."""
    recording = read_recording(EVIDENCE / "releases" / "k612_l_churn_file_on")
    requests = read_requests(recording)
    assert sorted({task.command for task in requests.tasks}) == ["llama", "procs", "threads"]
    last = requests.tasks[-1]
    assert last.shrink_s < recording.t_s[-1] and last.freed_s == np.inf
    for series in [region.target for region in requests.regions] + list(requests.threads.values()):
        assert np.isfinite(series).all() and (series >= 0).all()
    share = given_back_share(recording.t_s, last)
    assert share[0] == 1 and 0 < share[-2] < 1 and share[-1] == 0


def test_page_cache_stays_that_was_read_in_a_command_s_last_moment() -> None:
    """The command ends between two samples, 5,600 pages after the one before."""
    recording = read_recording(EVIDENCE / "kinds" / "m_cache_llama_on")
    (cache,) = [region for region in read_requests(recording).regions if region.name == "readfile cache"]
    assert cache.target[-1] == 100 * PAGES_PER_MIB


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
