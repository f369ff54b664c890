"""TOML that nobody should write, in every place that reads it: one line, exit code 2, nothing allocated before."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import Cli
from tests.refusals import assert_refused
from tiergym import memory, paths
from tiergym.errors import UserError, one_line, shown
from tiergym.files import MAX_NESTING, MAX_TEXT_BYTES, parse_toml, read_bytes, read_json
from tiergym.lab.recipe import MAX_STEPS
from tiergym.lab.sizes import memory_weights, weights
from tiergym.memory import check_bytes, physical_bytes, size_text

READERS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "scenario": lambda file: ("scenarios", "show", file),
    "policy": lambda file: ("evaluate", file, "--episodes", "1"),
    "agent": lambda file: ("train", "--agent", file, "--scenario", "llama-1to2", "--steps", "1"),
    "experiment": lambda file: ("run", file),
    "suite": lambda file: ("matrix", "--suite", file, "--policies", "online", "--episodes", "1"),
}
"""By what is read: the command that reads it."""

DIGITS = "9" * 4301
TEXTS: dict[str, tuple[bytes, str]] = {
    "an integer of 4301 digits": (f"x = {DIGITS}".encode(), "not valid TOML"),
    "a hexadecimal one": (b"x = 0x" + b"f" * 5000, "allowed: integers of 64 bits"),
    "a binary one in a list": (b"x = [[0b1" + b"0" * 70 + b"]]", "allowed: integers of 64 bits"),
    "lists in lists": (b"x = " + b"[" * 20000 + b"]" * 20000, "not valid TOML: "),
    "tables in tables": (b"x = " + b"{a=" * 20000 + b"1" + b"}" * 20000, "not valid TOML: "),
    "a long dotted key": (b".".join([b"a"] * 50000) + b" = 1", "a key of more than"),
    "a long quoted key": (b'"a" . ' * 5000 + b"'b' = 1", "a key of more than"),
    "a long header": (b"[" + b".".join([b"a"] * 50000) + b"]", "a key of more than"),
    "nested by headers": (b"[" + b".".join([b"a"] * 30) + b"]\n" + b".".join([b"a"] * 30) + b" = 1", "too deeply"),
    "a NUL in a text": (b'x = "\\u0000"', "texts without NUL"),
    "a NUL in a key": (b'"a\\u0000" = 1', "has a NUL"),
    "a NUL in the file": (b"x = 1\x00", "not valid TOML"),
    "a surrogate": (b'x = "\\ud800"', "not valid TOML"),
    "Latin-1": (b"description = '\xe9'", "not valid TOML"),
    "UTF-16": ("x = 1".encode("utf-16"), "not valid TOML"),
    "a file of a mebibyte and one": (b"#" * (MAX_TEXT_BYTES + 1), f"allowed: at most {MAX_TEXT_BYTES}"),
    "an unknown key of a hundred thousand letters": (b"a" * 100_000 + b" = 1", "unknown "),
    "a key that is not printable": (b'"a\\nb\\u001b[31m" = 1', "unknown "),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_is_out_of_all_proportion_is_refused(text: str, reader: str, cli: Cli, tmp_path: Path) -> None:
    content, part = TEXTS[text]
    (tmp_path / "bad.toml").write_bytes(content)
    assert_refused(cli(*READERS[reader]("bad.toml")), "bad.toml", part)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


FILES: dict[str, Callable[[Path], object]] = {
    "a symbolic link to itself": loop,
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "endless /proc/self/fd": lambda path: path.symlink_to("/proc/self/fd"),
    "a process's memory": lambda path: path.symlink_to("/proc/self/mem"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_file_is_not_waited_for(kind: str, reader: str, cli: Cli, tmp_path: Path) -> None:
    FILES[kind](tmp_path / "bad.toml")
    assert_refused(cli(*READERS[reader]("bad.toml")), "bad.toml")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["x" * 300 + ".toml", "x/" * 3000 + "y.toml", "\udcff.toml"])
def test_names_that_no_file_system_has(name: str, reader: str, cli: Cli) -> None:
    assert_refused(cli(*READERS[reader](name)))


LINES: dict[str, tuple[str, str]] = {
    "a machine's name with a NUL": ('machine = "a\\u0000.toml"\nworkload = "llama"', "texts without NUL"),
    "a machine's name that is too long": (f'machine = "{"m" * 300}.toml"\nworkload = "llama"', "File name too long"),
    "a machine that is a number": ('machine = 3\nworkload = "llama"', "machine = 3; allowed: a table"),
    "a workload that is a number": ('machine = "spr_cxl_asic"\nworkload = 7', "workload = 7; allowed: a table"),
    "a base that is a number": ('machine = { base = 3 }\nworkload = "llama"', "machine = 3; allowed: a name"),
    "a base that is a folder": ('machine = { base = "..toml" }\nworkload = "llama"', "..toml"),
    "a horizon of ten million ticks": (
        'machine = "spr_cxl_asic"\nworkload = "llama"\n[episode]\nhorizon_s = 86400\ndt_s = 0.01',
        "episode.horizon_s = 86400 makes 8640000 ticks of episode.dt_s = 0.01; allowed: at most 1000000 ticks",
    ),
    "a horizon that may be drawn so": (
        'machine = "spr_cxl_asic"\nworkload = "llama"\n[episode]\nhorizon_s = { choice = [60, 80000] }\ndt_s = 0.02',
        "allowed: at most 1000000 ticks",
    ),
    "a horizon without end": (
        'machine = "spr_cxl_asic"\nworkload = "llama"\n[episode]\nhorizon_s = inf',
        "episode.horizon_s = inf; allowed: a number from 0.25 to 86400",
    ),
    "a day for a horizon": (
        'machine = "spr_cxl_asic"\nworkload = "llama"\n[episode]\nhorizon_s = 1979-05-27',
        "episode.horizon_s = datetime.date(1979, 5, 27); allowed: a number",
    ),
    "more memory than there is": (
        'machine = { dram_mib = 9223372036854775807 }\nworkload = "llama"',
        "machine.dram_mib = 9223372036854775807; allowed: a number from 64 to",
    ),
    "no CPUs": ('machine = { cpus = 0 }\nworkload = "llama"', "machine.cpus = 0; allowed: a whole number from 1"),
    "a table of events": ('machine = "spr_cxl_asic"\nworkload = "llama"\nevents = { a = 1 }', "an array of tables"),
    "events that are numbers": ('machine = "spr_cxl_asic"\nworkload = "llama"\nevents = [1]', "events[0] = 1"),
    "a list for a description": (
        'description = []\nmachine = "spr_cxl_asic"\nworkload = "llama"',
        "description = []; allowed: a string",
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_a_scenario_that_no_machine_can_be(case: str, cli: Cli, tmp_path: Path) -> None:
    text, part = LINES[case]
    (tmp_path / "bad.toml").write_text(text)
    assert_refused(cli("evaluate", "online", "--scenario", "bad.toml", "--episodes", 1), part)


PPO = 'algorithm = "ppo"\n'
DQN = 'algorithm = "dqn"\naction_form = "baseline"\n'
SAC = 'algorithm = "sac"\naction_form = "box"\n[hyperparameters]\n'
AGENTS: dict[str, tuple[str, str]] = {
    "too many machines": (PPO + "envs = 9223372036854775807", "envs is 9223372036854775807; allowed: a whole number"),
    "no machines": (PPO + "envs = 0", "envs is 0; allowed: a whole number from 1 to 1048576"),
    "half a machine": (PPO + "envs = 0.5", "envs is 0.5; allowed: a whole number"),
    "a true machine": (PPO + "envs = true", "envs is True; allowed: a whole number"),
    "a hold for ever": (PPO + "hold_ticks = 1000000000000", "hold_ticks is 1000000000000; allowed"),
    "steps beyond a checkpoint's name": (
        PPO + f"steps = {MAX_STEPS + 1}",
        f"allowed: a whole number from 1 to {MAX_STEPS}",
    ),
    "no steps": (PPO + "steps = 0", "steps is 0; allowed: a whole number from 1"),
    "checkpoints never": (PPO + "checkpoint_steps = -1", "checkpoint_steps is -1; allowed: a whole number from 1"),
    "a thread per atom": (PPO + "threads = 1000000", "threads is 1000000; allowed: a whole number from 1 to 256"),
    "a rollout that fills a hall": (
        PPO + "envs = 1048576\n[hyperparameters]\nn_steps = 10000000\nbatch_size = 1048576",
        "a rollout of n_steps = 10000000 on envs = 1048576 would take 6.3 PiB of memory",
    ),
    "a replay buffer that fills a room": (
        DQN + "[hyperparameters]\nbuffer_size = 1000000000",
        "buffer_size = 1000000000 transitions would take 7",
    ),
    "a batch that fills it": (
        DQN + "envs = 4\n[hyperparameters]\nbuffer_size = 100\nbatch_size = 100000000",
        "GiB of memory",
    ),
    "a wide network": (
        PPO + "[network]\nhidden = [65536, 65536, 65536]",
        "hidden = [65536, 65536, 65536], while it learns",
    ),
    "a deep network": (PPO + f"[network]\nhidden = {[4] * 101}", "allowed: at most 100 whole numbers from 1 to 65536"),
    "a network of truths": (PPO + "[network]\nhidden = [true]", "hidden is [True]; allowed: at most 100 whole numbers"),
    "a network of words": (PPO + '[network]\nhidden = ["64"]', "hidden is ['64']; allowed: at most 100 whole"),
    "a network that is a number": (PPO + "[network]\nhidden = 64", "hidden is 64; allowed: a list"),
    "a memory that fills a room": (
        'algorithm = "recurrent_ppo"\n[network]\nlstm_hidden_size = 100000\nn_lstm_layers = 100',
        "of memory; allowed: at most this machine's",
    ),
    "episodes with several machines": (
        DQN + 'envs = 2\n[hyperparameters]\ntrain_freq = [1, "episode"]',
        "train_freq is [1, 'episode'] with envs = 2; allowed: [number, \"step\"], or envs = 1",
    ),
    "training never": (DQN + "[hyperparameters]\ntrain_freq = 0", "train_freq is 0; allowed: 1 to 1e+06"),
    "training less than never": (
        DQN + '[hyperparameters]\ntrain_freq = [0, "step"]',
        "train_freq is [0, 'step']; allowed",
    ),
    "training every moon": (DQN + '[hyperparameters]\ntrain_freq = [1, "moon"]', "train_freq is [1, 'moon']; allowed"),
    "training at three numbers": (
        DQN + "[hyperparameters]\ntrain_freq = [1, 2, 3]",
        "train_freq is [1, 2, 3]; allowed",
    ),
    "training every list": (DQN + "[hyperparameters]\ntrain_freq = [1, [2]]", "train_freq is [1, [2]]; allowed"),
    "training every table": (
        DQN + "[hyperparameters]\ntrain_freq = [1, {a = 1}]",
        "train_freq is [1, {'a': 1}]; allowed",
    ),
    "training after more than the buffer holds": (
        DQN + "envs = 4\n[hyperparameters]\nbuffer_size = 8000\ntrain_freq = 2001",
        "train_freq is 2001 with buffer_size = 8000 and envs = 4; allowed: up to 2000",
    ),
    "training after more episodes than anybody waits for": (
        DQN + 'envs = 1\n[hyperparameters]\ntrain_freq = [1000000, "episode"]',
        "allowed: up to 1000",
    ),
    "updates beyond all patience": (DQN + "[hyperparameters]\ngradient_steps = 1000000000", "allowed: -1 to 100000"),
    "a device without data": (PPO + '[hyperparameters]\ndevice = "meta"', "device is 'meta'; allowed: cpu, auto, cuda"),
    "a device that is none": (PPO + '[hyperparameters]\ndevice = "cuda:-1"', "device is 'cuda:-1'; allowed: cpu, auto"),
    "a device that is a number": (PPO + "[hyperparameters]\ndevice = 0", "device is 0; allowed: a text"),
    "a temperature that is none": (SAC + 'ent_coef = "nan"', "ent_coef is 'nan'; allowed: a number, or"),
    "a temperature that begins at nothing": (SAC + 'ent_coef = "auto_0.0"', "ent_coef is 'auto_0.0'; allowed"),
    "a temperature of its own": (SAC + 'ent_coef = "auto_hot"', "ent_coef is 'auto_hot'; allowed"),
    "an entropy without bounds": (SAC + 'target_entropy = "inf"', "target_entropy is 'inf'; allowed"),
    "an entropy beyond all bounds": (SAC + "target_entropy = 1e30", "target_entropy is 1e+30; allowed: -1e+06 to"),
    "baselines that are numbers": (
        PPO + 'action_form = "baseline"\nbaselines = [1]',
        "baselines has 1; allowed: a list",
    ),
    "baselines that are lists": (
        PPO + 'action_form = "baseline"\nbaselines = [[]]',
        "baselines has []; allowed: a list",
    ),
    "a baseline that is a FIFO's name": (
        PPO + 'action_form = "baseline"\nbaselines = ["/dev/zero.toml"]',
        "/dev/zero.toml",
    ),
    "an algorithm that is a number": ("algorithm = 1", "algorithm is 1; allowed: a text"),
    "a policy that is a number": (PPO + "policy = 1", "policy is 1; allowed: a text"),
    "a rate that is none": (PPO + "[hyperparameters]\nlearning_rate = nan", "learning_rate is nan; allowed: 0 to 1000"),
    "a rate of 64 bits": (PPO + "[hyperparameters]\nlearning_rate = 9223372036854775807", "allowed: 0 to 1000"),
    "a schedule to nowhere": (
        PPO + "[hyperparameters]\nlearning_rate = { start = 1, end = inf }",
        "learning_rate is inf; allowed: 0 to 1000",
    ),
    "a window of less than nothing": (
        PPO + "[hyperparameters]\nstats_window_size = -1",
        "stats_window_size is -1; allowed",
    ),
    "no critics": (
        'algorithm = "td3"\naction_form = "box"\n[network]\nn_critics = 0',
        "n_critics is 0; allowed: 1 to 100",
    ),
    "a batch that does not divide": (
        PPO + "envs = 2\n[hyperparameters]\nn_steps = 8\nbatch_size = 7",
        "batch_size is 7; allowed: a divisor of the rollout's 16 steps",
    ),
}


@pytest.mark.parametrize("case", AGENTS)
def test_an_agent_that_cannot_learn(case: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, part = AGENTS[case]
    monkeypatch.setattr(memory, "physical_bytes", lambda: 16 << 30)
    (tmp_path / "bad.toml").write_text(text)
    assert_refused(cli("train", "--agent", "bad.toml", "--scenario", "llama-1to2"), "bad.toml: ", part)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


HEAD = 'description = "d"\nscenarios = ["llama-1to2"]\n'
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "scenarios that are numbers": ('description = "d"\nscenarios = [1]', "scenarios is [1]; allowed: a list"),
    "scenarios that are one name": (
        'description = "d"\nscenarios = "llama-1to2"',
        "scenarios is 'llama-1to2'; allowed",
    ),
    "agents that are tables": (
        HEAD + "agents = [{}]",
        "agents is [{}]; allowed: a list of one or more different names",
    ),
    "policies of numbers": (HEAD + "policies = [1, 2]", "policies is [1, 2]; allowed: a list"),
    "a policy with a NUL": (HEAD + 'policies = ["a\\u0000"]', "texts without NUL"),
    "a policy that is too long": (HEAD + f'policies = ["{"p" * 1000}.toml"]', "no such file"),
    "a seed below 0": (HEAD + "seed = -1", "seed is -1; allowed: an integer from 0 to 9223372036854775807"),
    "a training seed below 0": (HEAD + 'agents = ["ppo"]\ntraining_seeds = [-1]', "training_seeds is [-1]; allowed"),
    "training seeds that are words": (HEAD + 'training_seeds = ["0"]', "training_seeds is ['0']; allowed"),
    "more episodes than a batch": (HEAD + "episodes = 65537", "episodes is 65537; allowed: an integer from 1 to 65536"),
    "more steps than a name has digits": (HEAD + f"steps = {10**12}", f"allowed: an integer from 1 to {MAX_STEPS}"),
    "a variant that is a number": (HEAD + "variants = { a = 1 }", "variants is {'a': 1}; allowed: tables"),
    "a variant out of the folder": (HEAD + '[variants."../x"]\nkernel.swap_mib = 1', "allowed: tables"),
    "axes beyond counting": (
        HEAD + "[axes]\n" + "".join(f"a{i} = {{ {', '.join(f'v{k} = {{}}' for k in range(10))} }}\n" for i in range(7)),
        "axes make 10000000 variants of a scenario; allowed: at most 10000",
    ),
    "fields that are a list": (HEAD + "set = []", "set is []; allowed: a table"),
    "a field that no scenario has": (HEAD + 'policies = ["online"]\n[set]\nkernel.x = 1', "unknown key 'x'"),
    "a field of no section": (HEAD + 'set.description = "other"', "set: 'description' is in no section; allowed"),
    "a variant of no section": (HEAD + "variants.a.dt_s = 1", "variants.a: 'dt_s' is in no section; allowed"),
}


@pytest.mark.parametrize("case", EXPERIMENTS)
def test_an_experiment_that_means_nothing(case: str, cli: Cli, tmp_path: Path) -> None:
    text, part = EXPERIMENTS[case]
    (tmp_path / "bad.toml").write_text(text)
    assert_refused(cli("run", "bad.toml"), part)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


POLICIES: dict[str, tuple[str, str]] = {
    "modes that are a number": ("modes = 1", "the table [modes] is missing"),
    "a mode that is a number": ('[modes]\n"zone" = 1', "unknown mode of zone '1'"),
    "a mode that is a list": ('[modes]\n"zone" = [[]]', "unknown mode of zone '[[]]'"),
    "an entry that is none": ('[modes]\n"zoned" = "normal"', "did you mean 'zone'?"),
    "a description that is a number": ("description = 1\n[modes]", "description is 1; allowed: a text"),
    "an empty file": ("", "the table [modes] is missing"),
}
SUITES: dict[str, tuple[str, str]] = {
    "numbers": ("scenarios = [1]", "scenarios = 1; allowed: a name"),
    "one number": ("scenarios = 1", "scenarios = 1; allowed: a list"),
    "nothing": ("scenarios = []", "scenarios = []; allowed: a list"),
    "a folder": ('scenarios = ["..toml"]', "..toml"),
    "itself": ('scenarios = ["bad.toml"]', "unknown key 'scenarios'"),
    "one file twice": ('scenarios = ["a/x.toml", "./a/x.toml"]', "scenarios of different names, each once"),
    "two files of one name": ('scenarios = ["llama-1to2", "a/llama-1to2.toml"]', "scenarios of different names"),
}


@pytest.mark.parametrize(("reader", "case"), [("policy", c) for c in POLICIES] + [("suite", c) for c in SUITES])
def test_policies_and_suites_that_name_nothing(reader: str, case: str, cli: Cli, tmp_path: Path) -> None:
    text, part = (POLICIES if reader == "policy" else SUITES)[case]
    (tmp_path / "bad.toml").write_text(text)
    assert_refused(cli(*READERS[reader]("bad.toml")), part)


ON_A_SUITE = (
    "compare --policies online --episodes 1 --suite SUITE",
    "evaluate online --episodes 1 --suite SUITE",
    "networks SUITE --count 1 --out o",
    "leaderboard SUITE --policies online --against online --out o",
    "ladder SUITE --tuning train --out o",
    "stability SUITE --policies online,restrict,selector,adaptive --out o",
    "report SUITE --out r.html",
    "explain online --suite SUITE",
    "bound --suite SUITE --out o",
    "train --agent ppo --suite SUITE",
    "tune restrict --suite SUITE",
    "export restrict --to tree --suite SUITE",
)


@pytest.mark.parametrize("command", ON_A_SUITE)
@pytest.mark.parametrize("text", ["undecided_of = []", "DRAWN"], ids=["undecided", "drawn"])
def test_a_suite_of_nothing_is_refused_by_every_command(text: str, command: str, cli: Cli, tmp_path: Path) -> None:
    drawn = (paths.envs_dir() / "suites" / "train.toml").read_text().partition("[families]")[0]
    (tmp_path / "bad.toml").write_text(text.replace("DRAWN", drawn))
    done = cli(*command.replace("SUITE", "bad.toml").split())
    purpose = "suite 'bad' is for measuring"  # and not to be trained on, which is said first
    assert_refused(done, *(["suite 'bad' (bad.toml) has no scenarios"] if purpose not in done.err else []))


SETTINGS: dict[str, tuple[str, str]] = {
    "nested": ("kernel.swap_mib=" + "[" * 9000, "allowed: a TOML value"),
    "of many digits": ("kernel.swap_mib=" + "9" * 5000, "kernel.swap_mib"),
    "of many bits": ("kernel.swap_mib=0x" + "f" * 5000, "kernel.swap_mib"),
    "of many parts": ("kernel" + ".a" * 4000 + "=1", "kernel"),
    "with a NUL": ('kernel.demotion="\\u0000"', "allowed: a TOML value"),
    "in lines": ("kernel.demotion=on\nx=1", "allowed: a TOML value"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_is_no_value(case: str, cli: Cli) -> None:
    text, part = SETTINGS[case]
    assert_refused(cli("scenarios", "show", "llama-1to2", "--set", text), part)


PRESETS: dict[str, tuple[str, str]] = {
    "a machine's size": ('dram_mib = "much"', "machines: dram_mib"),
    "a machine's kernel": ('dram_mib = 4096\n[kernel]\nrelease = "5.4"', "machines: 5.4"),
    "a kernel's switch": ('demotion = "perhaps"', "kernels: demotion"),
    "a workload that is half a scenario": ('workload = "graph"\nprocesses = [{ name = "a" }]', "workloads: 'workload'"),
    "a workload's region": ('[[regions]]\nname = "a"\nmib = -1', "workloads: regions.a.mib"),
    "a suite's scenario": ('scenarios = ["nope"]', "suites: nope"),
}
"""By what is wrong: the text, its kind, and what the refusal names."""


@pytest.mark.parametrize("case", PRESETS)
@pytest.mark.parametrize("stated", [True, False])
def test_only_what_a_scenario_could_name_is_shown(case: str, stated: bool, cli: Cli, tmp_path: Path) -> None:
    text, told = PRESETS[case]
    kind, part = told.split(": ")
    (tmp_path / "bad.toml").write_text(text)
    assert_refused(cli("scenarios", "show", "bad.toml", *(("--kind", kind) if stated else ())), "bad.toml", part)


def test_a_long_value_is_cut_and_what_is_allowed_is_not() -> None:
    line = one_line("a" * 10_000 + "\n; allowed: b\x1b[31m\ud800")
    assert len(line) < 4100 and line.endswith("; allowed: b\\x1b[31m\\ud800") and line.isprintable()
    assert shown(1 << 20_000) == "a number of 20001 bits"
    assert shown([1 << 20_000]) == "a list that cannot be shown (ValueError)"
    assert shown("x" * 10**7) == "'" + "x" * 76 + "..."


def test_limits_themselves_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "full"
    path.write_bytes(b"#" * 100)
    assert len(read_bytes(path, 100)) == 100
    with pytest.raises(UserError, match="more than 99 bytes"):
        read_bytes(path, 99)
    deepest = ".".join(["a"] * MAX_NESTING) + f" = {(1 << 63) - 1}"
    assert parse_toml(deepest) and parse_toml('d = "a.b.c ... e.g. i.e."')
    for changed in (deepest.replace("a.a", "a.a.a", 1), deepest.replace("807", "808")):
        with pytest.raises(ValueError, match=r"parts|64 bits|deeply"):
            parse_toml(changed)
    check_bytes(physical_bytes(), "all")
    with pytest.raises(UserError, match=r"one more would take .*; allowed: at most this machine's"):
        check_bytes(physical_bytes() + 1, "one more")
    assert [size_text(size) for size in (1023, 1536, 1 << 70)] == ["1023.0 B", "1.5 KiB", "1024.0 EiB"]


def test_json_is_read_with_the_same_care(tmp_path: Path) -> None:
    deepest = b"[" * MAX_NESTING + b"]" * MAX_NESTING
    (tmp_path / "good.json").write_bytes(deepest)
    assert read_json(tmp_path / "good.json")
    for content in (b"[" * 100_000, b'{"a":' + deepest + b"}", b"\xff", b"9" * 5000, b"", b'{"a": \x00}'):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.json: not valid JSON"):
            read_json(tmp_path / "bad.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="not a regular file"):
        read_json(tmp_path / "pipe.json")


def test_weights_are_counted_as_torch_counts_them() -> None:
    from tiergym.lab import learner
    from tiergym.lab.recipe import load_recipe

    for name in ("ppo", "dqn", "recurrent_ppo"):
        recipe = load_recipe(name)
        if "buffer_size" in recipe.hyperparameters:
            recipe = recipe.resized(1, None)
        torch_counts = sum(parameter.numel() for parameter in learner.build(recipe, 0).policy.parameters())
        assert 0.5 * torch_counts <= weights(recipe) <= torch_counts, name


@pytest.mark.parametrize("name", ["recurrent_ppo", "recurrent_gru"])
@pytest.mark.parametrize(
    "network", [{}, {"n_lstm_layers": 3, "lstm_hidden_size": 24}, {"enable_critic_lstm": False}], ids=str
)
def test_weights_of_a_memory_are_counted_to_the_last(name: str, network: dict[str, int]) -> None:
    """An LSTM has four gates, a GRU three; the critic may have none of its own."""
    from tiergym.lab import learner
    from tiergym.lab.recipe import load_recipe

    recipe = load_recipe(name).changed({f"network.{key}": value for key, value in network.items()}, "here")
    policy = learner.build(recipe, 0).policy
    cells = [each for key, each in policy.named_parameters() if key.startswith("lstm_")]
    assert memory_weights(recipe) == sum(each.numel() for each in cells)
    assert weights(recipe) <= sum(each.numel() for each in policy.parameters())
