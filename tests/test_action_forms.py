"""The action vector, the baselines written in it, and its three forms."""

import numpy as np
import pytest
from gymnasium.error import InvalidAction

from tests.short_runs import random_modes
from tiergym import paths
from tiergym.env import actions, static_actions
from tiergym.env.action_forms import FORMS, BaselineForm, BoxForm, MultiDiscreteForm, action_form
from tiergym.errors import UserError
from tiergym.sim import names as n
from tiergym.sim.empty_tables import TABLES_PER_S
from tiergym.sim.headroom import HEADROOM_SHARE
from tiergym.sim.migrate import BUDGET_PAGES_PER_S, CALM_S
from tiergym.sim.reserve import RESERVE_SHARE

KERNEL_CLASSES = ("pt_leaf", "pt_upper", "kstack", "slab_unreclaim", "slab_reclaim", "kernel_other")
IDLE = {"migrate.pt_leaf": "idle", "migrate.slab": "idle", "migrate.kstack": "idle", "migrate.budget": "medium"}
MIGRATE = {"migrate.pt_leaf": "with_data", "migrate.slab": "idle", "migrate.kstack": "idle", "migrate.budget": "medium"}
BASELINES = {
    "online": {},
    "online_movable": {"zone": "movable"},
    "auto_movable": {"zone": "auto_movable"},
    "restrict": {f"place.{c}": "restrict" for c in KERNEL_CLASSES},
    "restrict_pt": {"place.pt_leaf": "restrict", "place.pt_upper": "restrict"},
    "soft": {f"place.{c}": "prefer_fast" for c in KERNEL_CLASSES},
    "bind_upper": {"place.pt_upper": "restrict"},
    "radiant": {"place.pt_upper": "restrict", "migrate.pt_leaf": "with_data", "migrate.budget": "medium"},
    "migrate": MIGRATE,
    "migrate_kswapd": IDLE | {"migrate.room": "kswapd"},
    "exchange_idle": IDLE | {"migrate.room": "exchange"},
    "reserve": {"reserve.pt": "large"},
    "proportional": {"limit.kernel": "proportional"},
    "pt_reclaim": {"reclaim.pt_empty": "scan"},
    "migrate_headroom": MIGRATE | {"headroom": "medium"},
    "metadata_slow": {"memmap": "on_memory", "place.slab_reclaim": "prefer_slow"},
}


@pytest.mark.parametrize(
    ("index", "entry", "modes"),
    [
        *(
            (index, f"place.{kernel_class}", {m: i for i, m in enumerate(n.PLACEMENT_MODES)})
            for index, kernel_class in enumerate(KERNEL_CLASSES)
        ),
        (
            n.A_MIGRATE_PT_LEAF,
            "migrate.pt_leaf",
            {"off": n.MIGRATE_TABLES_OFF, "with_data": n.MIGRATE_TABLES_WITH_DATA, "idle": n.MIGRATE_TABLES_IDLE},
        ),
        (n.A_MIGRATE_SLAB, "migrate.slab", {"off": n.MIGRATE_OBJECTS_OFF, "idle": n.MIGRATE_OBJECTS_IDLE}),
        (n.A_MIGRATE_KSTACK, "migrate.kstack", {"off": n.MIGRATE_OBJECTS_OFF, "idle": n.MIGRATE_OBJECTS_IDLE}),
        (n.A_MIGRATE_BUDGET, "migrate.budget", {"low": 0, "medium": 1, "high": 2}),
        (
            n.A_MIGRATE_ROOM,
            "migrate.room",
            {"free": n.ROOM_FREE, "kswapd": n.ROOM_KSWAPD, "exchange": n.ROOM_EXCHANGE},
        ),
        (n.A_LIMIT_KERNEL, "limit.kernel", {"off": n.LIMIT_OFF, "proportional": n.LIMIT_PROPORTIONAL}),
        (n.A_RESERVE_PT, "reserve.pt", {"off": n.RESERVE_OFF, "small": n.RESERVE_SMALL, "large": n.RESERVE_LARGE}),
        (n.A_RECLAIM_PT_EMPTY, "reclaim.pt_empty", {"release": n.EMPTY_TABLES_RELEASE, "scan": n.EMPTY_TABLES_SCAN}),
        (n.A_HEADROOM, "headroom", {"off": 0, "small": 1, "medium": 2, "large": 3}),
        (n.A_ZONE, "zone", {"normal": n.ZONE_NORMAL, "movable": n.ZONE_MOVABLE, "auto_movable": n.ZONE_AUTO_MOVABLE}),
        (n.A_MEMMAP, "memmap", {"dram": n.MEMMAP_DRAM, "on_memory": n.MEMMAP_ON_MEMORY}),
    ],
)
def test_entries_are_what_the_compiled_code_numbers(index, entry, modes):
    assert actions.NAMES[index] == entry
    assert {mode: i for i, mode in enumerate(actions.ENTRIES[index].modes)} == modes


