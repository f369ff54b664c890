"""What must hold between the fields of a scenario before it may run: each check names the fields it is about.

Where a field is a distribution, its most demanding value counts: every machine that can be drawn must be
possible.
"""

from collections.abc import Iterable

from tiergym.errors import UserError
from tiergym.sim import names as n
from tiergym.sim.cost import KERNEL_WRITE_SHARE
from tiergym.sim.layout import BLOCK_SIZES
from tiergym.sim.units import KIB_PER_MIB, LINE_BYTES, PAGE_KIB, PAGEBLOCK_PAGES, PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE
from tiergym.sim.watermarks import LEAST_MIN_FREE_KIB, MOST_MIN_FREE_KIB, PAGEBLOCKS_PER_ZONE
from tiergym.specs.distributions import highest, lowest, support
from tiergym.specs.reading import Table, may_be_setting
from tiergym.specs.table import Rows, entry_rows, section_rows

MAX_STALL_SHARE = 0.95
"""Of the time of full-speed work on unloaded DRAM; the rest must be left to compute with."""
MAX_BANDWIDTH_SHARE = 3.0
"""Of DRAM's peak. Full speed is what unloaded latency allows, so work that DRAM's bandwidth bounds asks for more than
all of it (lbm, STREAM: up to twice); more than this is a mistake in the units."""
MAX_TICKS = 1_000_000
"""Of an episode: three days at the default length of a tick."""
MAX_BLOCKS = max(BLOCK_SIZES)
KERNEL_ZONES = n.N_ZONES - n.N_TIERS
"""All but each tier's MOVABLE."""


def check(sections: Table, file: str) -> None:
    """Raise `UserError` if some machine that the scenario can draw is impossible, before or after its events."""
    scalars = section_rows(sections)
    entries = entry_rows(sections)
    kernel = with_events(scalars["kernel"], sections["events"], entries["events"])
    check_time(scalars["episode"], file)
    check_zones(scalars["machine"], file)
    check_blocks(scalars["machine"], file)
    check_latencies(scalars["machine"], file)
    check_watermarks(scalars["machine"], kernel, file)
    check_storage(scalars["storage"], kernel, file)
    check_reads(sections, entries["regions"], file)
    check_mempolicies(sections, entries["regions"], scalars["machine"], file)
    check_events(entries["events"], scalars["machine"], file)
    names = [region["name"] for region in sections["regions"]]
    check_demand(names, entries["regions"], scalars["machine"], scalars["workload"], file)


def with_events(kernel: Rows, events: list[Table], rows: list[Rows]) -> Rows:
    """[kernel] with each field at the most demanding value that it starts with or an event gives it."""
    out = dict(kernel)
    for event, row in zip(events, rows, strict=True):
        if may_be_setting(event) and highest(row["value"]) > highest(out[event["knob"]]):
            out[event["knob"]] = row["value"]
    return out


def check_time(episode: Rows, file: str) -> None:
    """An episode has at least one tick, and no more than anybody waits for."""
    if lowest(episode["horizon_s"]) < highest(episode["dt_s"]):
        least = highest(episode["dt_s"])
        raise UserError(f"{file}: episode.horizon_s = {lowest(episode['horizon_s']):g}; allowed: from dt_s = {least:g}")
    ticks = highest(episode["horizon_s"]) / lowest(episode["dt_s"])
    if ticks > MAX_TICKS:
        raise UserError(
            f"{file}: episode.horizon_s = {highest(episode['horizon_s']):g} makes {ticks:.0f} ticks of episode.dt_s = "
            f"{lowest(episode['dt_s']):g}; allowed: at most {MAX_TICKS} ticks"
        )


def check_zones(machine: Rows, file: str) -> None:
    """ZONE_MOVABLE is the end of DRAM's highest zone (mm/mm_init.c: find_usable_zone_for_movable), and what of the slow
    node lies below 4 GiB was there at boot."""
    movable = highest(machine["movable_mib"])
    left = lowest(machine["dram_mib"]) * (1 - highest(machine["boot_reserved_share"]))
    left -= highest(machine["dma_mib"]) + highest(machine["dma32_mib"])
    if movable > 0 and movable >= left:
        raise UserError(
            f"{file}: machine.movable_mib = {movable:g}; allowed: less than the {max(left, 0):g} MiB of ZONE_NORMAL "
            "that machine.dma_mib and machine.dma32_mib leave of machine.dram_mib"
        )
    below = highest(machine["slow_dma32_mib"])
    if below > 0 and (lowest(machine["slow_at_boot"]) == n.OFF or below > lowest(machine["slow_mib"])):
        raise UserError(
            f'{file}: machine.slow_dma32_mib = {below:g}; allowed: 0, or with machine.slow_at_boot = "on" at most '
            f"machine.slow_mib = {lowest(machine['slow_mib']):g}"
        )


