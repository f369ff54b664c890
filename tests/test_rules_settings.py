"""Settings that change while the machine runs: what Linux does when a person turns a knob."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import DEFAULTS, MOVABLE, Lab, scenario, threads
from tiergym.errors import UserError
from tiergym.sim import names as n
from tiergym.specs import load_scenario, scenario_toml
from tiergym.specs.reading import default_value, knob_field
from tiergym.specs.scenario import override

COLD: dict[str, Any] = {"kind": "anon", "mib": 1500, "access_hz": 0.01, "grow_s": 2}


def sysctl(at_s: float, knob: str, value: Any) -> dict[str, Any]:
    return {"kind": "sysctl", "at_s": at_s, "knob": knob, "value": value}


def another(knob: str) -> Any:
    """A value of the knob that is not the test machine's."""
    field = knob_field(knob)
    if field.choices:
        return next(choice for choice in field.choices if choice != DEFAULTS.get(knob, default_value(field)))
    return float(max(field.low, min(field.high, 2 * field.default + 1)))


@pytest.mark.parametrize("knob", n.KNOBS)
def test_a_knob_changes_its_field_at_its_time_and_no_other_knob_s(knob: str) -> None:
    quiet, turned = Lab(scenario()).ticks(8), Lab(scenario(events=[sysctl(1.0, knob, another(knob))]))
    turned.ticks(4)
    assert turned.m[knob] == quiet.m[knob]
    turned.ticks(4)
    assert {name for name in n.KNOBS if turned.m[name] != quiet.m[name]} == {knob}
    field = knob_field(knob)
    assert turned.m[knob] == (field.choices.index(another(knob)) if field.choices else another(knob))


def test_marks_follow_the_knobs_that_make_them() -> None:
    """min_free_kbytes_sysctl_handler, setup_per_zone_wmarks: what was written holds, be it less than Linux chose."""

    def marks(knob: str, value: Any) -> Any:
        return Lab(scenario(events=[sysctl(0, knob, value)])).ticks(2).m["wmark_pages"][:, n.NORMAL].tolist()

    least, gap = marks("watermark_scale_factor", 10)[0], 1024 * 256 * 200 // 10000
    assert marks("watermark_scale_factor", 200) == [least + k * gap for k in range(4)]
    assert marks("min_free_kib", 400)[0] < least < marks("min_free_kib", 40960)[0]
    both = scenario(thp="on", events=[sysctl(0, "thp", "off")])
    assert Lab(both).ticks(2).m["wmark_pages"][0, n.NORMAL] == pytest.approx(least, rel=0.05)  # khugepaged's raise goes
    assert marks("thp", "on") == Lab(scenario(thp="on")).ticks(2).m["wmark_pages"][:, n.NORMAL].tolist()


def test_demotion_begins_when_it_is_switched_on_and_ends_when_off() -> None:
    events = [sysctl(4, "demotion", "on"), sysctl(8, "demotion", "off")]
    hog = COLD | {"mib": 2500, "grow_s": 12}
    lab = Lab(scenario(regions=[hog], pools=threads(2000, 1, 12), events=events), modes=MOVABLE)
    demoted = [lab.ticks(17).total("pgdemote_kswapd") for _ in range(3)]
    assert demoted[0] == 0 < demoted[1]
    assert demoted[2] == demoted[1]


def test_a_kernel_without_swap_gets_some() -> None:
    hog = COLD | {"mib": 1100, "grow_s": 8}
    lab = Lab(scenario(regions=[hog], slow_mib=0, events=[sysctl(2, "swap_mib", 512)]))
    lab.ticks(60)
    assert lab.total("oom_kill") == 0 < lab.total("pswpout")


def test_swapoff_reads_everything_back() -> None:
    """try_to_unuse."""
    hog = COLD | {"mib": 1100, "grow_s": 2, "hold_s": 4, "shrink_s": 1, "low_share": 0.5}
    lab = Lab(scenario(regions=[hog], slow_mib=0, swap_mib=512, events=[sysctl(12, "swap_mib", 0)])).ticks(40)
    out = int(lab.m["region"]["out_pages"].sum())
    assert out > 0
    read = lab.total("pswpin")
    lab.ticks(16)
    assert lab.m["region"]["out_pages"].sum() == 0
    assert lab.total("pswpin") - read >= out
    assert (lab.m["swap_mib"], lab.m["swap_free_pages"]) == (0, 0)


def test_swapoff_fails_where_memory_has_no_room() -> None:
    """-ENOMEM: the swap space stays."""
    lab = Lab(scenario(regions=[COLD], slow_mib=0, swap_mib=1024, events=[sysctl(6, "swap_mib", 0)])).ticks(40)
    assert lab.m["swap_mib"] == 1024 and lab.m["region"]["out_pages"].sum() > 0


def test_swapoff_kills_nobody_but_itself() -> None:
    """Memory ends while it reads pages back, and it is the victim (set_current_oom_origin)."""
    lab = Lab(scenario(regions=[COLD], slow_mib=0, swap_mib=1024, events=[sysctl(6, "swap_mib", 0)])).ticks(23)
    lab.ticks(3)
    assert lab.total("pswpin") > 0 == lab.total("oom_kill")


