"""SECURITY.md: a file from a stranger never runs code. That nothing is written elsewhere, `test_confined.py` tests.

Every case is one command on one malicious file or folder, which would leave a mark.
"""

import json
import pickle
import shutil
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import strangers
from tests.bad_recordings import unpacked_copy
from tests.places import ROOT
from tests.short_runs import write_short_scenario
from tests.strangers import experiment, refused, tree, write
from tiergym.lab import checkpoint, own_key, tensor_files
from tiergym.policy.load import list_policies, load_policy

PAYLOADS = (strangers.pickled, strangers.torch_archive, strangers.sb3_archive, strangers.object_array)
Case = Callable[[Path, Path], list[str]]
"""(folder, mark) to the arguments of a command on what it has put into the folder, which is the working directory."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strangers.stopped_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside") / "mark"


def names_python(spelling: str) -> Case:
    def case(folder: Path, mark: Path) -> list[str]:
        write(folder / "evil.py", strangers.python(mark))
        write_short_scenario(folder)
        return ["run", write(folder / "e.toml", experiment(f'policies = ["online", "{spelling}"]')), "--out", "out"]

    return case


def agents_name(spelling: str) -> Case:
    def case(folder: Path, mark: Path) -> list[str]:
        write(folder / "evil.py", strangers.python(mark))
        write(folder / "evil.toml", strangers.pickled(mark))
        write_short_scenario(folder)
        return ["run", write(folder / "e.toml", experiment(f'agents = ["{spelling}"]')), "--out", "out"]

    return case


def recipe(fields: str, table: str = "") -> Case:
    def case(folder: Path, mark: Path) -> list[str]:
        write(folder / "evil.py", strangers.python(mark))
        write_short_scenario(folder)
        text = f"envs = 4\nsteps = 64\n{fields.replace('FOLDER', str(folder))}\n{table}\n"
        name = write(folder / "a.toml", text)
        return ["train", "--agent", name, "--scenario", "short.toml", "--out", "out"]

    return case


def scenario(fields: str, *command: str) -> Case:
    def case(folder: Path, mark: Path) -> list[str]:
        write(folder / "evil.py", strangers.python(mark))
        write(folder / "evil.toml", strangers.pickled(mark))
        return [*command, write(folder / "s.toml", fields.replace("FOLDER", str(folder)))]

    return case


def run_folder(name: str, payload: Callable[[Path], bytes], *command: str) -> Case:
    def case(folder: Path, mark: Path) -> list[str]:
        write(folder / "r" / name, payload(mark))
        write(folder / "r" / "__init__.py", strangers.python(mark))
        write(folder / "r" / "sitecustomize.py", strangers.python(mark))
        return [*command, "r"]

    return case


def recording(name: str, *command: str) -> Case:
    def case(folder: Path, mark: Path) -> list[str]:
        spoilt = unpacked_copy(folder)
        write(spoilt / name, strangers.pickled(mark))
        return [word.replace("REC", str(spoilt)) for word in command]

    return case


def marks(folder: Path, mark: Path) -> list[str]:
    return ["validate", "marks", write(folder / "zoneinfo", strangers.pickled(mark))]


def board(name: str, spec: str) -> Case:
    def case(folder: Path, mark: Path) -> list[str]:
        write(folder / "evil.py", strangers.python(mark))
        write_short_scenario(folder)
        write(folder / "suite.toml", 'scenarios = ["short.toml"]\n')
        from tiergym.lab.leaderboard import leaderboard
        from tiergym.specs import load_suite

        made = leaderboard(
            [load_suite("suite.toml")], {"online": ["online"]}, folder / "kept", 1, 0, "online"
        ).document()
        made["policies"][name.replace("OUTSIDE", str(mark.parent))] = [{"spec": spec, "digest": ""}]
        return ["verify", write(folder / "board.json", json.dumps(made))]

    return case


NO_CODE = "is Python code that would run here"
NOT_ONNX = "not an ONNX file"
NOT_TOML = "not valid TOML"
BASELINE = 'algorithm = "dqn"\naction_form = "baseline"\nbaselines = ["{}"]'
MEASURE = ("evaluate", "online", "--scenario")
CASES: dict[str, tuple[str, Case]] = {
    "run: policies name a file": (NO_CODE, names_python("evil.py")),
    "run: policies name a class in a file": (NO_CODE, names_python("evil.py:Rule")),
    "run: policies name a module": (NO_CODE, names_python("evil:Rule")),
    "run: policies name a file elsewhere": (NO_CODE, names_python("./evil.py")),
    "run: policies name a callable of Python's own": (NO_CODE, names_python("os:system")),
    "run: agents name a file": ("unknown agent to train", agents_name("evil.py")),
    "run: agents name a pickle": (NOT_TOML, agents_name("evil.toml")),
    "train: a policy's class": ("unknown policy of PPO", recipe('algorithm = "ppo"\npolicy = "evil:Rule"')),
    "train: an extractor's class": (
        "unknown argument",
        recipe('algorithm = "ppo"', '[network]\nfeatures_extractor_class = "evil:Rule"'),
    ),
    "train: an optimiser's class": (
        "unknown argument",
        recipe('algorithm = "ppo"', '[network]\noptimizer_class = "evil:Rule"'),
    ),
    "train: an activation": ("unknown activation", recipe('algorithm = "ppo"', '[network]\nactivation = "evil:Rule"')),
    "train: a replay buffer's class": (
        "unknown argument",
        recipe('algorithm = "sac"\naction_form = "box"', '[hyperparameters]\nreplay_buffer_class = "evil:Rule"'),
    ),
    "train: a baseline's file": ("unknown static baseline", recipe(BASELINE.format("evil.py"))),
    "train: a baseline's class": ("unknown static baseline", recipe(BASELINE.format("evil:Rule"))),
    "train: a baseline's whole path": ("unknown static baseline", recipe(BASELINE.format("FOLDER/evil.py"))),
    "evaluate: a scenario's machine": (
        "unknown machine",
        scenario('machine = "evil.py"\nworkload = "llama"', *MEASURE),
    ),
    "evaluate: a scenario's workload": (
        "unknown workload",
        scenario('machine = "spr_cxl_fpga"\nworkload = "FOLDER/evil"', *MEASURE),
    ),
    "evaluate: a pickle as a machine's file": (
        NOT_TOML,
        scenario('machine = "evil.toml"\nworkload = "llama"', *MEASURE),
    ),
    "show: a scenario's machine": (
        "unknown machine",
        scenario('machine = "evil:Rule"\nworkload = "llama"', "show", "online", "--scenario"),
    ),
    "matrix: a suite names a file": (
        "unknown scenario",
        scenario('scenarios = ["evil.py"]', "matrix", "--policies", "online", "--suite"),
    ),
    "ladder: a suite names a file": (
        "unknown scenario",
        scenario('scenarios = ["evil.py"]', "ladder", "--out", "kept"),
    ),
    "ladder: a suite names a pickle": (NOT_TOML, scenario('scenarios = ["evil.toml"]', "ladder", "--out", "kept")),
    "validate: a recording's samples": ("not UTF-8", recording("samples.csv", "validate", "recordings", "REC")),
    "validate: a recording's description": ("not valid JSON", recording("meta.json", "validate", "recordings", "REC")),
    "evaluate: the file of a rule's numbers": (NO_CODE, scenario('rule = "evil.py"', "evaluate")),
    "tune: the file of a rule's numbers": (NO_CODE, scenario('rule = "evil:Rule"', "tune")),
    "validate: marks": ("no zone with managed pages", marks),
    "workload: a recording's events": (
        "not UTF-8",
        recording("workload.csv", "workload", "from-recording", "REC", "--out", "w.toml"),
    ),
    "verify: a policy's file": (NO_CODE, board("x", "evil.py")),
    "verify: a policy's class": (NO_CODE, board("x", "evil:Rule")),
    "verify: a policy's name outside": ("one of the policies is", board("OUTSIDE", "online")),
    "verify: a policy's name above": ("one of the policies is", board("../../x", "online")),
}
for payload in PAYLOADS:
    for command in (
        ("evaluate",),
        ("show",),
        ("compare", "--policies"),
        ("ladder", "validation", "--out", "kept", "--policy"),
    ):
        name = f"{command[0]}: a run whose policy.onnx is a {payload.__name__}"
        CASES[name] = (NOT_ONNX, run_folder("policy.onnx", payload, *command))


def test_the_payloads_work(mark, monkeypatch):
    """Who unpickles or imports them leaves the mark: the tests below would see it."""
    import torch
    from stable_baselines3.common.save_util import load_from_zip_file

    done = 0
    for load in (
        lambda: pickle.loads(strangers.pickled(mark)),
        lambda: exec(strangers.python(mark), {}),
        lambda: np.load(_file(mark, strangers.object_array(mark)), allow_pickle=True)["weights"],
        lambda: torch.load(_file(mark, strangers.torch_archive(mark)), weights_only=False),
        lambda: load_from_zip_file(_file(mark, strangers.sb3_archive(mark))),
    ):
        try:
            load()
        except Exception:
            assert mark.exists(), "it failed before its payload ran"
        assert mark.exists()
        mark.unlink()
        done += 1
    assert done == 5


def _file(mark: Path, data: bytes) -> Path:
    path = mark.with_name("payload.zip")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("message", "case"), CASES.values(), ids=CASES)
def test_a_stranger_s_file_runs_nothing(cli, tmp_path, mark, message, case):
    arguments = case(tmp_path, mark)
    before = tree(mark.parent)
    assert message in refused(cli, *arguments)
    assert not mark.exists() and tree(mark.parent) == before


@pytest.mark.parametrize("spelling", ["evil.py", "evil.py:Rule"])
def test_trust_lets_a_file_s_python_run(cli, tmp_path, mark, spelling):
    """And nothing less: the error names the option."""
    arguments = names_python(spelling)(tmp_path, mark)
    line = refused(cli, *arguments)
    assert spelling in line and "with --trust Python too" in line and not (tmp_path / "out").exists()
    assert cli(*arguments, "--trust").code == 0
    assert mark.exists()


def test_an_experiment_s_folder_is_no_more_trusted_than_its_file(cli, tmp_path, mark):
    write_short_scenario(tmp_path)
    assert (
        cli("run", write(tmp_path / "e.toml", experiment('policies = ["online", "restrict"]')), "--out", "out").code
        == 0
    )
    text = (tmp_path / "out/experiment.toml").read_text()
    write(tmp_path / "evil.py", strangers.python(mark))
    (tmp_path / "out/experiment.toml").write_text(text.replace('"restrict"', '"evil.py"'))
    assert "--trust" in refused(cli, "run", "--resume", "out") and not mark.exists()


def test_shipped_rules_need_no_trust_and_are_not_hidden_by_a_stranger_s(tmp_path, mark, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rules = [name for name in list_policies() if (ROOT / "agents" / f"{name}.py").is_file()]
    assert rules
    for name in rules:
        write(tmp_path / f"{name}.py", strangers.python(mark))
        assert load_policy(name, "a file").name == name
    assert not mark.exists()


def test_results_in_arrow_s_own_pickles_are_not_unpickled(cli, tmp_path, mark):
    """Arrow once unpickled the type of an extension when it read a file's schema."""
    write_short_scenario(tmp_path)
    assert cli("run", write(tmp_path / "e.toml", experiment('policies = ["online"]')), "--out", "out").code == 0

    class Evil(pa.ExtensionType):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(pa.int64(), "arrow.py_extension_type")

        def __arrow_ext_serialize__(self) -> bytes:
            return strangers.pickled(mark)

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Any:
            return cls()

    column = pa.ExtensionArray.from_storage(Evil(), pa.array([1]))
    pq.write_table(pa.table({"policy": column}), tmp_path / "out/results.parquet")
    schema = b64decode(pq.read_metadata(tmp_path / "out/results.parquet").metadata[b"ARROW:schema"])
    assert b"arrow.py_extension_type" in schema and strangers.pickled(mark) in schema
    assert "no column" in refused(cli, "run", "--resume", "out") and not mark.exists()
    write(tmp_path / "out/results.parquet", strangers.pickled(mark))
    assert "not a Parquet file" in refused(cli, "run", "--resume", "out") and not mark.exists()


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
@pytest.mark.parametrize("name", [checkpoint.LEARNER, checkpoint.RANDOM, checkpoint.REPLAY, checkpoint.MACHINES])
def test_a_checkpoint_with_a_pickle_in_it_is_refused(cli, tmp_path, trained, mark, name, payload):
    shutil.copytree(trained, tmp_path / "r")
    newest = checkpoint.latest(tmp_path / "r")
    strangers.replaced(newest, name, payload(mark))
    assert "not a file of tensors" in refused(cli, "train", "--resume", "r", "--trust")
    if name == checkpoint.LEARNER:
        assert "not a file of tensors" in refused(cli, "export", "r")
    assert not mark.exists()