def test_placement_entries_follow_the_classes():
    assert actions.NAMES[: len(KERNEL_CLASSES)] == tuple(f"place.{c}" for c in KERNEL_CLASSES)
    assert tuple(n.CLASSES[n.FIRST_KERNEL_CLASS + i] for i in range(len(KERNEL_CLASSES))) == KERNEL_CLASSES


def test_every_mode_has_its_mechanism_and_the_default_is_first():
    for entry in actions.ENTRIES:
        assert len(entry.mechanisms) == len(entry.modes) == len(set(entry.modes))
        assert all(entry.mechanisms) and entry.doc
        assert entry.default == 0


def test_every_mode_has_its_plausibility_and_the_default_is_available():
    for entry in actions.ENTRIES:
        assert len(entry.plausibility) == len(entry.modes)
        assert set(entry.plausibility) <= set(n.PLAUSIBILITIES)
        assert entry.plausibility[entry.default] == "available"


@pytest.mark.parametrize(
    ("baseline", "word"),
    [
        ("online", "available"),
        ("online_movable", "available"),
        ("restrict", "proposed"),
        ("radiant", "proposed"),
        ("metadata_slow", "proposed"),
        ("soft", "counterfactual"),
        ("exchange_idle", "counterfactual"),
    ],
)
def test_a_baseline_is_as_plausible_as_its_least_plausible_mode(baseline, word):
    action = static_actions.find(baseline).action
    assert actions.plausibility(action) == word
    assert actions.plausibility(np.stack([actions.DEFAULT, action])) == word


def test_mechanisms_give_the_models_numbers():
    def mechanism(name: str) -> tuple[str, ...]:
        return actions.ENTRIES[actions.NAMES.index(name)].mechanisms

    for text, pages_per_s in zip(mechanism("migrate.budget"), BUDGET_PAGES_PER_S, strict=True):
        assert text.startswith(f"{pages_per_s:.0f} pages per second")
    for text, share in list(zip(mechanism("headroom"), HEADROOM_SHARE, strict=True))[1:]:
        assert text.endswith(f" {100 * share:g} % of DRAM")
    for text, share in list(zip(mechanism("reserve.pt"), RESERVE_SHARE, strict=True))[1:]:
        assert f" {100 * share:g} % of " in text
    assert f" {TABLES_PER_S:.0f} tables per second" in mechanism("reclaim.pt_empty")[1]
    assert CALM_S == 0.5 and "half a second" in mechanism("migrate.slab")[1]


def test_masks_hold_the_modes_one_entry_after_the_other():
    assert len(actions.MASK_NAMES) == actions.N_MASK == actions.NVEC.sum()
    for name, offset, count in zip(actions.NAMES, actions.OFFSETS, actions.NVEC, strict=True):
        assert all(label.startswith(f"{name}=") for label in actions.MASK_NAMES[offset : offset + count])


def test_shared_arrays_cannot_be_written():
    for array in (actions.NVEC, actions.OFFSETS, actions.DEFAULT):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9


def test_names_and_numbers_are_each_others_inverse():
    rng = np.random.default_rng(0)
    for _ in range(50):
        action = rng.integers(actions.NVEC)
        np.testing.assert_array_equal(actions.from_modes(actions.to_modes(action)), action)


