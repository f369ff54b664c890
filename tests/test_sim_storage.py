"""What a page read back costs: by how it is read, from what, and who else uses the disk."""

import re
from typing import Any

import numpy as np
import pytest

from tests.builders import MOVABLE, Lab, scenario
from tests.places import ROOT
from tiergym.errors import UserError
from tiergym.sim import names as n
from tiergym.sim.storage import DRIVES, disk_read_us, page_write_us, wait_us
from tiergym.specs import load_scenario
from tiergym.specs.scenario import override

FILE: dict[str, Any] = {"kind": "file_ro", "mib": 500, "access_hz": 1000, "grow_s": 0}
STREAM = FILE | {"reads": "stream"}
AROUND = FILE | {"reads": "around"}
HEAP = FILE | {"kind": "anon"}
READ_ALONE: dict[str, Any] = {"workers": 1}
"""One reader who only reads: at 1,000 touches per page and second its own work hides nothing."""


def read(region: dict[str, Any], **storage: Any) -> np.void:
    """A machine with one region, whose first tick is over."""
    return Lab(scenario(regions=[region], **{"swap_mib": 1024} | READ_ALONE | storage)).ticks(1).m


@pytest.mark.parametrize(
    ("what", "region", "storage", "us_per_page", "tolerance"),
    [
        ("NVMe, random read at a queue depth of 1 [H-nvme]", FILE, {"disk": "nvme"}, 85, 0.02),
        ("NVMe, readahead of 32 pages: a random read, then bandwidth [H-nvme]",
         FILE | {"reads": "stream"}, {"disk": "nvme"}, (85 + 31 * 0.585) / 32, 0.05),
        ("NVMe, window of 2 MiB: bandwidth of the drive [H-nvme]",
         FILE | {"reads": "stream"}, {"disk": "nvme", "readahead_kib": 2048}, 0.585, 0.35),
        ("NVMe, read around what a mapping misses: a window of 32 pages [K-read-around]",
         AROUND, {"disk": "nvme"}, (85 + 31 * 0.585) / 32, 0.05),
        ("SATA, random read at a queue depth of 1 [H-sata]", FILE, {"disk": "sata"}, 83, 0.02),
        ("SATA, window of 2 MiB: bandwidth of the bus [H-sata]",
         FILE | {"reads": "stream"}, {"disk": "sata", "readahead_kib": 2048}, 7.3, 0.05),
        ("swap on NVMe, one page [H-nvme]", HEAP, {}, 85, 0.02),
        ("swap on NVMe, cluster of 2^3 pages [H-nvme]", HEAP | {"reads": "stream"}, {}, (85 + 7 * 0.585) / 8, 0.05),
        ("zswap with LZ4, load [H-compressors]", HEAP, {"swap": "zswap_lz4"}, 4096 / 3220, 0.05),
        ("zswap with Zstandard, load [H-compressors]", HEAP, {"swap": "zswap_zstd"}, 4096 / 930, 0.05),
    ],
)  # fmt: skip
def test_a_page_read_back_costs_one_reader_what_data_sheets_say(
    what: str, region: dict[str, Any], storage: dict[str, Any], us_per_page: float, tolerance: float
) -> None:
    assert wait_us(read(region, **storage), 0) == pytest.approx(us_per_page, rel=tolerance), what


@pytest.mark.parametrize("disk", DRIVES)
def test_a_page_takes_the_disk_s_time_by_bandwidth_or_by_number_of_reads(disk: str) -> None:
    drive = DRIVES[disk]
    stream, random = read(FILE | {"reads": "stream"}, disk=disk), read(FILE, disk=disk)
    assert 1e6 / disk_read_us(stream, 0, 1000) * 1000 * 4096 == pytest.approx(drive.read_mb_per_s * 1e6, rel=0.01)
    least_us = 1000 * max(1e6 / drive.reads_per_s, 4096 / drive.read_mb_per_s)
    assert disk_read_us(random, 0, 1000) == pytest.approx(least_us)


def test_a_stream_s_readers_do_not_wait_for_what_their_own_work_hides() -> None:
    """page_cache_async_ra: the next window is on its way while they work on the one before."""
    slow = FILE | {"reads": "stream", "access_hz": 1}  # 128,000 pages a second by one worker: 7.8 us each
    assert wait_us(read(slow), 0) == 0.0
    assert wait_us(read(FILE | {"access_hz": 1}), 0) == 85.0  # no readahead, nothing to hide
    sata = wait_us(read(slow, disk="sata"), 0)
    assert sata == pytest.approx((83 + 31 * 4096 / 560) / 32 - 1e6 / 128_000)


