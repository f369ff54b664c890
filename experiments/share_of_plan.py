"""Of what the plan P wins over stock Linux, what policies of a leaderboard win, per suite: median and mean over
families; and what they save of stock Linux's loss, as a mean.

    python experiments/share_of_plan.py rungs.json runs/board NAME...

`rungs.json` is what `tiergym ladder --json` wrote, the folder what `tiergym leaderboard --out` kept.
"""

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def returns(board: Path, policy: str, scenarios: list[str]) -> NDArray[np.float64]:
    """Mean return of a policy's one run on each scenario, float64 (scenarios,)."""
    cells = (json.loads((board / policy / f"{name}.json").read_text()) for name in scenarios)
    return np.array([np.mean(cell["result"]["return"]) for cell in cells])


def main() -> None:
    """A line per suite and policy."""
    rungs, board, policies = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    for suite, families in json.loads(rungs.read_text())["suites"].items():
        scenarios, plan = [each["scenario"] for each in families], np.array([np.mean(f["plan"]) for f in families])
        online = returns(board, "online", scenarios)
        if (plan - online <= 0).any():
            continue
        for policy in policies:
            mine = returns(board, policy, scenarios)
            share = (mine - online) / (plan - online)
            saved = float(np.mean(1 - mine / online))
            print(f"{suite} {policy}: of P median {np.median(share):.2f}, mean {share.mean():.2f}; saves {saved:.2f}")


if __name__ == "__main__":
    main()
