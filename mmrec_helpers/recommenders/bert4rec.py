"""BERT4Rec: a bidirectional transformer over the history."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmrec_helpers.recommenders.sasrec import TransformerBackbone, TransformerRecommender
from mmrec_helpers.recommenders.sequential import last_positions, pad_right


@dataclass(eq=False, kw_only=True)
class BERT4Rec(TransformerRecommender):
    """A bidirectional transformer that learns to predict masked items {cite}`sun2019bert4rec`.

    A query is a history with [MASK] after it. So some training histories have only their last item masked, as in the
    paper's fine-tuning. Only masked positions have a loss, so it needs more epochs than SASRec.

    Args:
        num_heads: H, a divisor of D.
        mask_probability: of each item of a history.
        mask_last_probability: of masking the last item alone.
    """

    num_heads: int = 2
    mask_probability: float = 0.3
    mask_last_probability: float = 0.1
    dropout: float = 0.2

    def backbone(self) -> TransformerBackbone:
        """See ``SequentialRecommender``."""
        return TransformerBackbone(self.dim, self.num_layers, self.num_heads, self.max_len, self.dropout, causal=False)

    def inputs_and_targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See ``SequentialRecommender``."""
        items = rows[:, 1:]
        masked = (items > 0) & (torch.rand(items.shape, device=items.device) < self.mask_probability)
        last_only = torch.rand(len(items), 1, device=items.device) < self.mask_last_probability
        masked = torch.where(last_only | ~masked.any(1, keepdim=True), last_positions(items), masked)
        return items.masked_fill(masked, self.special_token_id), items * masked

    def inputs_for(self, items: np.ndarray) -> np.ndarray:
        """See ``SequentialRecommender``."""
        items = items[:, max(items.shape[1] - self.max_len + 1, 0) :]
        return pad_right(np.concatenate([items, np.full((len(items), 1), self.special_token_id)], axis=1))
