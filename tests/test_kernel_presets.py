"""Presets of [kernel], `envs/kernels/`: a scenario's base, or set as a whole."""

from pathlib import Path

import numpy as np
import pytest

from tiergym import files, paths, specs
from tiergym.errors import UserError


def test_a_kernel_s_preset_gives_its_fields_and_a_scenario_changes_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('machine = "spr_cxl_asic"\nworkload = "llama"\n[kernel]\nbase = "pghot_like"\nswap_mib = 64\n')
    kernel = specs.load_scenario(path).sections["kernel"]
    assert (kernel["promote_accesses"], kernel["numa_balancing"], kernel["demotion"]) == (2, "tiering", "on")
    assert kernel["swap_mib"] == 64
    path.write_text('kernel = "pghot_like"\nmachine = "spr_cxl_asic"\nworkload = "llama"\n')
    assert specs.load_scenario(path).sections["kernel"]["promote_accesses"] == 2
    own = 'demotion = "off"\nrelease = "7.2"\n'
    path.write_text(f'machine = "spr_cxl_asic"\nworkload = "llama"\n[kernel]\nbase = "pghot_like"\n{own}')
    kernel = specs.load_scenario(path).sections["kernel"]
    assert (kernel["demotion"], kernel["promote_accesses"], kernel["skip_busy_node"]) == ("off", 2, "on")


@pytest.mark.parametrize("scenario", ["llama-1to2", "sparse+quiet+genoa+1to2+tight+switched-on+6.1"])
def test_a_kernel_s_preset_can_be_set(scenario: str) -> None:
    """It is every field of its file set alone; what is set after it stands."""
    whole = specs.load_scenario(scenario)
    preset = files.read_toml(paths.envs_dir() / "kernels" / "pghot_like.toml")
    preset.pop("description")
    alone = specs.override(whole, {f"kernel.{name}": value for name, value in preset.items()})
    assert np.array_equal(specs.override(whole, {"kernel.base": "pghot_like"}).table, alone.table)
    other = specs.override(whole, {"kernel.base": "pghot_like", "kernel.promote_accesses": 1})
    assert other.sections["kernel"]["promote_accesses"] == 1


@pytest.mark.parametrize("kernel", specs.list_kernels())
def test_every_shipped_kernel_runs_under_every_release(kernel: str) -> None:
    for release in ("6.1", "6.12", "6.18", "7.2"):
        specs.override(specs.load_scenario("phases-1to2"), {"kernel.base": kernel, "kernel.release": release})


@pytest.mark.parametrize(
    ("base", "message"),
    [('"pghot"', "kernel: unknown kernel 'pghot'.*pghot_like"), ("3", "kernel = 3; allowed: a name in envs/kernels/")],
)
def test_an_unknown_kernel_is_refused(tmp_path: Path, base: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'machine = "spr_cxl_asic"\nworkload = "llama"\n[kernel]\nbase = {base}\n')
    with pytest.raises(UserError, match=message):
        specs.load_scenario(path)


def test_a_kernel_of_one_s_own_is_a_file_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "late.toml").write_text('description = "d"\npromote_window_s = 8\nbogus = 1\n')
    path = tmp_path / "mine.toml"
    path.write_text('kernel = "late.toml"\nmachine = "spr_cxl_asic"\nworkload = "llama"\n')
    with pytest.raises(UserError, match=r"late\.toml: .*bogus"):
        specs.load_scenario(path)
    (tmp_path / "late.toml").write_text('description = "d"\npromote_window_s = 8\n')
    assert specs.load_scenario(path).sections["kernel"]["promote_window_s"] == 8