def test_nothing_hides_what_is_read_around_a_miss() -> None:
    """do_sync_mmap_readahead: nobody has asked for the window before somebody misses a page of it [K-read-around]."""
    slow = read(AROUND | {"access_hz": 1})
    assert wait_us(slow, 0) == wait_us(read(AROUND), 0) > wait_us(read(STREAM | {"access_hz": 1}), 0)


PRICES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "NVMe, random read": (FILE, {}),
    "NVMe, file read in order, readahead 128 KiB": (STREAM, {}),
    "NVMe, mapped file read around what is missed": (AROUND, {}),
    "NVMe, the same, readahead 2 MiB": (STREAM, {"readahead_kib": 2048}),
    "SATA, random read": (FILE, {"disk": "sata"}),
    "SATA, file read in order, readahead 2 MiB": (STREAM, {"disk": "sata", "readahead_kib": 2048}),
    "swap on NVMe, one page": (HEAP, {}),
    "swap on NVMe, `page_cluster` 3, swept": (HEAP | {"reads": "stream"}, {}),
    "zswap, LZ4, load": (HEAP, {"swap": "zswap_lz4"}),
    "zswap, Zstandard, load": (HEAP, {"swap": "zswap_zstd"}),
}
"""Rows of the table of docs/model.md."""


def test_the_page_of_the_model_shows_the_prices_that_it_charges() -> None:
    page = (ROOT / "docs/model.md").read_text()
    rows = re.findall(r"(?m)^\| ((?:NVMe|SATA|swap|zswap|writing)[^|]*) \| ([\d.]+) \|", page)
    shown = {what: float(us) for what, us in rows}
    assert shown.pop("writing a dirty page, NVMe") == pytest.approx(page_write_us(read(FILE)), rel=0.02)
    assert shown.keys() == PRICES.keys()
    for what, (region, storage) in PRICES.items():
        assert shown[what] == pytest.approx(wait_us(read(region, **storage), 0), rel=0.02), what


def thrash(**changes: Any) -> Lab:
    """A file larger than memory, read all the time by 8 workers."""
    cache = {"kind": "cache", "mib": 3000, "access_hz": 1, "grow_s": 1, **changes.pop("region", {})}
    return Lab(scenario(regions=[cache], slow_mib=1024, workers=8, **changes), modes=MOVABLE).ticks(16)


def refaults_per_s(lab: Lab, ticks: int = 8) -> float:
    pages = 0
    for _ in range(ticks):
        pages += int(lab.ticks(1).machines.counters[0, n.C_FILE_REFAULT])
    return pages / (ticks * 0.25)


@pytest.mark.parametrize("reads", n.READS)
def test_together_they_get_no_more_than_the_disk_gives(reads: str) -> None:
    region = {"reads": reads, "kind": "file_ro" if reads == "around" else "cache"}
    free = refaults_per_s(thrash(disk_latency_us=1, disk_read_mb_per_s=1e6, disk_reads_per_s=1e9, region=region))
    limited = refaults_per_s(thrash(disk_latency_us=1, disk_read_mb_per_s=100, disk_reads_per_s=1e4, region=region))
    most = 1e4 if reads == "random" else 100e6 / 4096
    assert limited == pytest.approx(most, rel=0.01)
    assert free > 2 * limited


def test_who_does_not_get_its_pages_from_the_disk_waits_for_them() -> None:
    idle = thrash(disk_latency_us=1, disk_read_mb_per_s=1e6, disk_reads_per_s=1e9)
    busy = thrash(disk_latency_us=1, disk_read_mb_per_s=20, disk_reads_per_s=1e9)
    lost = [
        float(lab.machines.lost[0, n.LOST_REFAULT] + lab.machines.lost[0, n.LOST_PREMATURE_RECLAIM])
        for lab in (idle, busy)
    ]
    assert lost[1] > 0.9 > 0.2 > lost[0]


def test_no_more_reads_come_than_workers_can_wait_for() -> None:
    """filemap_fault: each has one read at a time."""
    assert refaults_per_s(thrash(disk_latency_us=1000, disk_read_mb_per_s=1e6)) <= 8 * 1000


