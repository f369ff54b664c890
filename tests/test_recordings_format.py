"""The format of recordings: what is read, what is written, and what every kind of bad input is told."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from tiergym.errors import UserError
from tiergym.recordings.format import Event, list_recordings, read_recording, write_recording

RECORDINGS = Path(__file__).parents[1] / "experiments" / "evidence" / "fitted"
RUN = "e_phases_on"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of a real recording, its samples unpacked so that a test can spoil them."""
    folder = tmp_path / RUN
    copytree(RECORDINGS / RUN, folder)
    packed = folder / "samples.csv.gz"
    (folder / "samples.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    return folder


def edit_meta(run: Path, **changes: object) -> None:
    path = run / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_bytes().decode().splitlines(keepends=True)
    path.write_bytes("".join(change(lines)).encode())


def set_cell(path: Path, line: int, column: str, value: str) -> None:
    """Write one field of a CSV file without quoted fields; `line` counts from 1, the header."""
    lines = path.read_bytes().decode().split("\r\n")
    cells = lines[line - 1].split(",")
    cells[lines[0].split(",").index(column)] = value
    lines[line - 1] = ",".join(cells)
    path.write_bytes("\r\n".join(lines).encode())


def rename_columns(run: Path, old: str, new: str) -> None:
    """As a kernel would that names its counters differently."""
    edit_lines(run / "samples.csv", lambda lines: [lines[0].replace(old, new), *lines[1:]])
    constant = json.loads((run / "meta.json").read_text())["constant_values"]
    edit_meta(run, constant_values={name.replace(old, new): value for name, value in constant.items()})


def test_a_real_recording_reads_as_columns_constants_events_and_zones(run: Path):
    recording = read_recording(run)
    assert (recording.name, recording.nodes) == (RUN, (0, 1))
    assert (recording.zones(0), recording.zones(1)) == (("DMA", "DMA32"), ("Normal",))
    samples = len(recording.t_s)
    assert samples == recording.meta["n_samples"] and (np.diff(recording.t_s) > 0).all()
    assert all(column.shape == (samples,) and not column.flags.writeable for column in recording.columns.values())
    assert {column.dtype for column in recording.columns.values()} == {np.dtype(np.int64), np.dtype(np.float64)}
    assert (recording.columns["n0.nr_page_table_pages"] >= 0).all()
    assert (recording.columns["z1.Normal.prot0"] == 0).all()  # a constant value
    assert (recording.column("vm.of_no_kernel") == 0).all()
    assert recording.events[0] == Event(0.985, "phase:start", "")
    assert recording.events[1].detail == "name=A pages=86894 pol=none node=0 pid=284"


def test_gzipped_samples_are_the_same(run: Path):
    plain, packed = read_recording(run), read_recording(RECORDINGS / RUN)
    assert plain.columns.keys() == packed.columns.keys() and plain.events == packed.events
    assert all((plain.columns[name] == packed.columns[name]).all() for name in plain.columns)


def test_what_is_written_is_read_again(run: Path, tmp_path: Path):
    old = read_recording(run)
    columns = dict(old.columns) | {"psi.memory.some_us": np.where(old.t_s < 5, np.nan, 2.5)}
    write_recording(tmp_path / "new" / "copy", old.meta, columns, old.events)
    new = read_recording(tmp_path / "new" / "copy")
    assert new.columns.keys() == columns.keys() and new.events == old.events
    for name, column in columns.items():
        assert new.columns[name].dtype == column.dtype
        np.testing.assert_array_equal(new.columns[name], column)
    assert {**new.meta, "constant_values": 0} == {**old.meta, "constant_values": 0}
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["copy"]


def test_writing_never_replaces_a_recording(run: Path):
    recording = read_recording(run)
    with pytest.raises(UserError, match="cannot write the recording"):
        write_recording(run, recording.meta, recording.columns, recording.events)
    assert len(list(run.parent.iterdir())) == 1


def test_a_machine_with_one_node_reads(run: Path):
    edit_lines(run / "samples.csv", lambda lines: [lines[0].replace(",n1.", ",x.").replace(",z1.", ",y."), *lines[1:]])
    constant = json.loads((run / "meta.json").read_text())["constant_values"]
    kept = {name: value for name, value in constant.items() if not name.startswith(("n1.", "z1."))}
    edit_meta(run, constant_values=kept, cxl_mib=0)
    recording = read_recording(run)
    assert recording.nodes == (0,) and recording.zones(1) == ()


def test_runs_of_a_folder_by_name_and_a_run_as_its_own_folder(run: Path):
    (run.parent / "notes.txt").write_text("not a run")
    (run.parent / ".half").mkdir()
    copytree(run, run.parent / "another")
    assert [path.name for path in list_recordings(run.parent)] == ["another", RUN]
    assert list_recordings(run) == [run]


@pytest.mark.parametrize(("make", "message"), [(True, "no recording in it"), (False, "not a folder")])
def test_a_folder_without_recordings(tmp_path: Path, make: bool, message: str):
    folder = tmp_path / "none"
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match=f"none: {message}"):
        list_recordings(folder)


