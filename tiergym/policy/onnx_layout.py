"""What an exported policy says about itself, and the refusal of one that speaks of another machine.

The layout is one JSON text under the key `tiergym` of the ONNX file's `metadata_props`: the actions' names and modes
in order, the observations' names in order, and the layout version, so that a refusal names the entry that differs.
Inputs are `obs` (N, N_OBS) float32 and `masks` (N, N_MASK) bool, output is `actions` (N, N_ACTIONS) int64; a recurrent
policy also has `state` and `next_state` (N, S) float32.
"""

import json
from itertools import zip_longest
from typing import Any

from tiergym.env import actions as act
from tiergym.env import observations
from tiergym.errors import UserError, shown

METADATA_KEY = "tiergym"


def current_layout() -> dict[str, Any]:
    """The layout that this tiergym has."""
    return {
        "actions": [{"name": entry.name, "modes": list(entry.modes)} for entry in act.ENTRIES],
        "observations": [entry.name for entry in observations.ENTRIES],
        "layout_version": observations.LAYOUT_VERSION,
    }


def layout_json() -> str:
    """`current_layout` as the text that an export stores."""
    return json.dumps(current_layout())


def check_layout(text: str | None, path: str) -> None:
    """Raise `UserError`, naming the first difference, unless `text` describes this tiergym's layout."""
    if text is None:
        raise UserError(f"{path}: no '{METADATA_KEY}' metadata; allowed: a policy written by `tiergym export`")
    try:
        layout = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its '{METADATA_KEY}' metadata is not JSON: {error}") from error
    if not isinstance(layout, dict):
        raise UserError(f"{path}: its '{METADATA_KEY}' metadata is not a JSON object")
    for key, here in current_layout().items():
        there = layout.get(key)
        if there == here:
            continue
        if not (isinstance(there, list) and isinstance(here, list)):
            raise UserError(f"{path}: {key} is {shown(there)}; this tiergym has {shown(here)}: export the policy again")
        pairs = enumerate(zip_longest(there, here))
        index, (theirs, ours) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise UserError(
            f"{path}: {key}[{index}] is {shown(theirs)}, in this tiergym it is {shown(ours)} "
            f"({len(there)} there, {len(here)} here): the policy was made for another layout; train it again"
        )