@pytest.mark.parametrize("command", [("train", "--resume"), ("export",)], ids=" ".join)
def test_an_archive_of_stable_baselines3_is_not_read(cli, tmp_path, trained, mark, command):
    shutil.copytree(trained, tmp_path / "r")
    newest = checkpoint.latest(tmp_path / "r")
    (newest / checkpoint.MANIFEST).unlink()
    write(newest / "model.zip", strangers.sb3_archive(mark))
    assert "an archive that runs code when it is read" in refused(cli, *command, "r")
    assert not mark.exists()


@pytest.mark.parametrize("how", ["another user's", "changed since", "of another scenario"])
def test_a_stranger_s_machines_do_not_reach_compiled_code(cli, tmp_path, trained, monkeypatch, how):
    """Whose records may have any index in them."""
    shutil.copytree(trained, tmp_path / "r")
    newest = checkpoint.latest(tmp_path / "r")
    restored: list[Path] = []
    monkeypatch.setattr(checkpoint, "restore_episodes", lambda path, *rest: restored.append(path))
    assert checkpoint.is_own(newest)
    if how == "changed since":
        arrays = tensor_files.load(newest / checkpoint.MACHINES)
        arrays["records"][:] = 255
        tensor_files.save(newest / checkpoint.MACHINES, arrays)
        strangers.replaced(newest, checkpoint.MACHINES, (newest / checkpoint.MACHINES).read_bytes())
    elif how == "of another scenario":
        (path,) = (tmp_path / "r/scenarios").iterdir()
        path.write_text(path.read_text() + "# changed\n")
    else:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    assert not checkpoint.is_own(newest)
    done = cli("train", "--resume", "r")
    assert (
        done.code == 0 and "machines start new episodes: its machines' state was not written by this user" in done.err
    )
    assert restored == []
    shutil.rmtree(tmp_path / "r")
    shutil.copytree(trained, tmp_path / "r")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    assert cli("train", "--resume", "r", "--trust").code == 0
    assert [path.name for path in restored] == [newest.name]