def check_blocks(machine: Rows, file: str) -> None:
    """The slow tier is absent, or 1 to `MAX_BLOCKS` whole memory blocks."""
    block_high, block_low = highest(machine["block_mib"]), lowest(machine["block_mib"])
    for low, high in support(machine["slow_mib"]):
        if high > 0 and low < block_high:
            raise UserError(
                f"{file}: machine.slow_mib = {low:g}; allowed: 0 (no slow tier) or at least one memory block, "
                f"machine.block_mib = {block_high:g}"
            )
        if high / block_low > MAX_BLOCKS:
            raise UserError(
                f"{file}: machine.slow_mib = {high:g} makes {high / block_low:.0f} memory blocks of "
                f"machine.block_mib = {block_low:g}; allowed: at most {MAX_BLOCKS} blocks"
            )


def check_latencies(machine: Rows, file: str) -> None:
    """The slow tier is no faster than DRAM: lost time is measured against everything in unloaded DRAM."""
    if highest(machine["slow_mib"]) > 0 and lowest(machine["slow_latency_ns"]) < highest(machine["dram_latency_ns"]):
        raise UserError(
            f"{file}: machine.slow_latency_ns = {lowest(machine['slow_latency_ns']):g}; allowed: from "
            f"machine.dram_latency_ns = {highest(machine['dram_latency_ns']):g}"
        )


def check_watermarks(machine: Rows, kernel: Rows, file: str) -> None:
    """DRAM below MOVABLE holds its high watermark (promo, if NUMA balancing can tier), boot's memory and CXL's memmap.

    Upper bounds of Linux's formulas [K-min-free-kbytes] [K-watermarks]: all of min_free_kbytes falls to DRAM, as it
    does with a MOVABLE slow tier.
    """
    managed_kib = lowest(machine["dram_mib"]) * KIB_PER_MIB * (1 - highest(machine["boot_reserved_share"]))
    managed_kib -= highest(machine["movable_mib"]) * KIB_PER_MIB
    min_kib = min(max((16 * managed_kib) ** 0.5, LEAST_MIN_FREE_KIB), MOST_MIN_FREE_KIB)
    if highest(kernel["thp"]) == n.ON:
        min_kib = max(min_kib, min(KERNEL_ZONES * PAGEBLOCKS_PER_ZONE * PAGEBLOCK_PAGES * PAGE_KIB, managed_kib / 20))
    min_kib = max(min_kib, highest(kernel["min_free_kib"]))
    gap_kib = max(min_kib / 4, managed_kib * highest(kernel["watermark_scale_factor"]) / 10000)
    gaps = 3 if highest(kernel["numa_balancing"]) == n.NUMA_BALANCING_TIERING else 2
    mark_kib = min_kib + gaps * gap_kib
    memmap_mib = highest(machine["slow_mib"]) / STRUCT_PAGES_PER_PAGE
    held_kib = KIB_PER_MIB * (highest(machine["boot_kernel_mib"]) + memmap_mib)
    if mark_kib + held_kib > managed_kib:
        raise UserError(
            f"{file}: kernel.watermark_scale_factor = {highest(kernel['watermark_scale_factor']):g} and "
            f"kernel.min_free_kib = {highest(kernel['min_free_kib']):g} put the "
            f"{'promo' if gaps == 3 else 'high'} watermark at {mark_kib / KIB_PER_MIB:.0f} MiB, beside "
            f"{held_kib / KIB_PER_MIB:.0f} MiB of kernel memory at boot (machine.boot_kernel_mib, struct pages of "
            f"machine.slow_mib); allowed: together at most DRAM's managed {managed_kib / KIB_PER_MIB:.0f} MiB"
        )


def check_storage(storage: Rows, kernel: Rows, file: str) -> None:
    """zswap compresses what goes to swap, so it needs some; and what compression saves is more than nothing."""
    compressed = [int(low) for low, _ in support(storage["swap"]) if low != n.SWAP_DISK]
    if compressed and highest(kernel["swap_mib"]) == 0:
        raise UserError(
            f'{file}: storage.swap = "{n.SWAPS[compressed[0]]}" with kernel.swap_mib = 0; allowed: "disk", or a '
            "kernel.swap_mib above 0, whose slots zswap fills"
        )
    if compressed and any(0 < high and low < 1 for low, high in support(storage["swap_ratio"])):
        raise UserError(
            f"{file}: storage.swap_ratio = {lowest(storage['swap_ratio']):g}; allowed: 0 (the compressor's), or from 1"
        )


def check_reads(sections: Table, regions: Iterable[Rows], file: str) -> None:
    """Only a mapped file is read around what is missed."""
    for region, rows in zip(sections["regions"], regions, strict=True):
        around = any(low <= n.READS_AROUND <= high for low, high in support(rows["reads"]))
        other = next(
            (int(low) for low, _ in support(rows["kind"]) if low not in (n.KIND_FILE_RO, n.KIND_FILE_RW)), None
        )
        if around and other is not None:
            raise UserError(
                f'{file}: workload.regions.{region["name"]}.reads = "around" with kind = "{n.KINDS[other]}"; allowed: '
                'kind "file_ro" or "file_rw", or reads "random" or "stream"'
            )


