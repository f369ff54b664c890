"""A policy's returns on a scenario, in whichever process works at it: it is loaded there, by its spelling."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tiergym.errors import UserError
from tiergym.lab.evaluate import evaluate
from tiergym.policy.base import digest_of
from tiergym.policy.load import load_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario


@lru_cache(maxsize=64)
def policy_of(spec: str, digest: str) -> Policy:
    """The policy; raises `UserError` where what lies here is another than that of the one who asked."""
    policy = load_policy(spec)
    if digest_of(policy) != digest:
        raise UserError(
            f"policy '{spec}': its digest is {digest_of(policy)} where a worker runs; allowed: {digest}, as here: the "
            "machines of a cluster need the same files"
        )
    return policy


def measure(
    spec: str, digest: str, scenario: Scenario, episodes: int, seed: int, metrics: Sequence[str]
) -> dict[str, Any]:
    """Each metric's value per episode, and microseconds per decision."""
    found = evaluate(policy_of(spec, digest), scenario, episodes, seed)
    return {metric: found.values[metric].tolist() for metric in metrics} | {"decision_us": found.decision_us}
