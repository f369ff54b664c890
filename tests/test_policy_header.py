"""policy.h: C in integers that decides exactly as its Python twin does, and is refused where it is not what it says."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest

from tests.refusals import assert_refused
from tests.short_runs import random_observations, write_short_scenario
from tests.strangers import experiment, refused, write
from tiergym.env import actions as act
from tiergym.env.observations import NAMES, SCALES
from tiergym.errors import UserError
from tiergym.policy.c_header import header
from tiergym.policy.controller import (
    COOL_MS,
    EDGES,
    GUARDS,
    HOLD_MS,
    PERIODS_MS,
    PRESSURE,
    TICK_MS,
    ControllerPolicy,
    bucket_of,
)
from tiergym.policy.fixed_point import ONE, columns_of, inputs_of
from tiergym.policy.header_policy import HeaderPolicy
from tiergym.policy.load import load_policy
from tiergym.policy.tree import TreePolicy, make_tree
from tiergym.sim import names as n

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="this machine has no C compiler")
TICKS_PER_PERIOD = PERIODS_MS[1] // TICK_MS
CALM = {guard.input: 0.5 if guard.input == PRESSURE else 0.0 for guard in GUARDS}
"""Observations under which no guard holds."""


def random_tree(leaves: int, seed: int) -> TreePolicy:
    """A tree of random questions and random actions, pressure among them."""
    rng = np.random.default_rng(seed)
    columns = [*columns_of(inputs_of("counters")).tolist(), *[NAMES.index(PRESSURE)] * 20]

    def grow(count: int, first: int) -> list:
        if count == 1:
            return [rng.integers(act.NVEC)]
        least = max(count // 3, 1)
        left = int(rng.integers(least, count - least + 1))
        yes = grow(left, first + 1)
        split = (int(rng.choice(columns)), int(rng.integers(ONE)), first + 1, first + 1 + len(yes))
        return [split, *yes, *grow(count - left, first + 1 + len(yes))]

    return make_tree("random", grow(leaves, 0))


def constant(**modes: str) -> TreePolicy:
    return make_tree("constant", [act.from_modes({name.replace("_", ".", 1): mode for name, mode in modes.items()})])


def written(tree: TreePolicy, folder: Path, change: Callable[[str], str] = lambda text: text) -> Path:
    path = folder / "policy.h"
    path.write_text(change(header(tree)))
    return path


def observations(**values: float) -> np.ndarray:
    obs = np.zeros((1, len(NAMES)), np.float32)
    for name, value in (CALM | values).items():
        obs[:, NAMES.index(name)] = value
    return obs


def masks(count: int) -> np.ndarray:
    return np.ones((count, act.N_MASK), np.bool_)


def test_a_bucket_ends_at_its_edge():
    around = np.array([0, *(edge + step for edge in EDGES for step in (0, 1))], np.int32)
    assert bucket_of(around).tolist() == [0, 0, 1, 1, 2, 2, 3]


@needs_compiler
@pytest.mark.parametrize("leaves", [1, 2, 16, 64])
def test_c_and_its_twin_agree_on_25_000_observations(leaves, tmp_path):
    """100,000 in all, of machines whose pressure wanders and whose guards trip at times, with edges hit exactly."""
    tree = random_tree(leaves, seed=leaves)
    compiled, twin = HeaderPolicy(written(tree, tmp_path)), ControllerPolicy(tree)
    machines, ticks, rng = 250, 100, np.random.default_rng(leaves)
    compiled.reset(machines, 0)
    twin.reset(machines, 0)
    edges = np.array([*EDGES, *tree.at_most[~tree.is_leaf], 0, ONE], np.float32) / ONE
    actions = []
    for tick in range(ticks):
        obs = random_observations(machines, seed=1000 * leaves + tick)
        exact = rng.random(obs.shape) < 0.3
        obs[exact] = rng.choice(edges, size=int(exact.sum()))
        for name, value in CALM.items():
            obs[rng.random(machines) < 0.97, NAMES.index(name)] = value
        obs[:, NAMES.index(PRESSURE)] = np.where(rng.random(machines) < 0.5, rng.random(machines), 0.5)
        actions.append(twin(obs, masks(machines)))
        assert (compiled(obs, masks(machines)) == actions[-1]).all(), tick
    seen = np.concatenate(actions)
    assert len(np.unique(seen, axis=0)) > leaves  # a table of buckets mixes rules, and the fallback is one more
    assert (seen == act.DEFAULT).all(axis=1).any()


@needs_compiler
def test_the_c_is_c99_of_integers_alone_and_small(tmp_path):
    text = written(random_tree(64, seed=5), tmp_path).read_text()
    (tmp_path / "u.c").write_text(
        '#include "policy.h"\nvoid u(struct tiergym *t, const uint32_t *in) { tiergym_update(t, in); }\n'
    )
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffreestanding", "-Os", "-c"]
    subprocess.run([str(COMPILER), *strict, "u.c"], cwd=tmp_path, check=True)
    code = re.sub(r"(?s)/\*.*?\*/", "", text)
    assert not re.search(r"\b(float|double|while|goto|malloc|\d+\.\d+)\b", code)
    functions = re.findall(r"(?ms)^static inline [^\n]*?(\w+)\([^\n]*\)\n\{(.*?)^\}", code)
    assert len(functions) == 8
    defined = [name for name, _ in functions]
    for place, (_, body) in enumerate(functions):
        called = [name for name in defined if f"{name}(" in body]
        assert all(defined.index(name) < place for name in called), "recursion"
    for loop in re.findall(r"for \(([^)]*)\)", code):
        assert re.search(r"< TIERGYM_[A-Z_]+( [-+] (1|TIERGYM_[A-Z]+))?\b", loop), loop
    assert len(text) < 20_000 and (tmp_path / "u.o").stat().st_size < 8_000


@needs_compiler
def test_the_c_has_no_instruction_of_the_floating_point_unit(tmp_path):
    written(random_tree(8, seed=6), tmp_path)
    (tmp_path / "u.c").write_text(
        '#include "policy.h"\nuint32_t u(uint64_t x) { return tiergym_scaled(x, 3) + tiergym_share(x, 7); }\n'
    )
    done = subprocess.run(
        [str(COMPILER), "-std=c99", "-mgeneral-regs-only", "-c", "u.c"], cwd=tmp_path, capture_output=True, check=False
    )
    if b"general-regs-only" in done.stderr:
        pytest.skip("this compiler cannot be told to leave the floating-point unit alone")
    assert done.returncode == 0, done.stderr


@needs_compiler
@pytest.mark.parametrize("period_ms", [100, 2000])
def test_a_period_out_of_range_does_not_compile(period_ms, tmp_path):
    path = written(constant(), tmp_path, lambda text: text.replace("PERIOD_MS 1000", f"PERIOD_MS {period_ms}"))
    with pytest.raises(UserError, match=r"does not compile: .*allowed are 250 to 1000"):
        HeaderPolicy(path)


@needs_compiler
def test_inputs_made_in_c_are_those_that_python_makes(tmp_path):
    """Of counts and rates, within one 65,536th: C cuts off, a float32 rounds."""
    written(constant(), tmp_path)
    numbers = [0, 1, 49, 50_000, 123_456, 10**9, 2**40 - 1, 2**40, 2**63]
    calls = "".join(f'printf("%u %u\\n", tiergym_scaled({x}u, 50000), tiergym_share({x}u, 200000));' for x in numbers)
    (tmp_path / "p.c").write_text(f'#include <stdio.h>\n#include "policy.h"\nint main(void) {{ {calls} return 0; }}\n')
    subprocess.run([str(COMPILER), "-std=c99", "p.c", "-o", "p"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "p"], capture_output=True, text=True, check=True).stdout.split("\n")
    for x, line in zip(numbers, printed, strict=False):
        scaled, share = map(int, line.split())
        assert abs(scaled - ONE * x / (x + 50000)) <= 1 and abs(share - ONE * min(x / 200000, 1)) <= 1, x
    assert SCALES[NAMES.index("rate.pgalloc_fast")] == 50000


def test_until_the_first_update_and_after_a_kill_it_is_linux():
    controller = ControllerPolicy(constant(place_kstack="prefer_fast", headroom="small"))
    wanted = controller.tree.actions[0]
    controller.reset(1, 0)
    assert (controller.place == n.FALLBACK).all()
    assert (controller(observations(), masks(1)) == wanted).all()
    for _ in range(TICKS_PER_PERIOD - 1):
        controller(observations(), masks(1))
    assert (controller(observations(**{"rate.oom_kill": 0.5}), masks(1)) == act.DEFAULT).all()
    later = [bool((controller(observations(), masks(1)) == act.DEFAULT).all()) for _ in range(COOL_MS // TICK_MS + 1)]
    assert later == [True] * (COOL_MS // TICK_MS - 1) + [False] * 2
    assert (controller(observations(), masks(1)) == wanted).all()


@pytest.mark.parametrize("guard", [guard for guard in GUARDS if not guard.always], ids=lambda guard: guard.input)
@pytest.mark.parametrize(("mode", "guarded"), [("restrict", True), ("prefer_fast", False)])
def test_guards_of_pressure_ask_where_dram_is_required(guard, mode, guarded):
    controller = ControllerPolicy(constant(place_kstack=mode))
    action = controller(observations(**{guard.input: guard.low / ONE}), masks(1))
    assert (action == act.DEFAULT).all() == guarded
    beside = guard.low / ONE - 1 / ONE if guard.low else guard.high / ONE + 1 / ONE
    controller.reset(1, 0)
    assert (controller(observations(**{guard.input: beside}), masks(1)) != act.DEFAULT).any()


@pytest.mark.parametrize("guard", [guard for guard in GUARDS if guard.always], ids=lambda guard: guard.input)
def test_guards_of_harm_always_ask(guard):
    controller = ControllerPolicy(constant(headroom="small"))
    assert (controller(observations(**{guard.input: guard.low / ONE}), masks(1)) == act.DEFAULT).all()
    controller.reset(1, 0)
    assert (controller(observations(**{guard.input: (guard.low - 1) / ONE}), masks(1)) != act.DEFAULT).any()


def test_a_row_stays_for_its_time():
    column = NAMES.index("calm")
    tree = make_tree("t", [(column, ONE // 2, 1, 2), act.DEFAULT, act.from_modes({"place.kstack": "prefer_fast"})])
    controller = ControllerPolicy(tree, PERIODS_MS[0])
    chosen = [
        controller(observations(calm=float(tick % 2)), masks(1))[0, act.NAMES.index("place.kstack")]
        for tick in range(20)
    ]
    changes = np.flatnonzero(np.diff(chosen))
    assert len(changes) > 2 and (np.diff(changes) * TICK_MS >= HOLD_MS).all()


def test_the_allocation_path_reads_the_pressure_of_the_moment():
    """Between two updates, a machine that comes under pressure gets the mode of that bucket."""
    tight, roomy = act.from_modes({"place.kstack": "prefer_slow"}), act.from_modes({"place.kstack": "prefer_fast"})
    tree = make_tree("t", [(NAMES.index(PRESSURE), ONE // 8, 1, 2), tight, roomy])
    controller, stacks = ControllerPolicy(tree), act.NAMES.index("place.kstack")
    pressures = [1.0, 0.05, 0.6, 0.01]
    chosen = [int(controller(observations(**{PRESSURE: each}), masks(1))[0, stacks]) for each in pressures]
    assert chosen == [n.PREFER_FAST, n.PREFER_SLOW, n.PREFER_FAST, n.PREFER_SLOW]


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "not C": (lambda text: "every page to DRAM, please", "does not compile: "),
    "half of it": (lambda text: text[: len(text) // 2], "does not compile: "),
    "a mode that does not exist": (
        lambda text: text.replace("\t{0, 0, 1, 0,", "\t{0, 0, 7, 0,"),
        "rule 1: place.kstack is 7; allowed: 0 to 3",
    ),
    "another layout": (
        lambda text: re.sub(r'LAYOUT "\w+"', 'LAYOUT "0123"', text),
        "its layout, inputs and decisions are '0123 ",
    ),
    "one name too few": (lambda text: text.replace('\t"calm "', '\t""'), "its layout, inputs and decisions are "),
    "one decision more": (
        lambda text: text.replace("\tTIERGYM_SETTINGS\n", "\tMINE,\n\tTIERGYM_SETTINGS\n"),
        "its layout, inputs and decisions are ",
    ),
    "an unknown input": (lambda text: text.replace('"calm "', '"clam "'), "did you mean 'calm'"),
    "rules of no decision": (
        lambda text: text + "\nstatic const uint8_t three[3];\n#define tiergym_rules three\n",
        "its rules are '0 0 0'; allowed: 17 modes of each",
    ),
    "a file without end": (lambda text: '#include "/dev/zero"\n' + text, "does not compile: "),
    "a crash": (
        lambda text: text.replace("int required = 0;", "int required = *(volatile int *)0;"),
        "the program made of it ended with SIGSEGV",
    ),
    "an exit": (
        lambda text: "void exit(int);\n" + text.replace("int required = 0;", "int required = 0; exit(3);"),
        "the program made of it ended with exit code 3",
    ),
}


@needs_compiler
@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_header_is_refused_in_one_line(cli, tmp_path, change, message):
    tree = make_tree(
        "t", [(NAMES.index("calm"), 9, 1, 2), act.from_modes({"place.kstack": "prefer_fast"}), act.DEFAULT]
    )
    assert_refused(cli("evaluate", written(tree, tmp_path, change)), "policy.h", message)


@needs_compiler
def test_what_does_not_answer_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("tiergym.policy.header_policy.ANSWER_S", 1)
    path = written(constant(), tmp_path, lambda text: text.replace("int required = 0;", "int required = 0; for (;;);"))
    with pytest.raises(UserError, match="did not answer within 1 s"):
        load_policy(path)


LOOPS = "__attribute__((constructor)) static void before_main(void) { for (;;); }"
SILENT: dict[str, Callable[[str], str]] = {
    "a loop before main": lambda text: f"{text}\n{LOOPS}\n",
    "no alarm": lambda text: "#define alarm(s) 0\n" + text.replace("int required = 0;", "int required = 0; for (;;);"),
}


@needs_compiler
@pytest.mark.parametrize("case", SILENT)
def test_what_takes_its_own_alarm_away_is_ended_too(case, tmp_path, monkeypatch):
    monkeypatch.setattr("tiergym.policy.header_policy.ANSWER_S", 1)
    with pytest.raises(UserError, match="did not answer within 1 s"):
        load_policy(written(constant(), tmp_path, SILENT[case]))


@needs_compiler
def test_an_object_of_gigabytes_is_not_written(tmp_path):
    path = written(constant(), tmp_path, lambda text: f"{text}\nchar giant[1UL << 33] = {{1}};\n")
    with pytest.raises(UserError, match="does not compile: "):
        load_policy(path)


@needs_compiler
def test_a_compiler_that_does_not_end_is_ended_with_its_children(tmp_path, monkeypatch):
    """The driver waits for what really compiles, which would go on without it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "cc").write_text(f"#!/bin/sh\ntouch $TMPDIR/half.s; sleep 1000 & echo $! > {tmp_path}/child; wait\n")
    (folder / "cc").chmod(0o755)
    monkeypatch.setenv("CC", str(folder / "cc"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tiergym.policy.header_policy.COMPILE_S", 1)
    with pytest.raises(UserError, match=r"policy\.h: .*/cc did not compile it within 1 s"):
        load_policy(written(constant(), tmp_path))
    assert not list((tmp_path / "scratch").iterdir())
    status = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    stop = monotonic() + 20
    while status.exists() and status.read_text().split()[2] not in "ZX":
        assert monotonic() < stop
        sleep(0.01)


def test_without_a_compiler_one_line_says_so(cli, tmp_path, monkeypatch):
    path = written(constant(), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert_refused(cli("evaluate", path), "no C compiler to compile policy.h with; allowed: one of cc, gcc, clang")


def test_a_file_that_names_a_header_compiles_nothing(cli, tmp_path, monkeypatch):
    def compiled(*args: object, **options: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr("tiergym.policy.header_policy.subprocess.Popen", compiled)
    written(constant(), tmp_path)
    write_short_scenario(tmp_path)
    path = write(tmp_path / "e.toml", experiment('policies = ["online", "policy.h"]'))
    assert "policy 'policy.h' is C code that would run here" in refused(cli, "run", path, "--out", "out")


@needs_compiler
def test_a_header_is_evaluated_as_any_policy_and_leaves_nothing_behind(cli, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = written(constant(place_kstack="restrict"), tmp_path)
    done = cli("evaluate", path, "--scenario", write_short_scenario(tmp_path), "--episodes", 2)
    assert done.code == 0 and "restrict" in done.out, done.err
    assert not list(scratch.iterdir())
