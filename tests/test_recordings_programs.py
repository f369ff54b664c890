"""Recordings of any program: what is read as its requests, never where the kernel put it."""

import tomllib
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from tests.made_recordings import TEMPLATE, Array, grown, made, program
from tests.places import EVIDENCE
from tiergym.recordings.format import Recording, read_recording
from tiergym.recordings.machine_totals import totals_of
from tiergym.recordings.workload import workload_toml
from tiergym.sim.demand import BUFFER_HEAD_BYTES, XARRAY_BYTES_PER_PAGE
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGE_BYTES, PAGES_PER_MIB
from tiergym.validation.events import event_rows
from tiergym.validation.recorded_cache import node_bytes_per_page
from tiergym.validation.recorded_machine import first_sample, sections
from tiergym.validation.replay import CLASSES, _ask_on, replay
from tiergym.validation.request_series import RegionRequest, Requests
from tiergym.validation.requests import is_program, read_requests
from tiergym.validation.score import measured_pages

PROGRAMS = EVIDENCE / "programs"
T_S = np.arange(0, 8, 0.25)
MODEL_MIB = 876
"""Of the file that the recorded llama.cpp maps."""


def ramp(*points: tuple[float, float]) -> Array:
    """Pages at `T_S`, straight lines between (seconds, pages)."""
    times, pages = zip(*points, strict=True)
    return np.interp(T_S, times, pages).round().astype(np.int64)


def region(requests: Requests, name: str) -> RegionRequest:
    (found,) = [region for region in requests.regions if region.name == name]
    return found


def simulated(recording: Recording, name: str) -> Array:
    """Pages of a class over both nodes at each sample."""
    return np.asarray(replay(recording).pages[:, CLASSES.index(name)].sum(axis=1))


def test_what_processes_give_back_is_given_back(tmp_path: Path):
    held = ramp((1, 0), (3, 20000), (5, 20000), (6, 4000))
    recording = program(tmp_path, T_S, anon=held)
    assert (region(read_requests(recording), "anon").target == held).all()
    measured = measured_pages(recording)[:, CLASSES.index("anon")].sum(axis=1)
    assert np.abs(simulated(recording, "anon") - measured).max() <= 4


def test_stacks_and_slab_are_those_of_the_threads_that_run(tmp_path: Path):
    """300 threads more, with 2 slab pages each; the first sample's are there all the time."""
    threads = ramp((1, 0), (3, 300), (5, 300), (6, 0))
    recording = program(
        tmp_path,
        T_S,
        n0__nr_kernel_stack=grown("n0.nr_kernel_stack", threads, 16),
        n0__nr_slab_unreclaimable=grown("n0.nr_slab_unreclaimable", threads * 2),
    )
    measured = measured_pages(recording).sum(axis=2)
    for name in ("kernel_stacks", "slab_unreclaim"):
        assert np.abs(simulated(recording, name) - measured[:, CLASSES.index(name)]).max() <= 8, name


