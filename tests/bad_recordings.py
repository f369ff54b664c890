"""A real recording to spoil, the edits that do, and every kind of bad input with what is said about it."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

from tests.places import FITTED

RUN = "e_phases_on"


def unpacked_copy(folder: Path, of: Path = FITTED / RUN) -> Path:
    """A copy of a real recording in `folder`, its samples unpacked."""
    run = folder / of.name
    copytree(of, run)
    packed = run / "samples.csv.gz"
    (run / "samples.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    return run


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
    "a page of no bytes": (
        lambda run: edit_meta(run, page_size=0),
        r"field 'page_size' is 0; expected a number from 512",
    ),
    "a machine without CPUs": (lambda run: edit_meta(run, smp=0), r"field 'smp' is 0; expected a number from 1"),
    "a count below 0": (
        lambda run: set_cell(run / "samples.csv", 5, "n0.nr_free_pages", "-1"),
        r"samples\.csv: line 5, column 'n0\.nr_free_pages': -1; expected a count from 0",
    ),
    "a clock that stands still": (
        lambda run: edit_lines(run / "samples.csv", lambda lines: [*lines[:7], lines[6], *lines[7:]]),
        r"samples\.csv: line 8, column 't_s': 1\.\d+ after 1\.\d+; time must increase",
    ),
    "no whole number of CPUs": (lambda run: edit_meta(run, smp=2.5), r"field 'smp' is 2\.5; expected a whole number"),
    "a report that is a number": (
        lambda run: edit_meta(run, guest_report=5),
        r"field 'guest_report' is 5; expected a list of texts",
    ),
    "a log without lines": (
        lambda run: edit_meta(run, dmesg=[1, 2]),
        r"field 'dmesg' is \[1, 2\]; expected a list of texts",
    ),
    "a log that is null": (lambda run: edit_meta(run, dmesg=None), r"field 'dmesg' is None; expected a list of texts"),
    "modules that are no number": (
        lambda run: edit_meta(run, cxl_dimms="x"),
        r"field 'cxl_dimms' is 'x'; expected a whole number",
    ),
    "a readahead below 0": (
        lambda run: edit_meta(run, read_ahead_kib=-1),
        r"field 'read_ahead_kib' is -1; expected a number from 0",
    ),
    "a command line that is a number": (
        lambda run: edit_meta(run, kernel_cmdline=5),
        r"field 'kernel_cmdline' is 5; expected text",
    ),
    "a release of many digits": (
        lambda run: edit_meta(run, kernel_release="9" * 5000 + ".1"),
        r"field 'kernel_release' is '9+\.\.\.; expected at most 64 characters",
    ),
    "a release that a terminal would obey": (
        lambda run: edit_meta(run, kernel_release="6.12\x1b[2J"),
        r"field 'kernel_release' is '6\.12\\x1b\[2J'; expected at most 64 characters, all printable",
    ),
    "a clock of no machine": (
        lambda run: set_cell(run / "samples.csv", 2, "t_s", "-1e300"),
        r"samples\.csv: line 2, column 't_s': -1e\+300; expected seconds from -1e\+10 to 1e\+10",
    ),
    "an event of no machine's clock": (
        lambda run: set_cell(run / "workload.csv", 2, "t_s", "-1e300"),
        r"workload\.csv: line 2, column 't_s': -1e\+300; expected seconds from -1e\+10 to 1e\+10",
    ),
    "a count of no machine": (
        lambda run: set_cell(run / "samples.csv", 5, "n0.nr_free_pages", "1e300"),
        r"samples\.csv: line 5, column 'n0\.nr_free_pages': 1e\+300; expected a count from 0 to 9007199254740992",
    ),
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
    "a number that only Python reads": (
        lambda run: set_cell(run / "samples.csv", 5, "n0.nr_free_pages", "1_000"),
        r"samples\.csv: line 5, column 'n0\.nr_free_pages': '1_000' is not a number",
    ),
    "digits of another script": (
        lambda run: set_cell(run / "samples.csv", 5, "n0.nr_free_pages", "\u0663"),
        r"samples\.csv: line 5, column 'n0\.nr_free_pages': '\u0663' is not a number",
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
"""By name: how the folder is spoiled, and a pattern of the message."""