def hopeless(release: str, *, then: str) -> Lab:
    """DRAM full of memory that nothing takes, kernel requests that keep asking, and then demotion for it."""
    events = [sysctl(20, "demotion", then)]
    hog = COLD | {"mib": 2800, "grow_s": 3}
    switches: dict[str, Any] = {"6.12": {}, "7.2": {"hopeless_reset": "balance_or_free"}}[release]
    machine = scenario(regions=[hog], pools=threads(9000, 6, 60), events=events, **switches)
    return Lab(machine, modes={"place.kstack": "prefer_fast"})


def test_a_kswapd_that_gave_up_works_again_when_demotion_is_switched_on_since_6_18() -> None:
    """demotion_enabled_store [K-hopeless]; a server of 32 GiB and 512 GiB was reported where it did not."""
    for release, then, works in (("7.2", "on", True), ("7.2", "off", False), ("6.12", "on", False)):
        lab = hopeless(release, then=then).ticks(80)
        assert lab.m["kswapd_failures"][n.FAST] == 16, "it has given up"
        before = lab.total("pgdemote_kswapd")
        lab.ticks(40)
        assert (lab.total("pgdemote_kswapd") > before) == works, (release, then)


def scenario_with(tmp_path: Path, *events: str, kernel: str = "", machine: str = '"spr_cxl_asic"') -> Any:
    path = tmp_path / "mine.toml"
    tables = "".join(f"\n[[events]]\n{event}\n" for event in events)
    path.write_text(f'machine = {machine}\nworkload = "kvstore"\n{kernel}{tables}')
    return load_scenario(path)


@pytest.mark.parametrize(
    ("event", "kernel", "words"),
    [
        ('kind = "sysctl"\nvalue = 1', "", ["events[0].knob is missing"]),
        ('kind = "sysctl"\nknob = "demotion"', "", ["events[0].value is missing"]),
        ('kind = "sysctl"\nknob = "swappiness"\nvalue = 1', "", ["events[0].knob", "swappiness", "demotion"]),
        ('kind = "sysctl"\nknob = "demotion"\nvalue = "maybe"', "", ["events[0].value", "maybe", "demotion", '"on"']),
        ('kind = "sysctl"\nknob = "watermark_scale_factor"\nvalue = 0', "", ["events[0].value", "from 1 to 3000"]),
        ('kind = "offline"\nmib = 2048\nvalue = 3', "", ["events[0].value = 3", "sysctl"]),
        ('kind = { choice = ["none", "sysctl"] }\nknob = "thp"', "", ["events[0].value is missing"]),
        ('kind = { choice = ["offline", "sysctl"] }\nknob = "thp"\nvalue = "on"\nmib = 3', "", ["events[0].mib = 3"]),
        ('kind = "sysctl"\nknob = "damon_promotion"\nvalue = "on"', '[kernel]\nrelease = "6.1"\n',
         ["events[0]", "damon_promotion", "6.1", "6.11"]),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_by_name(tmp_path: Path, event: str, kernel: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        scenario_with(tmp_path, event, kernel=kernel)
    assert all(word in str(error.value) for word in ["mine.toml", *words]), error.value


def test_whether_a_setting_changes_can_be_drawn() -> None:
    event = sysctl(0.5, "demotion", "on") | {"kind": {"choice": ["none", "sysctl"]}}
    seen = {int(Lab(scenario(events=[event]), seed=seed).ticks(4).m["demotion"]) for seed in range(8)}
    assert seen == {n.OFF, n.ON}


def test_marks_after_an_event_must_fit_into_dram(tmp_path: Path) -> None:
    event = 'kind = "sysctl"\nknob = "watermark_scale_factor"\nvalue = 3000'
    kernel = '[kernel]\nmin_free_kib = 4e6\nnuma_balancing = "tiering"\n'
    with pytest.raises(UserError, match=r"watermark_scale_factor = 3000 .* promo watermark"):
        scenario_with(tmp_path, event, kernel=kernel, machine='{ base = "spr_cxl_asic", dram_mib = 32768 }')


def test_swap_that_arrives_later_is_enough_for_zswap(tmp_path: Path) -> None:
    event = 'kind = "sysctl"\nat_s = 5\nknob = "swap_mib"\nvalue = 1024'
    machine = scenario_with(tmp_path, event, kernel='[storage]\nswap = "zswap_lz4"\n')
    assert machine.sections["events"][0]["value"] == 1024
    again = override(machine, {"episode.horizon_s": 30})
    assert again.sections["events"] == machine.sections["events"] and np.isfinite(again.table).all()


@pytest.mark.parametrize(
    ("knob", "value"), [("demotion", '"off"'), ("swap_mib", "0"), ("thp", '{ choice = ["off", "on"] }')]
)
def test_a_setting_survives_being_written_out(tmp_path: Path, knob: str, value: str) -> None:
    """Even where knob and value are what an event has by default."""
    machine = scenario_with(tmp_path, f'kind = "sysctl"\nat_s = 5\nknob = "{knob}"\nvalue = {value}')
    (tmp_path / "again.toml").write_text(scenario_toml(machine))
    again = load_scenario(tmp_path / "again.toml")
    assert again.sections["events"] == machine.sections["events"] and (again.table == machine.table).all()