@pytest.mark.parametrize(
    "command",
    [
        "stability s.toml --policies online,restrict,selector,adaptive --draws 1 --episodes 1",
        "leaderboard s.toml --policies online --against online --episodes 1",
        "networks s.toml --count 1",
        "ladder s.toml --tuning s.toml --rounds 1 --episodes 1",
        "tune restrict --scenario short.toml --trials 1",
    ],
)
def test_a_folder_of_results_that_leads_elsewhere_is_not_written_through(cli, tmp_path, mark, command):
    write_short_scenario(tmp_path)
    write(tmp_path / "s.toml", 'purpose = "train"\nscenarios = ["short.toml"]\n')
    (tmp_path / "kept").mkdir()
    for name in ("as-it-is", "draw-0", "online", "short.json", "counterfactual", "study.db"):
        (tmp_path / "kept" / name).symlink_to(mark.parent)
    assert "a link; allowed in this folder" in refused(cli, *command.split(), "--out", "kept")
    assert not list(mark.parent.iterdir())


def test_the_key_is_this_user_s_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    sealed = own_key.seal("text")
    key = tmp_path / "tiergym" / "key"
    assert len(sealed) == 64 and own_key.seal("text") == sealed and own_key.is_sealed("text", sealed)
    assert key.stat().st_mode & 0o777 == 0o600 and [path.name for path in key.parent.iterdir()] == ["key"]
    assert not own_key.is_sealed("other", sealed) and not own_key.is_sealed("text", None)
    key.chmod(0o640)
    assert own_key.seal("text") == "" and not own_key.is_sealed("text", "") and not own_key.is_sealed("text", sealed)
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    assert own_key.seal("text") == ""