def test_mapped_files_have_page_tables_while_they_are_mapped(tmp_path: Path):
    """A file of 40 MiB is mapped for two seconds: its tables go with the mapping, its pages stay."""
    mapped = ramp((1, 0), (3, 10240), (5, 10240), (5.25, 0))
    recording = program(
        tmp_path, T_S, mapped=mapped, cached=ramp((5, 0), (5.25, 10240)), tables=-(-mapped // LEAF_SPAN_PAGES)
    )
    tables = simulated(recording, "page_tables")
    assert np.abs(tables - measured_pages(recording)[:, 0].sum(axis=1)).max() <= 3  # upper levels come with the first
    files = simulated(recording, "file")
    assert files[-1] - files[0] == 10240
    kept = region(read_requests(recording), "mapped files")
    assert kept.access_hz is not None
    assert kept.target[-1] == 10240 and kept.access_hz[-1] == 0 < kept.access_hz[T_S == 4]


def test_dropped_pages_are_asked_for_once_and_deleted_ones_no_more(tmp_path: Path):
    """8,000 pages are written, 3,000 of them dropped; then all are deleted."""
    cached = ramp((1, 0), (3, 8000), (4, 5000), (6, 5000), (6.25, 0))
    stolen = ramp((3, 0), (4, 3000))
    recording = program(tmp_path, T_S, cached=cached, vm__pgsteal_file=grown("vm.pgsteal_file", stolen))
    written = region(read_requests(recording), "files").target
    assert written.max() == written[T_S == 5] == 8000 and written[-1] == 0


def test_shared_memory_is_as_large_as_it_is_not_as_one_process_of_it(tmp_path: Path):
    """Twenty processes touch a twentieth of a segment of 10,000 pages each."""
    segment = ramp((1, 0), (4, 10000))
    recording = program(
        tmp_path,
        T_S,
        cached=segment,
        shmem_touched_pages=segment // 20,
        n0__nr_shmem=grown("n0.nr_shmem", segment),
        mi__Shmem=grown("mi.Shmem", segment, 4),
        mi__Mapped=grown("mi.Mapped", segment + 200, 4),
        file_rss_pages=np.full(len(T_S), 20 * 200),
        procs=np.full(len(T_S), 20),
    )
    assert region(read_requests(recording), "shmem").target.max() == 10000
    assert totals_of(recording).mapped.max() <= 200
    mib = {r["name"].split("-")[0]: r["mib"] for r in tomllib.loads(workload_toml(recording))["regions"]}
    assert mib["shmem"] == pytest.approx(10000 / PAGES_PER_MIB, rel=0.02)


def test_swapped_pages_are_asked_for(tmp_path: Path):
    """Of 12,000 pages of a process and 5,000 of shared memory, 4,000 and 1,000 are swapped."""
    anon, out = ramp((1, 0), (3, 12000)), ramp((4, 0), (6, 4000))
    shmem, shmem_out = ramp((1, 0), (2, 5000)), ramp((4, 0), (6, 1000))
    swap = np.full(len(T_S), 1 << 20)
    recording = program(
        tmp_path,
        T_S,
        anon=anon - out,
        anon_touched_pages=anon,
        cached=shmem - shmem_out,
        n0__nr_shmem=grown("n0.nr_shmem", shmem - shmem_out),
        mi__SwapTotal=swap,
        mi__SwapFree=swap - 4 * (out + shmem_out),
        mi__SwapCached=0 * swap,
    )
    totals = totals_of(recording)
    assert (totals.anon - totals.anon[0] == anon).all() and (totals.shmem - totals.shmem[0] == shmem).all()


def test_pages_that_processes_share_after_fork_count_once(tmp_path: Path):
    """Both have all 9,000 pages in their RSS, and the machine has them once."""
    pages = ramp((1, 0), (3, 9000))
    recording = program(tmp_path, T_S, anon=pages, anon_touched_pages=pages + ramp((4, 0), (4.25, 9000)))
    assert (region(read_requests(recording), "anon").target == pages).all()


def test_who_else_is_on_the_machine_is_not_the_program(tmp_path: Path):
    """The rest of the machine grows by 500 pages, and cannot be killed."""
    pages = ramp((1, 0), (3, 9000))
    recording = program(tmp_path, T_S, anon=pages + ramp((5, 0), (6, 500)), anon_touched_pages=pages)
    requests = read_requests(recording)
    assert region(requests, "anon").target.max() == 9000
    others = region(requests, "anon of others")
    assert others.target.max() == 500 and requests.processes[others.process]["oom_score_adj"] == -1000


@pytest.fixture
def killed(tmp_path: Path) -> Recording:
    """A process that has grown to 55,000 pages is killed at 4 s; another, of 5,000 pages, stays."""
    anon = ramp((0.5, 0), (1, 5000), (3.75, 60000), (4, 5000))
    return program(
        tmp_path,
        T_S,
        {"dmesg": ["Out of memory: Killed process 9 (x) total-vm:9kB, anon-rss:220000kB, file-rss:0kB, shmem-rss:0kB"]},
        anon=anon,
        vm__oom_kill=grown("vm.oom_kill", T_S >= 4),
    )


def test_touched_at_a_kill_is_what_the_victim_had_before(killed: Recording):
    requests = read_requests(killed)
    victim, rest = region(requests, "anon").target, region(requests, "anon of others").target
    before = int(np.flatnonzero(T_S >= 4)[0]) - 1
    assert victim[before] == pytest.approx(55000, abs=1) and rest[before] == pytest.approx(5000, abs=1)
    assert requests.touched()[before] == victim[before] + region(requests, "page tables").target[before]
    assert requests.killed == {"p0"}


def test_a_victim_would_have_gone_on(killed: Recording):
    """For two seconds, so that a model that kills later can: then the request is what was recorded."""
    victim = region(read_requests(killed), "anon").target
    assert victim[T_S == 5.75] > victim[T_S == 4] > victim[T_S == 3.75] > 50000
    assert victim[T_S == 6.25] < 5000


def test_the_node_where_pages_lie_is_never_an_input(tmp_path: Path):
    """The same totals, split otherwise after the first sample, ask for the same."""
    one = read_recording(PROGRAMS / "p_redis_fill_on")
    columns = {name: column.copy() for name, column in one.columns.items()}
    for name in [name for name in columns if name.startswith("n0.") and f"n1{name[2:]}" in columns]:
        fast, slow = columns[name], columns[f"n1{name[2:]}"]
        fast[1:], slow[1:] = slow[1:].copy(), fast[1:].copy()
    other = Recording(one.path, one.meta, MappingProxyType(columns), one.events)
    assert (measured_pages(one) != measured_pages(other)).any()
    first, second = read_requests(one), read_requests(other)
    for a, b in zip(first.regions, second.regions, strict=True):
        assert a.name == b.name and (a.target == b.target).all()
    assert (first.slab_unreclaim == second.slab_unreclaim).all() and (first.slab_pinned == second.slab_pinned).all()


@pytest.mark.parametrize("run", ["p_llama_on", "p_llama_mov", "p_llama_dem_mov", "p72_llama_ra128_mov"])
def test_one_file_is_one_file(run: str):
    """Read once or twice, dropped, demoted or read back on another node: a model of 876 MiB, and libraries."""
    recording = read_recording(PROGRAMS / run)
    totals = totals_of(recording)
    assert MODEL_MIB < (totals.files - totals.files[0]).max() / PAGES_PER_MIB < MODEL_MIB * 1.07
    mib = {"mapped": 0.0, "cache": 0.0}
    for made_region in tomllib.loads(workload_toml(recording))["regions"]:
        kind = made_region["name"].split("-")[0]
        mib[kind] = mib.get(kind, 0.0) + made_region["mib"]
    assert MODEL_MIB < mib["mapped"] < MODEL_MIB * 1.05 and mib["mapped"] + mib["cache"] < MODEL_MIB * 1.15


def test_a_recorded_kill_is_simulated_with_what_was_touched():
    recording = read_recording(PROGRAMS / "p_redis_fill_mov")
    rows = {row.name: row for row in event_rows(recording, replay(recording))}
    assert rows["OOM kill"].ok and rows["touched at the kill"].ok
    assert 90_000 < int(rows["touched at the kill"].measured) < 100_000


def test_a_run_without_phases_is_a_program_whoever_reports_it(tmp_path: Path):
    """`w.*` without a process tree and without commands of the lab."""
    pages = ramp((1, 0), (3, 9000))
    recording = made(
        tmp_path,
        {"t_s": T_S, "anon_touched_pages": pages, "n0.nr_anon_pages": grown("n0.nr_anon_pages", pages)},
    )
    assert is_program(recording)
    assert region(read_requests(recording), "anon").target.max() == 9000


def test_what_the_first_sample_holds_is_installed_whole(tmp_path: Path):
    """A machine that was in use: 2,000 pages of files on either node, and shared memory that only swap can hold."""
    two = np.full(len(T_S), 2000)
    recording = program(
        tmp_path,
        T_S,
        cached=two,
        n1__nr_file_pages=two,
        n1__nr_anon_pages=two // 2,
        n0__nr_shmem=two // 4,
        z1__Normal__free=grown("z1.Normal.free", -2 * two),
    )
    start, pages = first_sample(recording), replay(recording).pages[0]
    assert tuple(pages[CLASSES.index("file")]) == start.file and start.file[1] == 2000
    assert tuple(pages[CLASSES.index("anon")]) == start.anon
    kinds = {region.kind for region in read_requests(recording).regions if region.target[0] > 0}
    assert kinds == {"anon", "shmem", "cache"}


def test_no_folio_is_larger_than_its_file(tmp_path: Path):
    """Linux 7.2 reads 8 MiB ahead on the emulated disk: one file of 40 MiB comes in folios of 2 MiB, 500 small ones
    do not; and slab holds the nodes of either, as the model has them, beside the files themselves."""
    mapped = ramp((1, 0), (2, 10240))  # too few steps to see folios in
    new = {"kernel_release": "7.2.12", "accel": "qemu-tcg"}
    for files, folio in ((1, 512), (500, 16)):
        recording = program(tmp_path / str(files), T_S, new, mapped=mapped, files=ramp((1, 0), (3, files)))
        assert sections(recording)["kernel"]["file_folio_pages"] == folio
        requests = read_requests(recording)
        assert requests.slab_pinned[-1] == -10240 * node_bytes_per_page(folio) - requests.slab_reclaim[-1]
    old = program(tmp_path, T_S, mapped=mapped, files=ramp((1, 0), (3, 1)))
    assert sections(old)["kernel"]["file_folio_pages"] == 1


def test_buffer_heads_of_written_files_are_the_models_own(tmp_path: Path):
    """10,000 pages are written, then deleted: slab holds their nodes and buffer heads, and nothing besides was asked
    for. Files that were only read have none."""
    cached = ramp((1, 0), (3, 10000), (5, 10000), (6, 0))
    per_page = (XARRAY_BYTES_PER_PAGE + BUFFER_HEAD_BYTES) / PAGE_BYTES
    recording = program(
        tmp_path,
        T_S,
        cached=cached,
        vm__nr_dirtied=grown("vm.nr_dirtied", ramp((1, 0), (3, 10000))),
        n0__nr_slab_reclaimable=grown("n0.nr_slab_reclaimable", (cached * per_page).round().astype(np.int64)),
    )
    assert region(read_requests(recording), "files").written_share == 1
    measured = measured_pages(recording).sum(axis=2)[:, CLASSES.index("slab_reclaim")]
    assert measured.max() - measured[0] > 250
    assert np.abs(simulated(recording, "slab_reclaim") - measured).max() <= 8
    assert region(read_requests(program(tmp_path / "read", T_S, cached=cached)), "files").written_share == 0


def dropped_file(folder: Path, away: Array, stolen: Array) -> Recording:
    """A mapping of 40,000 pages, of which `away` are out of memory after `stolen` have been dropped."""
    seconds = np.arange(0, 80, 0.25)
    mapped = np.interp(seconds, (1, 10), (0, 40000)).round().astype(np.int64)
    there = mapped - away
    return program(
        folder,
        seconds,
        mapped=there,
        tables=-(-mapped // LEAF_SPAN_PAGES),
        vm__pgsteal_file=grown("vm.pgsteal_file", stolen),
        vm__workingset_refault_file=grown("vm.workingset_refault_file", stolen - away),
    )


def test_dropped_pages_that_stay_away_are_used_once(tmp_path: Path):
    """6,000 pages leave and never come back: nobody references them again. Others leave and come back all the time."""
    seconds = np.arange(0, 80, 0.25)
    away = np.interp(seconds, (12, 14), (0, 6000)).round().astype(np.int64)
    stays = read_requests(dropped_file(tmp_path / "stays", away, away))
    churn = away + np.interp(seconds, (14, 80), (0, 60000)).round().astype(np.int64)
    returns = read_requests(dropped_file(tmp_path / "returns", away, churn))
    once = region(stays, "mapped once")
    assert once.target.max() == pytest.approx(6000, rel=0.05) and once.access_hz is None
    assert region(stays, "mapped files").target.max() + once.target.max() == pytest.approx(40000, rel=0.01)
    assert region(returns, "mapped once").target.max() == 0


def test_who_was_not_killed_or_only_later_asks_on(killed: Recording):
    """The model kills a process that the kernel spared, or long before it did: its requests go on as recorded."""
    requests = read_requests(killed)
    record = {"process": np.zeros(2, [("down_s", np.float64)])}

    def down(step: int) -> bool:
        record["process"]["down_s"][1] = 3600
        _ask_on(record, requests, step)
        return bool(record["process"]["down_s"][1] > 1)

    assert not down(int(np.flatnonzero(T_S == 1.5)[0])) and down(int(np.flatnonzero(T_S == 3.5)[0]))
    requests.killed = frozenset()
    assert not down(int(np.flatnonzero(T_S == 3.5)[0]))


def test_folios_show_in_how_the_page_cache_grows(tmp_path: Path):
    """40 steps of about 50 folios of 64 pages each, and a stray page in every tenth; or pages that came one by one."""
    seconds = np.arange(0, 12, 0.25)
    steps = np.where((seconds > 1) & (seconds <= 11), 50 + np.arange(len(seconds)) % 7, 0)
    new = {"kernel_release": "7.2.12", "accel": "qemu-tcg"}
    for folio, unit in ((64, 64), (1, 63)):
        cached = np.cumsum(steps * unit + (np.arange(len(seconds)) % 10 == 0) * (steps > 0))
        recording = program(tmp_path / str(folio), seconds, new, cached=cached, files=cached // 5000)
        assert sections(recording)["kernel"]["file_folio_pages"] == folio


def test_files_that_are_read_again_and_again_without_a_mapping_are_in_use(tmp_path: Path):
    """30,000 pages are read, 3,000 of them are away at any time: each comes back after ten seconds, or never."""
    seconds = np.arange(0, 60, 0.25)
    away = np.interp(seconds, (10, 12), (0, 3000)).round().astype(np.int64)
    cached = np.interp(seconds, (1, 8), (0, 30000)).round().astype(np.int64) - away
    for folder, returns in (("pread", 300), ("once", 0)):
        stolen = away + (np.maximum(seconds - 12, 0) * returns).astype(np.int64)
        recording = program(
            tmp_path / folder,
            seconds,
            cached=cached,
            mapped=np.where(seconds > 0.5, 100, 0),
            vm__pgsteal_file=grown("vm.pgsteal_file", stolen),
            vm__workingset_refault_file=grown("vm.workingset_refault_file", stolen - away),
        )
        hz = region(read_requests(recording), "files").access_hz
        assert hz is not None and hz[0] == pytest.approx(returns / 3000, rel=0.1)


def test_a_heap_fills_up_the_tables_that_it_has(tmp_path: Path):
    """100 tables, six of them above the leaves, come with 20,000 pages, which become 50,000: the tables are those of
    the heap from the beginning, and none of them moves. Then the process ends."""
    anon = ramp((1, 0), (2, 20000), (4, 50000), (6, 50000), (6.25, 0))
    tables = ramp((1, 0), (2, 100), (6, 100), (6.25, 0))
    recording = program(tmp_path, T_S, anon=anon, tables=tables)
    requests = read_requests(recording)
    heap = region(requests, "anon").left
    assert heap is not None and heap[T_S == 2] == pytest.approx(20000 / 512 / 94, rel=0.03)
    measured = measured_pages(recording)[:, CLASSES.index("page_tables")].sum(axis=1)
    assert np.abs(simulated(recording, "page_tables") - measured).max() <= 4
    assert region(requests, "page tables").target[T_S == 2] <= 3


def test_what_the_disk_has_yet_to_write_is_as_recorded(tmp_path: Path):
    """30,000 pages are written, and a slow disk leaves 20,000 of them dirty: a node passes on what is over its limit;
    a fast one leaves none, and all stays in DRAM."""
    cached = ramp((1, 0), (5, 30000))
    for folder, dirty, spills in (("slow", ramp((1, 0), (4, 20000)), True), ("fast", 0 * cached, False)):
        recording = program(
            tmp_path / folder,
            T_S,
            cached=cached,
            n0__nr_dirty=grown("n0.nr_dirty", dirty),
            vm__nr_dirtied=grown("vm.nr_dirtied", cached),
        )
        slow = replay(recording).pages[:, CLASSES.index("file"), 1]
        assert (slow.max() > 3000) == spills and (slow.max() > 0) == spills


def test_counters_with_gaps_end_no_run(tmp_path: Path):
    """Samples without swap, reclaim and demotion counters, the last one among them."""
    hole = np.where(np.arange(len(T_S)) % 3 == 1, np.nan, 0.0)
    names = ("mi__SwapTotal", "vm__pgdemote_kswapd", "vm__pgdemote_direct", "vm__pswpout")
    recording = program(tmp_path, T_S, None, anon=ramp((1, 0), (3, 9000)), **dict.fromkeys(names, hole))
    assert np.isnan(recording.column("vm.pswpout")[-1])
    assert {row.name: row.measured for row in event_rows(recording, replay(recording))}["pages demoted"] == "0"


def test_kernel_pages_that_no_class_counts_are_asked_for(tmp_path: Path):
    """Sockets' buffers, 3,000 pages for two seconds; what is gone in the next sample was a counter that lagged."""
    free = ramp((1, 0), (2, 3000), (5, 3000), (6, 0))
    free[-4] = 30_000
    column = f"z0.{read_recording(EVIDENCE / 'fitted' / TEMPLATE).zones(0)[-1]}.free"
    requests = read_requests(program(tmp_path, T_S, None, **{column.replace(".", "__"): grown(column, -free)}))
    assert requests.buffers is not None
    assert requests.buffers[T_S == 3.5] == 3000
    assert requests.buffers[0] == requests.buffers[T_S >= 6.5].max() == 0


def test_what_a_program_frees_all_the_time_keeps_the_refills_of_its_lists_small(tmp_path: Path):
    """A burst does not, nor what reclaim frees (nr_pcp_alloc, free_frozen_page_commit)."""
    steady, burst = 200.0 * np.arange(len(T_S)), np.where(T_S >= 4, 5000.0, 0.0)
    both = {"vm__pgfree": grown("vm.pgfree", steady + 2 * burst), "vm__pgsteal_kswapd": burst}
    requests = read_requests(program(tmp_path, T_S, None, **both))
    assert requests.freed is not None
    np.testing.assert_allclose(np.diff(requests.freed), 200)
    alone = read_requests(program(tmp_path / "burst", T_S, vm__pgfree=grown("vm.pgfree", burst)))
    assert alone.freed is not None and alone.freed[-1] == 0
