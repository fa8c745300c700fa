"""GRU4Rec: gated recurrent units over the history."""

from dataclasses import dataclass
from math import sqrt

from torch import Tensor, nn

from mmrec_helpers.recommenders.sequential import CausalRecommender


class GRUBackbone(nn.Module):
    """Layers of gated recurrent units between dropout and a norm."""

    def __init__(self, dim: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, dim, num_layers, batch_first=True)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T) bool -> (B, T, D). Padding at the right needs no mask: no item follows it."""
        hidden = self.gru(self.dropout(sqrt(embeddings.shape[2]) * embeddings))[0]
        return self.norm(self.dropout(hidden))


@dataclass(eq=False, kw_only=True)
class GRU4Rec(CausalRecommender):
    """Gated recurrent units over the history {cite}`hidasi2016gru4rec`.

    The paper ranks the target above the other targets of the batch (TOP1, BPR). The default here is cross-entropy,
    which its authors found to be better later {cite}`hidasi2018gru4rec`.
    """

    num_layers: int = 1
    lr: float = 4e-3

    def backbone(self) -> GRUBackbone:
        """See ``SequentialRecommender``."""
        return GRUBackbone(self.dim, self.num_layers, self.dropout)
