"""What I-LLMRec trains: an adaptor, a [REC] token and a head, beside a frozen language model."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmrec_helpers.lessons.adaptor import Adaptor
from mmrec_helpers.lessons.retrieval import RetrievalHead


class VocabularyHead(RetrievalHead):
    """Items as out-of-vocabulary tokens: one output embedding each, whatever their features, as in UniMP.

    The full softmax is then the loss of the next token.
    """

    def __init__(self, hidden_dim: int, num_items: int) -> None:
        super().__init__(hidden_dim, [], 0)
        self.tokens = nn.Parameter(torch.randn(num_items, hidden_dim) / hidden_dim**0.5)

    def users_of(self, hidden: Tensor) -> Tensor:
        """(B, D) -> (1, B, D), the user states as they are."""
        return hidden[None]

    def items_of(self, features: Sequence[Tensor]) -> Tensor:
        """(1, I, D), independent of the features."""
        return self.tokens[None]


class ILLMNetwork(nn.Module):
    """All that is trained: adaptor, [REC] token, head, and weights of the language model where it is fine-tuned.

    The features of the items are stored beside them.

    Args:
        features: kind -> (I + 1, F) standardised features, row 0 is padding.
        kinds: of the features by which items are scored.
        adaptor: of the features at [VISUAL], and None without [VISUAL].
        visual: kind of those features.
        head: that turns user states into affinities.
        dim: D of the language model.
        finetuned: weights of the language model.
    """

    def __init__(
        self,
        features: Mapping[str, Tensor],
        kinds: Sequence[str],
        adaptor: Adaptor | None,
        visual: str,
        head: RetrievalHead,
        dim: int,
        finetuned: Sequence[nn.Parameter],
    ) -> None:
        super().__init__()
        self.features = nn.ParameterDict(features).requires_grad_(False)
        self.kinds, self.adaptor, self.visual, self.head = kinds, adaptor, visual, head
        self.rec = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.finetuned = nn.ParameterList(finetuned)

    @property
    def item_features(self) -> list[Tensor]:
        """(I, F) of each kind by which items are scored."""
        return [self.features[kind][1:] for kind in self.kinds]

    def mean_state(self, histories: Tensor) -> Tensor:
        """(B, T) items, 0 is padding -> (B, D) mean of their adapted features; zeros without items."""
        is_item = (histories > 0)[:, :, None]
        return (self.adapted(histories) * is_item).sum(1) / is_item.sum(1).clamp(min=1)

    def adapted(self, items: Tensor) -> Tensor:
        """(K, D) input embeddings of items."""
        assert self.adaptor is not None
        return self.adaptor(self.features[self.visual][items])
