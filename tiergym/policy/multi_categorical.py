"""Many small categorical distributions as one log-softmax.

stable-baselines3 makes one `torch.distributions.Categorical` per entry of a MultiDiscrete space and loops over
them in Python: with the entries of an action that costs more than the network. Here the entries are padded to the
widest one and computed together; the results are those of `MultiCategoricalDistribution` to rounding.
"""

from collections.abc import Sequence

import numpy as np
import torch as th
from stable_baselines3.common.distributions import MultiCategoricalDistribution

MASKED_LOGIT = -1e8
"""sb3-contrib's logit of a masked mode: its probability is exactly 0, and no NaN enters the entropy."""
PADDING_LOGIT = -1e9
"""Below a masked mode's, so that padding has probability 0 even where every mode of an entry is masked."""


def padding_index(action_dims: Sequence[int]) -> th.Tensor:
    """For each (mode, entry) of the padded table, its column in the flat logits; padding points one past the end.

    int64 (max modes x entries,). Modes are the outer axis: reducing over it keeps the inner loops long.
    """
    widest, total = max(action_dims), sum(action_dims)
    starts = np.cumsum([0, *action_dims[:-1]])
    return th.tensor(
        [
            start + mode if mode < width else total
            for mode in range(widest)
            for start, width in zip(starts, action_dims, strict=True)
        ]
    )


class FusedMultiCategorical(MultiCategoricalDistribution):
    """Independent categoricals over `action_dims` modes each, computed as one table.

    Drop-in for SB3's `MultiCategoricalDistribution`; `apply_masking` makes it one for sb3-contrib's
    `MaskableMultiCategoricalDistribution` too. Shapes: logits (N, sum(action_dims)), actions (N, entries).
    """

    def __init__(self, action_dims: Sequence[int]) -> None:
        super().__init__(list(action_dims))
        self.widest = max(action_dims)
        self._index = padding_index(action_dims)

    def proba_distribution(self, action_logits: th.Tensor) -> "FusedMultiCategorical":
        """Take the unnormalised logits (N, sum(action_dims)); returns itself."""
        self.logits = action_logits
        self._index = self._index.to(action_logits.device)
        count = len(action_logits)
        padded = th.cat([action_logits.t(), action_logits.new_full((1, count), PADDING_LOGIT)])
        table = padded.index_select(0, self._index).view(self.widest, -1)
        self.log_probs = th.log_softmax(table, dim=0)  # (widest, entries x N)
        return self

    def apply_masking(self, masks: th.Tensor | np.ndarray | None) -> None:
        """Give probability 0 to the modes whose mask, (N, sum(action_dims)) bool, is False; None changes nothing."""
        if masks is None:
            return
        allowed = th.as_tensor(masks, dtype=th.bool, device=self.logits.device).reshape(self.logits.shape)
        self.proba_distribution(self.logits.masked_fill(~allowed, MASKED_LOGIT))

    def _per_machine(self, table: th.Tensor) -> th.Tensor:
        """(entries x N,) to (entries, N)."""
        return table.view(len(self.action_dims), -1)

    def log_prob(self, actions: th.Tensor) -> th.Tensor:
        """Log-probability (N,) of actions (N, entries)."""
        chosen = actions.long().t().reshape(1, -1)
        return self._per_machine(self.log_probs.gather(0, chosen)).sum(dim=0)

    def entropy(self) -> th.Tensor:
        """Entropy (N,), summed over the entries, in nats."""
        return -self._per_machine((self.log_probs * self.log_probs.exp()).sum(dim=0)).sum(dim=0)

    def sample(self) -> th.Tensor:
        """Actions (N, entries) int64, by inverting the cumulative distribution: one uniform number per entry.

        Dividing by the total makes the cumulative exactly 1 from the last possible mode on, so no rounding
        can choose padding or a masked mode.
        """
        cumulative = self.log_probs.exp().cumsum(dim=0)
        cumulative = cumulative / cumulative[-1:]
        uniform = th.rand(1, cumulative.shape[1], device=cumulative.device)
        return self._per_machine((uniform >= cumulative).sum(dim=0)).t().contiguous()

    def mode(self) -> th.Tensor:
        """Most probable action (N, entries) int64; the first of equals."""
        return self._per_machine(self.log_probs.argmax(dim=0)).t().contiguous()