def spoil_gzip(run: Path) -> None:
    data = gzip.compress((run / "samples.csv").read_bytes())
    (run / "samples.csv").unlink()
    (run / "samples.csv.gz").write_bytes(data[: len(data) // 2])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no meta": (lambda run: (run / "meta.json").unlink(), r"meta\.json: No such file"),
    "bad JSON": (lambda run: (run / "meta.json").write_text('{"run": '), r"meta\.json: not valid JSON"),
    "JSON of another kind": (lambda run: (run / "meta.json").write_text("[]"), r"meta\.json: expected an object"),
    "meta without a field": (
        lambda run: (run / "meta.json").write_text('{"run": "x"}'),
        r"meta\.json: field 'kernel_release' is missing",
    ),
    "a size that is none": (
        lambda run: edit_meta(run, dram_mib="big"),
        r"field 'dram_mib' is 'big'; expected a number",
    ),
    "a negative size": (lambda run: edit_meta(run, cxl_mib=-1), r"field 'cxl_mib' is -1; expected a number from 0"),
    "a size beyond all numbers": (lambda run: edit_meta(run, cxl_mib=10**400), r"field 'cxl_mib' is 10+; expected"),
    "a page that has no size": (
        lambda run: edit_meta(run, page_size="4k"),
        r"field 'page_size' is '4k'; expected a whole number",
    ),
    "no whole number of CPUs": (lambda run: edit_meta(run, smp=2.5), r"field 'smp' is 2\.5; expected a whole number"),
    "constants that are a list": (
        lambda run: edit_meta(run, constant_values=[1]),
        r"field 'constant_values' is \[1\]; expected an object",
    ),
    "a constant that is none": (
        lambda run: edit_meta(run, constant_values={"n0.nr_x": "many"}),
        r"constant_values, column 'n0\.nr_x': 'many' is not a number",
    ),
    "no samples": (lambda run: (run / "samples.csv").unlink(), r"neither samples\.csv nor samples\.csv\.gz"),
    "no events": (lambda run: (run / "workload.csv").unlink(), r"workload\.csv: No such file"),
    "empty samples": (lambda run: (run / "samples.csv").write_text(""), r"samples\.csv: empty"),
    "only a header": (
        lambda run: edit_lines(run / "samples.csv", lambda lines: lines[:1]),
        r"samples\.csv: no samples",
    ),
    "a short row": (
        lambda run: edit_lines(run / "samples.csv", lambda lines: [*lines[:7], lines[7].rsplit(",", 3)[0] + "\r\n"]),
        r"samples\.csv: line 8 has \d+ fields, the header has \d+; is the file truncated\?",
    ),
    "half a row": (
        lambda run: edit_lines(run / "samples.csv", lambda lines: [*lines[:7], lines[7][:40]]),
        r"samples\.csv: truncated: line 8 does not end in a newline",
    ),
    "rows missing": (
        lambda run: edit_lines(run / "samples.csv", lambda lines: lines[:-20]),
        r"samples\.csv: truncated: \d+ samples, n_samples of meta\.json says \d+",
    ),
    "half a gzip": (spoil_gzip, r"samples\.csv\.gz: truncated or damaged gzip"),
    "no gzip at all": (
        lambda run: (run / "samples.csv").rename(run / "samples.csv.gz"),
        r"samples\.csv\.gz: truncated or damaged gzip",
    ),
    "not a number": (
        lambda run: set_cell(run / "samples.csv", 5, "n0.nr_free_pages", "lots"),
        r"samples\.csv: line 5, column 'n0\.nr_free_pages': 'lots' is not a number",
    ),
    "not finite": (
        lambda run: set_cell(run / "samples.csv", 5, "n0.nr_free_pages", "inf"),
        r"samples\.csv: line 5, column 'n0\.nr_free_pages': 'inf' is not a number",
    ),
    "a blank where a number must be": (
        lambda run: set_cell(run / "samples.csv", 5, "n1.nr_free_pages", ""),
        r"samples\.csv: line 5, column 'n1\.nr_free_pages': no value",
    ),
    "a clock that goes backwards": (
        lambda run: set_cell(run / "samples.csv", 9, "t_s", "0.100"),
        r"samples\.csv: line 9, column 't_s': 0\.1 after 1\.\d+; time must increase",
    ),
    "events that go backwards": (
        lambda run: set_cell(run / "workload.csv", 6, "t_s", "0.5"),
        r"workload\.csv: line 6, column 't_s': 0\.5 after 5\.89; time must not go backwards",
    ),
    "an event without a time": (
        lambda run: set_cell(run / "workload.csv", 6, "t_s", ""),
        r"workload\.csv: line 6, column 't_s': no time",
    ),
    "events of another form": (
        lambda run: edit_lines(run / "workload.csv", lambda lines: ["time,what,detail\r\n", *lines[1:]]),
        r"workload\.csv: line 1: columns time,what,detail; expected t_s,event,detail",
    ),
    "a column missing": (
        lambda run: rename_columns(run, "n0.nr_page_table_pages", "n0.unknown"),
        r"samples\.csv: column 'n0\.nr_page_table_pages' is missing",
    ),
    "no clock": (
        lambda run: edit_lines(run / "samples.csv", lambda lines: [lines[0].replace("t_s", "time"), *lines[1:]]),
        r"samples\.csv: column 't_s' is missing",
    ),
    "a column twice": (
        lambda run: edit_lines(
            run / "samples.csv", lambda lines: [lines[0].replace("w.anon_touched_pages", "t_s"), *lines[1:]]
        ),
        r"samples\.csv: line 1: column 't_s' occurs twice",
    ),
    "another kernel's names": (
        lambda run: rename_columns(run, ".nr_", ".count_"),
        r"column 'n0\.nr_free_pages' is missing \(there is '.*'\); neither here nor in constant_values .*"
        r"n0\.nr_anon_pages, .*Does this kernel name its counters differently\?",
    ),
    "zones of another form": (
        lambda run: rename_columns(run, "managed", "pages_managed"),
        r"no column 'z0\.<zone>\.managed' above 0",
    ),
    "not text": (
        lambda run: (run / "samples.csv").write_bytes(b"t_s,a\n1,\xff\n"),
        r"samples\.csv: line 2: not UTF-8 text",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_by_file_and_column_or_line(run: Path, name: str):
    spoil, message = BAD[name]
    spoil(run)
    with pytest.raises(UserError, match=message) as raised:
        read_recording(run)
    assert str(run) in str(raised.value)


def test_two_processes_may_report_at_once_in_either_order(run: Path):
    lines = (run / "workload.csv").read_bytes().decode().split("\r\n")
    lines[2], lines[1] = lines[1], lines[2]  # 46 ms apart
    (run / "workload.csv").write_bytes("\r\n".join(lines).encode())
    assert [event.event for event in read_recording(run).events][:2] == ["phase:start", "phase:grow"]


def test_a_zone_that_comes_later_has_blanks_before(run: Path):
    set_cell(run / "samples.csv", 2, "z1.Normal.pcp_count", "")
    recording = read_recording(run)
    assert np.isnan(recording.columns["z1.Normal.pcp_count"]).tolist()[:2] == [True, False]


@pytest.mark.parametrize(("folder", "count"), [("later", 23), ("unseen", 8)])
def test_the_new_recordings_are_in_order(folder: str, count: int):
    runs = list_recordings(Path(__file__).parents[1] / "experiments" / "evidence" / folder)
    assert len(runs) == count
    for path in runs:
        recording = read_recording(path)
        assert recording.nodes == (0, 1) and recording.meta["completed"]
        if path.name.partition("__")[0].endswith("_mov"):
            assert int(recording.columns["n1.nr_page_table_pages"].max()) == 0  # [F-movable-clean]
            assert int(recording.columns["n1.nr_kernel_stack"].max()) == 0
