"""The pages of docs/reference, made from the tables that the code itself runs on.

    python -m tiergym.lab.reference docs/reference

writes them all; a test holds the committed pages against `PAGES`.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from tiergym import files
from tiergym.env import actions, observations
from tiergym.lab import environment_pages, experiment_fields, metrics, views
from tiergym.lab.reference_parts import page, table
from tiergym.sim import names as n
from tiergym.sim import parameters as p
from tiergym.sim.releases import RELEASES, SWITCHES, defaults, version
from tiergym.sim.storage import COMPRESSORS, DRIVES
from tiergym.specs.distributions import allowed
from tiergym.specs.reading import EVENT, MAX_REGIONS, OF_REGION, POOL, PROCESS, SCALARS, default_value
from tiergym.specs.writing import value_toml


def actions_page() -> str:
    """Every entry of the action vector, its modes and the kernel mechanism behind each."""
    head = f"""\
One decision per tick and machine: {len(actions.ENTRIES)} entries, each an enum of named modes, in this order. The
environment's default action space is `MultiDiscrete({actions.NVEC.tolist()})`.
Mode 0 of every entry is what an untouched Linux does. A mode that the machine's state makes impossible counts as
mode 0; `action_masks` tells which are possible: {actions.N_MASK} booleans, the modes of all entries one after another.

`prefer_slow` needs a ZONE_NORMAL on the slow tier (the first action of an episode may ask for it before there is
one), `migrate.kstack = "idle"` a machine with `kernel.stack_migration = "on"`; a machine without a slow tier allows
mode 0 only.

*Plausibility*: **available** is a default or a knob of today's kernels, **proposed** what an RFC or a paper asks for,
with its source, **counterfactual** what nobody does or proposes. A policy is as plausible as the least plausible mode
that it may choose: named modes and plans say which these are, a rule may (`plausibility = "proposed"`), and whoever
says nothing may choose any. `tiergym agents` shows it; `--plausibility available` of `agents`, `compare` and `matrix`
leaves out what is less plausible. The proposal to restrict unmovable kernel allocations or to make them movable
[K-fast-tier] is read as covering every class.

`zone` and `memmap` take effect when memory arrives. What is there at boot comes online under the first action of an
episode, blocks that are hot-added later under the action of that tick; a block that is online stays as it is.
"""
    parts = [head]
    # Entries with the same modes, one after the other, share a section.
    for mechanisms, group in groupby(enumerate(actions.ENTRIES), lambda pair: pair[1].mechanisms):
        entries = list(group)
        parts += [f"## {', '.join(f'`{entry.name}`' for _, entry in entries)}\n"]
        parts += [table(("", "entry", "decides"), [(i, f"`{entry.name}`", entry.doc) for i, entry in entries])]
        modes = enumerate(zip(entries[0][1].modes, mechanisms, strict=True))
        rows = [(i, f"`{mode}`", text, _plausibility([e for _, e in entries], i)) for i, (mode, text) in modes]
        parts += [table(("", "mode", "stands for", "plausibility"), rows)]
    return page("Actions", *parts)


def _plausibility(entries: Sequence[actions.ActionEntry], mode: int) -> str:
    """How plausible a mode is that entries share, and for which of them it is otherwise."""
    found = [entry.plausibility[mode] for entry in entries]
    usual = max(n.PLAUSIBILITIES, key=found.count)
    others = [f"{word} for `{e.name}`" for e, word in zip(entries, found, strict=True) if word != usual]
    return "; ".join([usual, *others])


def observations_page() -> str:
    """Every number of the observation: how it is shown and where Linux shows it."""
    head = f"""\
What a policy sees each tick: {observations.N_OBS} numbers, float32 in [0, 1], in this order
(layout version {observations.LAYOUT_VERSION}, which exported policies carry). Only what a kernel can know at that tick:
nothing of the workload's future or true heat. Shares and switches are shown as they are; a count or rate x is shown
as x / (x + s) with the s of the table, so that x = s reads as 0.5. Rates are those of the last tick. The `pmu.*`
entries are sampled and carry relative noise of `episode.pmu_noise`, unless the environment has `noiseless=True`.

