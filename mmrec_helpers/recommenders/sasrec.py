"""SASRec, and the transformer backbone that it shares with BERT4Rec."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec_helpers.lessons.decoder import TransformerBlock, attention_weights
from mmrec_helpers.recommenders.sequential import INIT_STD, CausalRecommender, SequentialRecommender


class TransformerBackbone(nn.Module):
    """Position embeddings, the transformer blocks of chapter 4, and a norm.

    Positions are counted from the end of a history, as in the papers, where padding precedes the items: so the
    position that predicts is trained by histories of every length.

    Args:
        dim: D.
        num_layers: number of blocks.
        num_heads: H, a divisor of D.
        max_len: number of positions.
        dropout: of activations; not of attention weights, which is slow on a CPU.
        causal: whether a position attends only to itself and earlier ones, or to the whole history.
    """

    def __init__(self, dim: int, num_layers: int, num_heads: int, max_len: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.positions = nn.Parameter(INIT_STD * torch.randn(max_len, dim))
        blocks = [TransformerBlock(dim, num_heads, dropout, mlp_dim=2 * dim) for _ in range(num_layers)]
        self.blocks, self.dropout, self.norm = nn.ModuleList(blocks), nn.Dropout(dropout), nn.LayerNorm(dim)
        for block in blocks:
            block.attention.dropout = 0.0

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T) bool, False at padding, -> (B, T, D)."""
        return self.norm(self.hidden_states(embeddings, mask)[-1])

    def attention(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(layers, B, H, T, T) attention weights; rows are queries."""
        states, attention_mask = self.hidden_states(embeddings, mask), self.attention_mask(mask)
        blocks = [block for block in self.blocks if isinstance(block, TransformerBlock)]  # all of them
        pairs = zip(blocks, states[:-1], strict=True)
        return torch.stack([attention_weights(block, hidden, attention_mask) for block, hidden in pairs])

    def hidden_states(self, embeddings: Tensor, mask: Tensor) -> list[Tensor]:
        """(B, T, D) before the first block and after each."""
        from_end = mask.sum(1, keepdim=True) - 1 - torch.arange(mask.shape[1], device=mask.device)
        positions = F.embedding(from_end.clamp(min=0), self.positions)
        states = [self.dropout(sqrt(embeddings.shape[2]) * embeddings + positions)]
        for block in self.blocks:
            states.append(block(states[-1], mask=self.attention_mask(mask)))
        return states

    def attention_mask(self, mask: Tensor) -> Tensor | None:
        """(B, 1, 1, T) the keys that are no padding; None is causal, where no position attends to padding anyway."""
        return None if self.causal else mask[:, None, None]


class TransformerRecommender(SequentialRecommender):
    """A sequential recommender with a transformer backbone."""

    @torch.no_grad()
    def attention(self, items: np.ndarray) -> np.ndarray:
        """(layers, H, T', T') attention weights of one history; rows are queries, columns keys.

        Args:
            items: (T,) oldest first. T' counts the special token too: BOS before, or [MASK] after the items.
        """
        inputs = torch.from_numpy(self.inputs_for(np.asarray(items)[None])).to(self.device)
        embeddings = F.embedding(inputs - 1, self.network.item_embedding())
        backbone = self.network.backbone
        assert isinstance(backbone, TransformerBackbone)
        return backbone.attention(embeddings, inputs > 0)[:, 0].float().cpu().numpy()


@dataclass(eq=False, kw_only=True)
class SASRec(TransformerRecommender, CausalRecommender):
    """A causal transformer over the history {cite}`kang2018sasrec`; ``loss="bce"`` is the paper's.

    Args:
        num_heads: H, a divisor of D.
    """

    num_heads: int = 2

    def backbone(self) -> TransformerBackbone:
        """See ``SequentialRecommender``."""
        return TransformerBackbone(self.dim, self.num_layers, self.num_heads, self.max_len, self.dropout, causal=True)