@pytest.mark.parametrize(
    ("modes", "words"),
    [
        ({"place.pt_lef": "restrict"}, ("here.toml", "'place.pt_lef'", "did you mean 'place.pt_leaf'")),
        ({"zone": "moveable"}, ("here.toml", "mode of zone", "'moveable'", "did you mean 'movable'")),
        ({"headroom": 2}, ("here.toml", "mode of headroom", "off, small")),
    ],
)
def test_a_wrong_name_is_refused_with_the_right_ones(modes, words):
    with pytest.raises(UserError) as caught:
        actions.from_modes(modes, source="here.toml")
    for word in words:
        assert word in str(caught.value)


def test_shipped_baselines_stand_for_what_their_names_say():
    shipped = static_actions.shipped()
    assert set(shipped) >= set(BASELINES)
    assert list(shipped) == sorted(shipped)
    for name, modes in BASELINES.items():
        np.testing.assert_array_equal(shipped[name].action, actions.from_modes(modes), err_msg=name)
        assert shipped[name].description


def test_agents_without_modes_are_no_static_actions(tmp_path, monkeypatch):
    (tmp_path / "still.toml").write_text('[modes]\nzone = "movable"\n')
    (tmp_path / "learner.toml").write_text("[ppo]\nn_steps = 128\n")
    monkeypatch.setattr(paths, "agents_dir", lambda: tmp_path)
    assert list(static_actions.shipped()) == ["still"]


def test_quoted_and_dotted_names_mean_the_same(tmp_path):
    quoted, dotted = tmp_path / "quoted.toml", tmp_path / "dotted.toml"
    quoted.write_text('[modes]\n"place.pt_leaf" = "restrict"\n"zone" = "movable"\n')
    dotted.write_text('[modes]\nplace.pt_leaf = "restrict"\nzone = "movable"\n')
    np.testing.assert_array_equal(static_actions.load(quoted).action, static_actions.find(str(dotted)).action)
    assert static_actions.load(quoted).action.any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[modes", ("not valid TOML",)),
        ('description = "nothing"\n', ("[modes] is missing", "place.pt_leaf")),
        ('[modes]\nzone = "movable"\n[mode]\n', ("unknown key 'mode'", "did you mean 'modes'")),
        ('[modes]\nzone = "mobile"\n', ("mode of zone 'mobile'", "movable")),
        ("description = 3\n[modes]\n", ("description is 3", "a text")),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        static_actions.load(path)
    for word in ("mine.toml", *words):
        assert word in str(caught.value)


def test_unknown_and_missing_baselines_are_refused(tmp_path):
    with pytest.raises(UserError, match="did you mean 'radiant'"):
        static_actions.find("radient")
    with pytest.raises(UserError, match=r"gone\.toml: No such file"):
        static_actions.find(tmp_path / "gone.toml")


def test_multidiscrete_is_the_action_itself():
    form = MultiDiscreteForm()
    np.testing.assert_array_equal(form.space.nvec, actions.NVEC)
    chosen = random_modes(7, 1, seed=1)[0]
    np.testing.assert_array_equal(form.to_modes(chosen, 7), chosen)
    np.testing.assert_array_equal(form.to_modes(chosen.astype(np.int32), 7), chosen)


@pytest.mark.parametrize("entry", range(n.N_ACTIONS))
@pytest.mark.parametrize("wrong", [-1, "too many"])
def test_multidiscrete_refuses_a_mode_that_does_not_exist(entry, wrong):
    chosen = np.zeros((3, n.N_ACTIONS), dtype=np.int64)
    chosen[1, entry] = actions.NVEC[entry] if wrong == "too many" else wrong
    with pytest.raises(InvalidAction, match=f"machine 1: {actions.NAMES[entry]} is {chosen[1, entry]}"):
        MultiDiscreteForm().to_modes(chosen, 3)


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        (MultiDiscreteForm(), np.zeros((3, n.N_ACTIONS))),
        (MultiDiscreteForm(), np.zeros((2, n.N_ACTIONS), dtype=int)),
        (MultiDiscreteForm(), np.zeros(n.N_ACTIONS, dtype=int)),
        (BoxForm(), np.zeros((3, 12), dtype=np.float32)),
        (BoxForm(), np.zeros((3, n.N_ACTIONS), dtype=bool)),
        (BaselineForm(), np.zeros(3)),
        (BaselineForm(), np.zeros((3, 1), dtype=int)),
    ],
)
def test_another_shape_or_type_is_refused(form, wrong):
    with pytest.raises(InvalidAction, match=r"allowed: (integers|numbers) of shape \(3,"):
        form.to_modes(wrong, 3)