By name, in Python: `tiergym.policy.rules.obs_index("pages.anon.fast")`.
"""
    rows = [
        (i, f"`{entry.name}`", f"s = {entry.scale:g}" if entry.scale else "as it is", entry.doc, entry.source)
        for i, entry in enumerate(observations.ENTRIES)
    ]
    return page("Observations", head, table(("", "name", "shown as", "meaning", "source in Linux"), rows))


def metrics_page() -> str:
    """What evaluation measures, the shape of its files, and what its intervals cover."""
    return page(
        "Metrics",
        "`tiergym evaluate`, `compare`, `matrix` and `run` measure the same things under the same names: the keys of\n"
        "their JSON (schema 1), the columns of their Parquet files.\n",
        metrics.markdown_table(),
        _METRICS_TEXT,
        "## Order of the arrays in an environment's infos\n",
        table(
            ("array", "entries"),
            [
                (f"`{name}`", ", ".join(f"`{entry}`" for entry in entries))
                for name, entries in (("reward_terms", n.TERMS), ("attribution", n.CAUSES), ("counters", n.COUNTERS))
            ],
        ),
    )


def drives_table() -> str:
    """The presets of `storage.disk`."""
    head = ("`disk`", "one random read, us", "reads, MB/s", "writes, MB/s", "random reads/s", "from")
    rows = (
        (
            f"`{name}`",
            *(f"{value:g}" for value in (d.latency_us, d.read_mb_per_s, d.write_mb_per_s)),
            f"{d.reads_per_s:,.0f}",
            d.fact,
        )
        for name, d in DRIVES.items()
    )
    return table(head, rows)


def compressors_table() -> str:
    """The presets of `storage.swap` that compress."""
    head = ("`swap`", "load a page, us", "store a page, us", "pages in one", "from")
    rows = (
        (f"`{name}`", f"{c.load_us:g}", f"{c.store_us:g}", f"{c.ratio:g}", c.fact) for name, c in COMPRESSORS.items()
    )
    return table(head, rows)


def scenario_page() -> str:
    """Every field of a scenario's file."""
    parts = [_SCENARIO_TEXT]
    for section, fields in SCALARS.items():
        parts += [f"## `[{section}]`\n", f"{_SECTIONS[section]}\n", _fields(fields)]
        if section == "kernel":
            parts += [_RELEASES_TEXT, releases_table()]
        if section == "storage":
            parts += [_STORAGE_TEXT, drives_table(), compressors_table()]
    for title, text, entry_fields in (
        ("[[workload.processes]]", f"At most {p.N_PROCESSES}, each with a `name`. Without any there is one.", PROCESS),
        (
            "[[workload.regions]]",
            f"At most {MAX_REGIONS}, each with a `name` and the name of its `process` (default: the first).",
            OF_REGION,
        ),
        ("[workload.pools.NAME]", f"NAME is one of {', '.join(f'`{pool}`' for pool in n.POOLS)}.", POOL),
        ("[[events]]", f"At most {p.N_EVENTS}.", EVENT),
    ):
        parts += [f"## `{title}`\n", f"{text}\n", _fields(entry_fields)]
    return page("Scenario files", *parts)


def releases_table() -> str:
    """What every release gives the fields that depend on it."""
    columns = [defaults(version(release)) for release in RELEASES]
    rows = [
        (f"`{switch.field}`", *(f"`{value_toml(column[switch.field])}`" for column in columns), switch.fact)
        for switch in SWITCHES
    ]
    return table(("field", *RELEASES, "fact"), rows)


def _fields(fields: dict[str, p.Field]) -> str:
    rows = [
        (f"`{name}`", f"`{value_toml(default_value(field))}`", allowed(field), field.doc)
        for name, field in fields.items()
    ]
    return table(("field", "default", "allowed", "meaning"), rows)