def test_names_of_a_stranger_are_text_in_a_page(cli, tmp_path):
    name = "<script>alert(1)<"
    write(tmp_path / f"{name}.toml", '[modes]\n"place.pt_leaf" = "restrict"\n')
    write_short_scenario(tmp_path).rename(tmp_path / "<img src=x onerror=alert(1)>.toml")
    done = cli("show", f"{name}.toml", "--scenario", "<img src=x onerror=alert(1)>.toml", "--html", "page.html")
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text()
    assert "alert(1)" in page and "<script>alert" not in page and "<img src=x" not in page


def test_nothing_of_the_process_s_memory_goes_along_with_a_checkpoint(tmp_path):
    """Between the fields of a record is whatever was there before."""
    inner = np.dtype([("small", np.int8), ("large", np.int64)], align=True)
    record = np.dtype([("small", np.int8), ("inner", inner, (2,))], align=True)
    used = np.full(3 * record.itemsize, 0xA5, np.uint8).view(record)
    tensor_files.save(tmp_path / "a.safetensors", {"records": used})
    kept = tensor_files.load(tmp_path / "a.safetensors")["records"]
    assert np.count_nonzero(kept) == 3 * (1 + 2 * (1 + 8))
    assert (tensor_files.like("records", kept, used) == used).all()