def test_box_bins_are_equal_and_cover_every_mode():
    form = BoxForm()
    assert form.space.shape == (n.N_ACTIONS,) and form.space.dtype == np.float32
    fine = 12 * 1000
    numbers = (np.arange(fine) + 0.5) / fine * 2 - 1
    modes = form.to_modes(np.repeat(numbers[:, None], n.N_ACTIONS, axis=1).astype(np.float32), fine)
    for entry, count in enumerate(actions.NVEC):
        assert (np.diff(modes[:, entry]) >= 0).all()
        np.testing.assert_allclose(np.bincount(modes[:, entry], minlength=count), fine / count, atol=1)


def test_box_ends_and_what_lies_beyond_belong_to_the_outer_modes():
    ends = np.array([-np.float32(1e6), -1, 1, 1e6], dtype=np.float32)
    modes = BoxForm().to_modes(np.repeat(ends[:, None], n.N_ACTIONS, axis=1), 4)
    np.testing.assert_array_equal(modes[:2], 0)
    np.testing.assert_array_equal(modes[2:], np.tile(actions.NVEC - 1, (2, 1)))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_box_refuses_numbers_that_are_not_finite(number):
    chosen = np.zeros((2, n.N_ACTIONS), dtype=np.float32)
    chosen[1, n.A_ZONE] = number
    with pytest.raises(InvalidAction, match="machine 1: zone is"):
        BoxForm().to_modes(chosen, 2)


def test_baseline_form_plays_the_file_of_its_name():
    form = BaselineForm()
    shipped = static_actions.shipped()
    assert form.baseline_names == tuple(shipped) and form.space.n == len(shipped)
    modes = form.to_modes(np.arange(len(shipped)), len(shipped))
    for row, name in zip(modes, form.baseline_names, strict=True):
        np.testing.assert_array_equal(row, shipped[name].action)


def test_baseline_form_takes_a_choice_of_names_and_files(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('[modes]\nheadroom = "large"\n')
    form = BaselineForm(["restrict", mine])
    assert form.baseline_names == ("restrict", "mine")
    np.testing.assert_array_equal(form.to_modes(np.array([1]), 1)[0], actions.from_modes({"headroom": "large"}))


@pytest.mark.parametrize("index", [-1, 2])
def test_baseline_form_refuses_an_index_without_a_baseline(index):
    with pytest.raises(InvalidAction, match=f"machine 1: baseline {index}; allowed: 0 to 1 .restrict, soft"):
        BaselineForm(["restrict", "soft"]).to_modes(np.array([0, index]), 2)


def test_masks_of_each_form_are_fresh_arrays():
    masks = np.random.default_rng(2).random((4, actions.N_MASK)) < 0.5
    for name in ("multidiscrete", "box"):
        copy = action_form(name).to_masks(masks)
        np.testing.assert_array_equal(copy, masks)
        assert not np.shares_memory(copy, masks)
    form = BaselineForm()
    assert form.to_masks(masks).shape == (4, form.space.n) and form.to_masks(masks).all()


@pytest.mark.parametrize(
    ("name", "baselines", "words"),
    [
        ("boxed", None, "did you mean 'box'"),
        ("box", ["soft"], "only allowed with action_form 'baseline'"),
        ("baseline", [], "at least one"),
        ("baseline", "soft", "allowed: a list"),
        ("baseline", ["sotf"], "did you mean 'soft'"),
    ],
)
def test_unknown_forms_and_baselines_are_refused(name, baselines, words):
    with pytest.raises(UserError, match=words):
        action_form(name, baselines)


def test_every_form_has_its_name():
    assert tuple(action_form(name).name for name in FORMS) == FORMS