def experiment_page() -> str:
    """Every field of an experiment's file, and of the tables and the picture that it asks for."""
    fields = [(f"`{name}`", field.allowed, field.doc) for name, field in experiment_fields.FIELDS.items()]
    of_views = [(f"`{name}`", allowed, doc) for name, (allowed, doc) in views.FIELDS.items()]
    return page(
        "Experiment files",
        _EXPERIMENT_TEXT,
        table(("field", "allowed", "meaning"), fields),
        "## `[tables.NAME]` and `[picture]`\n",
        _VIEWS_TEXT,
        table(("field", "allowed", "meaning"), of_views),
    )


_EXPERIMENT_TEXT = """\
What `tiergym run` runs: a file of `experiments/` by its name, or a file of your own. `description`, and `scenarios` or
`suites`, must be there. Suites are frozen, so with them there is no `set`, `variants`, `axes`, `modes`, `tables` or
`picture`. Fields of scenarios are spelled as with `--set`: `kernel.demotion = "on"` ([scenario files](scenario.md)).
"""

_VIEWS_TEXT = """\
An experiment that has tables or a picture prints these in place of its summaries, and keeps them as `tables.md` and
`picture.png`; `python -m tiergym.lab.markdown --into PAGE.md tables.md` puts the tables between the marks of a page.
Shares are shown in percent, pages as MiB; ± is half of a 95 % interval. Policies that are the same in every metric of
every episode share a row, as do rows that read the same but for one value of an axis.
"""

_METRICS_TEXT = """\
## JSON

    {"schema": 1, "model": DIGEST, "scenario": "llama-1to2", "digest": DIGEST, "changes": {"kernel.demotion": "off"},
     "seed": 0, "episodes": 32, "agents": {"online": [DIGEST]},
     "policies": {"online": {"return": {"mean": -37.0, "low": -38.5, "high": -35.5}, "throughput": {...}, ...}},
     "modes": {"online": {"place.pt_leaf": {"in_force": {"fallback": 1.0, "prefer_fast": 0.0, ...},
                                            "changes": 0.0, "overruled": 0.0}, ...}}}

A policy's key is what it was called on the command line; `changes` is what `--set` or an experiment changed in the
scenario. A matrix has `"scenarios": {NAME: {"changes": {...}, "policies": {...}, "modes": {...}}}` in place of
`"scenario"`, `"changes"`, `"policies"` and `"modes"`. Parquet files hold one row per scenario, policy, run and
episode: `scenario`, `changes` (as text), `policy`, `run` (which training run of a learned policy, 0 for a fixed one),
`episode`, `machine_seed`, every metric, and what the policy did: `modes/ENTRY=MODE`, `changes/ENTRY`,
`overruled/ENTRY`.

## What a policy did

`modes` says it for every entry of the action ([all of them](actions.md)), as means over episodes:

| key | unit | meaning |
|---|---|---|
| `in_force` | share of ticks | of each mode; an entry's modes add up to 1. A mode that the machine's state makes \
impossible counts as mode 0 |
| `changes` | ticks per episode | changes of mind: the choice differs from that of the tick before |
| `overruled` | share of ticks | the choice was impossible, so that mode 0 was in force |

`tiergym evaluate` prints them as a table, `compare` in one line per policy. What was in force *when*, in one episode:
`tiergym show`.

## One episode

`tiergym show --json` writes every series of one episode, a list with one number per tick (schema 1):

    {"schema": 1, "scenario": "llama-1to2", "seed": 0, "episode": 0, "machine_seed": N, "dt_s": 0.25,
     "events": [{"at_s": 15.0, "kind": "hot_add"}, ...],
     "policies": {"online": {"time_s": [...], "throughput": [...], "reward": [...],
                             "pages": {"fast": {"anon": [...], ...}, "slow": {...}},
                             "managed_pages": {"normal": [...], ...}, "free_pages": {...},
                             "wmark_pages": {"min": {"normal": [...], ...}, ...},
                             "counters": {"oom_kill": [...], ...}, "lost": {...}, "terms": {...},
                             "modes": {"place.pt_leaf": {"chosen": ["restrict", ...], "in_force": [...]}, ...}}}}

`time_s` is when a tick ended; pages (4 KiB) are what it left, counters the events in it. `chosen` is what the policy
asked for, `in_force` mode 0 instead where that was impossible. `--log` writes the same as Parquet, one row per policy
and tick, with columns such as `pages/slow/anon` and `modes/headroom/in_force`.

## Intervals

`low` and `high` bound the 95 % percentile bootstrap interval of the mean (2000 resamples). It covers what varies:
machines and workloads drawn per episode, sampling noise in the observations, a policy's own chance; for an agent
trained with several seeds also the training runs, which are resampled together with the episodes. A deterministic rule
on a scenario that draws nothing has an interval of zero width, and that is the truth: every episode is the same.

All policies of a comparison meet the same machines (common random numbers): differences are paired by episode. The
seeds come from a stream of their own, with the highest bit set, which no training seed has.

The overall means of a matrix are interquartile means over all scenarios' episodes, resampled within each scenario
(Agarwal et al., NeurIPS 2021).
"""

