"""The format of recordings: what is read, what is written, and what every kind of bad input is told."""

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from tests.bad_recordings import BAD, RUN, edit_lines, edit_meta, set_cell
from tests.places import EVIDENCE, FITTED
from tiergym.errors import UserError
from tiergym.recordings.format import Event, list_recordings, read_recording, write_recording


def test_a_real_recording_reads_as_columns_constants_events_and_zones(unpacked: Path):
    recording = read_recording(unpacked)
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


def test_gzipped_samples_are_the_same(unpacked: Path):
    plain, packed = read_recording(unpacked), read_recording(FITTED / RUN)
    assert plain.columns.keys() == packed.columns.keys() and plain.events == packed.events
    assert all((plain.columns[name] == packed.columns[name]).all() for name in plain.columns)


def test_what_is_written_is_read_again(unpacked: Path, tmp_path: Path):
    old = read_recording(unpacked)
    columns = dict(old.columns) | {"psi.memory.some_us": np.where(old.t_s < 5, np.nan, 2.5)}
    write_recording(tmp_path / "new" / "copy", old.meta, columns, old.events)
    new = read_recording(tmp_path / "new" / "copy")
    assert new.columns.keys() == columns.keys() and new.events == old.events
    for name, column in columns.items():
        assert new.columns[name].dtype == column.dtype
        np.testing.assert_array_equal(new.columns[name], column)
    assert {**new.meta, "constant_values": 0} == {**old.meta, "constant_values": 0}
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["copy"]


def test_writing_never_replaces_a_recording(unpacked: Path):
    recording = read_recording(unpacked)
    with pytest.raises(UserError, match="cannot write the recording"):
        write_recording(unpacked, recording.meta, recording.columns, recording.events)
    assert len(list(unpacked.parent.iterdir())) == 1


def test_a_machine_with_one_node_reads(unpacked: Path):
    edit_lines(
        unpacked / "samples.csv", lambda lines: [lines[0].replace(",n1.", ",x.").replace(",z1.", ",y."), *lines[1:]]
    )
    constant = json.loads((unpacked / "meta.json").read_text())["constant_values"]
    kept = {name: value for name, value in constant.items() if not name.startswith(("n1.", "z1."))}
    edit_meta(unpacked, constant_values=kept, cxl_mib=0)
    recording = read_recording(unpacked)
    assert recording.nodes == (0,) and recording.zones(1) == ()


def test_runs_of_a_folder_by_name_and_a_run_as_its_own_folder(unpacked: Path):
    (unpacked.parent / "notes.txt").write_text("not a run")
    (unpacked.parent / ".half").mkdir()
    copytree(unpacked, unpacked.parent / "another")
    assert [path.name for path in list_recordings(unpacked.parent)] == ["another", RUN]
    assert list_recordings(unpacked) == [unpacked]


@pytest.mark.parametrize(("make", "message"), [(True, "no recording in it"), (False, "not a folder")])
def test_a_folder_without_recordings(tmp_path: Path, make: bool, message: str):
    folder = tmp_path / "none"
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match=f"none: {message}"):
        list_recordings(folder)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_by_file_and_column_or_line(unpacked: Path, name: str):
    spoil, message = BAD[name]
    spoil(unpacked)
    with pytest.raises(UserError, match=message) as raised:
        read_recording(unpacked)
    assert str(unpacked) in str(raised.value)


def test_two_processes_may_report_at_once_in_either_order(unpacked: Path):
    lines = (unpacked / "workload.csv").read_bytes().decode().split("\r\n")
    lines[2], lines[1] = lines[1], lines[2]  # 46 ms apart
    (unpacked / "workload.csv").write_bytes("\r\n".join(lines).encode())
    assert [event.event for event in read_recording(unpacked).events][:2] == ["phase:start", "phase:grow"]


def test_a_zone_that_comes_later_has_blanks_before(unpacked: Path):
    set_cell(unpacked / "samples.csv", 2, "z1.Normal.pcp_count", "")
    recording = read_recording(unpacked)
    assert np.isnan(recording.columns["z1.Normal.pcp_count"]).tolist()[:2] == [True, False]


@pytest.mark.parametrize(("folder", "count"), [("later", 23), ("unseen", 8)])
def test_the_new_recordings_are_in_order(folder: str, count: int):
    runs = list_recordings(EVIDENCE / folder)
    assert len(runs) == count
    for path in runs:
        recording = read_recording(path)
        assert recording.nodes == (0, 1) and recording.meta["completed"]
        if path.name.partition("__")[0].endswith("_mov"):
            assert int(recording.columns["n1.nr_page_table_pages"].max()) == 0  # [F-movable-clean]
            assert int(recording.columns["n1.nr_kernel_stack"].max()) == 0