@pytest.mark.parametrize("reads_per_s", [4000, 6000, 1e9])
def test_readers_pay_no_more_time_than_they_have(reads_per_s: float) -> None:
    """8 workers who wait 1 ms for each read can ask for 8,000 a second: a slower disk costs them the rest of the tick,
    and not what they could not have asked for."""
    lab = thrash(disk_latency_us=1000, disk_read_mb_per_s=1e6, disk_reads_per_s=reads_per_s)
    causes = [n.LOST_REFAULT, n.LOST_PREMATURE_RECLAIM]
    before = lab.m["owed_s"][causes].sum()
    lab.ticks(1)
    charged_s = lab.m["owed_s"][causes].sum() - before + lab.machines.lost[0, causes].sum() * 8 * 0.25
    assert 0.9 * 8 * 0.25 <= charged_s <= 1.02 * 8 * 0.25


def test_compressing_slows_kswapd_down() -> None:
    """zswap_store runs in the reclaimer: the longer it takes, the fewer pages kswapd frees beside a growing heap."""

    def kswapd_pages(store_us: float) -> int:
        zswap: dict[str, Any] = {"swap": "zswap_lz4", "swap_ratio": 64, "swap_store_us": store_us}
        hog = {"kind": "anon", "mib": 1500, "access_hz": 0.01, "grow_s": 2}
        return Lab(scenario(regions=[hog], slow_mib=0, swap_mib=2048, **zswap)).ticks(8).total("pgsteal_kswapd_fast")

    assert kswapd_pages(100) < 0.5 * kswapd_pages(1)


def test_writes_take_the_disk_from_reads() -> None:
    """Reclaimed dirty pages, and what is swapped, are written to the same disk."""

    def shared(**region: Any) -> float:
        return refaults_per_s(thrash(disk_latency_us=1, disk_read_mb_per_s=100, disk_write_mb_per_s=100,
                                     disk_reads_per_s=1e9, region=region))  # fmt: skip

    assert shared(dirty_share=0.5) < 0.8 * shared()


def swapping(**changes: Any) -> Lab:
    hog = {"kind": "anon", "mib": 1500, "access_hz": 0.01, "grow_s": 2}
    return Lab(scenario(regions=[hog], slow_mib=0, swap_mib=2048, **changes)).ticks(12)


def test_zswap_keeps_what_it_compresses_in_memory() -> None:
    plain, packed = swapping(), swapping(swap="zswap_lz4")
    slots = int(2048 * 256 - packed.m["swap_free_pages"])
    pool = int(packed.m["used_pages"][n.KERNEL_OTHER].sum() - plain.m["used_pages"][n.KERNEL_OTHER].sum())
    assert pool == pytest.approx(slots / 2.1, rel=0.02)
    assert slots > 1.5 * (2048 * 256 - int(plain.m["swap_free_pages"]))  # part of what it frees, it takes


def test_compressing_is_paid_by_who_reclaims_and_takes_no_disk() -> None:
    def lost(**changes: Any) -> float:
        return float(swapping(**changes).lost_s[..., [n.LOST_OTHER_RECLAIM, n.LOST_PREMATURE_RECLAIM]].sum())

    assert lost(swap="zswap_zstd", swap_ratio=64) > lost(swap="zswap_zstd", swap_ratio=64, swap_store_us=0.01)
    assert swapping(swap="zswap_zstd").m["disk_busy_us"] == 0.0


def test_a_disk_that_writes_slower_than_kswapd_reclaims_holds_it_up() -> None:
    assert swapping(disk="nvme").m["swap_out_us"] == 0.0
    assert swapping(disk="sata").m["swap_out_us"] == pytest.approx(4096 / 530)


def test_a_field_beside_a_preset_is_kept() -> None:
    m = read(FILE, disk="sata", disk_latency_us=40)
    assert (m["disk_latency_us"], m["disk_read_mb_per_s"]) == (40.0, DRIVES["sata"].read_mb_per_s)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"storage.swap": "zswap_lz4"}, ["storage.swap", "zswap_lz4", "kernel.swap_mib = 0", '"disk"']),
        (
            {"storage.swap": "zswap_lz4", "kernel.swap_mib": 64, "storage.swap_ratio": 0.5},
            ["storage.swap_ratio", "from 1"],
        ),
        ({"storage.disk": "floppy"}, ["storage.disk", "floppy", "nvme"]),
        (
            {"workload.region.weights.kind": "cache", "workload.region.weights.reads": "around"},
            ["weights.reads", "around", '"cache"', '"file_ro"'],
        ),
        ({"workload.region.weights.reads": "backwards"}, ["weights.reads", "backwards", "stream"]),
    ],
)
def test_storage_that_cannot_be_is_refused_by_name(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        override(load_scenario("llama-1to2"), changes)
    assert all(word in str(error.value) for word in words)