_SCENARIO_TEXT = """\
A scenario is one TOML file: a machine, the kernel's configuration, a workload, events, the length of an episode and
the weights of the reward. `tiergym scenarios show NAME` prints one with every number in it. Names end in their unit;
one page is 4 KiB.

`machine` and `workload` must be there, as the name of a preset (`machine = "spr_cxl_asic"`), as the path of another
file, or as a table with a `base` and what differs from it; so may `kernel` (`kernel = "pghot_like"`, of
`envs/kernels/`). Every other field has the default below; `[kernel]` and `[costs]` may also come from the machine's
file. `[workload.process.NAME]` and `[workload.region.NAME]` change single fields of what the base has;
`[[workload.processes]]` and `[[workload.regions]]` add to it.

Every number may be a distribution, drawn anew for each machine and episode:

| form | meaning |
|---|---|
| `250` | fixed |
| `{ uniform = [180, 400] }` | between the two |
| `{ log_uniform = [100, 1000] }` | between the two, evenly in the logarithm |
| `{ normal = [250, 40], low = 180, high = 400 }` | mean and standard deviation, clipped to low and high |
| `{ choice = [214, 239, 394] }` | one of at most six, equally likely; also of names: `{ choice = ["off", "on"] }` |

A scenario is refused before anything runs if some machine that it can draw is impossible: a slow tier smaller than a
block, watermarks above DRAM, more work than unloaded DRAM could serve.
"""

_RELEASES_TEXT = """\
### Releases of Linux

These fields have no default of their own: `release` gives them the value of their column, unless a file or `--set`
states another. A machine's file states what its author's kernel had, so its values stand only as long as the scenario
names no release itself. Where a release is named, a value that its kernels cannot have yet is refused; what later
kernels changed can be undone, as `--set kernel.release=7.2 --set kernel.movable_shares_min=on` does. Without a release,
any of them can be tried alone. Which kernel function does what, and since when: [model.md](../model.md).
"""

_STORAGE_TEXT = """\
### Disks and compressors

What `disk` and `swap` stand for. A field of `[storage]` that is not 0 takes the place of theirs. How a region reads its
pages back is the region's `reads`; the formulas are in [model.md](../model.md).
"""

_SECTIONS = {
    "machine": "The two nodes: sizes, latencies, bandwidths.",
    "kernel": "Settings of Linux, and what this kernel can do.",
    "storage": "What reading a page back costs, and what the disk gives to all who share it.",
    "costs": "Times that the cost model charges.",
    "episode": "Time.",
    "weights": "Weights of the reward's terms; with 1 each the reward is the lost time, negated.",
    "workload": "What the whole machine does.",
}

PAGES: dict[str, Callable[[], str]] = {
    "actions.md": actions_page,
    "observations.md": observations_page,
    "metrics.md": metrics_page,
    "scenario.md": scenario_page,
    "experiment.md": experiment_page,
    **environment_pages.pages(),
}
"""File name to the function that makes its text."""


def write(folder: Annotated[Path, typer.Argument(help="Where the pages go: docs/reference of a checkout.")]) -> None:
    """Write all pages of the reference into a folder."""
    for name, made in PAGES.items():
        files.write_text(folder / name, made())


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(write)