def check_mempolicies(sections: Table, regions: Iterable[Rows], machine: Rows, file: str) -> None:
    """No memory is bound to a node that may not exist."""
    if lowest(machine["slow_mib"]) > 0:
        return
    for region, rows in zip(sections["regions"], regions, strict=True):
        if any(low == n.MPOL_BIND_SLOW for low, _ in support(rows["mempolicy"])):
            raise UserError(
                f'{file}: workload.regions.{region["name"]}.mempolicy = "bind_slow"; allowed: any other, '
                "since machine.slow_mib can be 0"
            )


def check_events(events: Iterable[Rows], machine: Rows, file: str) -> None:
    """Events concern whole blocks that the machine has."""
    slow, block = lowest(machine["slow_mib"]), highest(machine["block_mib"])
    added = 0.0
    for i, event in enumerate(events):
        kinds = {int(low) for low, _ in support(event["kind"])}
        if kinds <= {n.EVENT_NONE, n.EVENT_SYSCTL}:
            continue
        if n.EVENT_HOT_ADD in kinds:
            added += highest(event["mib"])
        if lowest(event["mib"]) < block or highest(event["mib"]) > slow or added > slow:
            raise UserError(
                f"{file}: events[{i}].mib = {highest(event['mib']):g}; allowed: from one memory block "
                f"(machine.block_mib = {block:g}) to machine.slow_mib = {slow:g}, hot_add events together"
            )


def check_demand(names: list[str], regions: list[Rows], machine: Rows, workload: Rows, file: str) -> None:
    """Full speed is possible with everything in unloaded DRAM: enough time to compute, a credible bandwidth.

    Stalled share = sum of misses x latency / (MLP x workers), walks with an MLP of 1 [H-stall-law].
    """
    latency_s = highest(machine["dram_latency_ns"]) * 1e-9
    per_worker = latency_s / lowest(workload["workers"])
    kernel = sum(highest(row) for name, row in workload.items() if name.endswith("_touches_per_s"))
    stalls = {"kernel objects": kernel / lowest(workload["kernel_mlp"]) * per_worker}
    read, written = kernel * LINE_BYTES, kernel * LINE_BYTES * KERNEL_WRITE_SHARE
    for name, region, (misses, walks) in zip(names, regions, _hottest(regions), strict=True):
        walk_misses = walks * highest(region["walk_miss"])
        stalls[name] = (misses / lowest(region["mlp"]) + walk_misses) * per_worker
        read += (misses + walk_misses) * LINE_BYTES
        written += misses * LINE_BYTES * highest(region["write_share"])
    share = sum(stalls.values())
    if share >= MAX_STALL_SHARE:
        worst = max(stalls, key=lambda name: stalls[name])
        raise UserError(
            f"{file}: workload: at full size and speed {share:.0%} of the time would be stalls on unloaded DRAM "
            f"({stalls[worst]:.0%} by {worst}); allowed: below {MAX_STALL_SHARE:.0%} (fewer misses_per_page_s, "
            "tlb_misses_per_page_s or touches, or more mlp or workers)"
        )
    total = read + written
    mix = min(1.0, 2 * written / total) if total > 0 else 0.0
    reads, mixed = lowest(machine["dram_read_gbps"]), lowest(machine["dram_mixed_gbps"])
    peak = 1e9 * (reads + mix * (mixed - reads))
    if total > MAX_BANDWIDTH_SHARE * peak:
        raise UserError(
            f"{file}: workload: at full size and speed its traffic would be {total / 1e9:.1f} GB/s, "
            f"{total / peak:.0%} of DRAM's peak of {peak / 1e9:.1f} GB/s (machine.dram_read_gbps, dram_mixed_gbps); "
            f"allowed: at most {MAX_BANDWIDTH_SHARE:.0%} of it"
        )


def _hottest(regions: list[Rows]) -> list[tuple[float, float]]:
    """Each region's misses and walks per second; within a drift group, at the worst exchange of heat."""
    pages = [highest(region["mib"]) * PAGES_PER_MIB for region in regions]
    walked = [
        1 - lowest(r["thp_share"]) if lowest(r["kind"]) not in (n.KIND_CACHE, n.KIND_SHMEM) else 0.0 for r in regions
    ]
    heat = [(highest(r["misses_per_page_s"]), highest(r["tlb_misses_per_page_s"])) for r in regions]
    groups: dict[float, list[int]] = {}
    for i, region in enumerate(regions):
        group = highest(region["drift_group"]) if highest(region["drift_s"]) > 0 else 0.0
        groups.setdefault(group, []).append(i)
    source = list(range(len(regions)))
    for group, members in groups.items():
        if group > 0:
            turns = [members[k:] + members[:k] for k in range(len(members))]
            worst = max(turns, key=lambda turn: sum(pages[i] * heat[j][0] for i, j in zip(members, turn, strict=True)))
            for i, j in zip(members, worst, strict=True):
                source[i] = j
    return [(pages[i] * heat[j][0], pages[i] * walked[i] * heat[j][1]) for i, j in enumerate(source)]
