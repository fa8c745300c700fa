"""Systems that give each user and each item a vector: ALS, BPR, and VBPR, which also sees or reads the items."""

from dataclasses import dataclass, field

import numpy as np
import torch
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.recommenders.matrices import check_rows, directions, purchases, shown
from mmrec_helpers.recommenders.pairwise import SPREAD, Pairs, Pairwise


@dataclass(eq=False, kw_only=True)
class MatrixFactorization:
    """Vectors whose dot products say what a user took, found by alternating least squares {cite}`hu2008implicit`.

    An item taken r times counts as a 1 with the confidence 1 + alpha r, every other item as a 0 with the confidence 1.
    A user's vector is solved for anew from the history at the moment, whether or not the user was in training; items
    that nobody took score 0. The package ``implicit`` does the solving.

    Args:
        dim: D, the width of the vectors.
        alpha: what an interaction adds to the confidence.
        regularization: the paper's lambda.
        iterations: rounds of solving for all users, then for all items.
        seed: of the first vectors.
        name: of the system in tables.
    """

    dim: int = 32
    alpha: float = 5.0
    regularization: float = 30.0
    iterations: int = 15
    seed: int = 0
    name: str = "matrix factorization"

    def fit(self, split: Split) -> "MatrixFactorization":
        """Find the items' vectors."""
        with threadpool_limits(1, "blas"):  # implicit has threads of its own
            self.solver = AlternatingLeastSquares(
                factors=self.dim,
                regularization=self.regularization,
                use_cg=False,  # solve, where conjugate gradients come near
                iterations=self.iterations,
                random_state=self.seed,
            )
            self.solver.fit(self._confidence(purchases(split)), show_progress=False)
        return self

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) dot products."""
        history = self._confidence(shown(queries, len(self.solver.item_factors) - 1))
        with threadpool_limits(1, "blas"):
            users = self.solver.recalculate_user(np.arange(len(queries)), history)
        return users @ self.solver.item_factors.T

    def _confidence(self, counts: sparse.csr_array) -> sparse.csr_matrix:
        """What implicit wants: the confidence where it is not 1."""
        counts.data = 1 + self.alpha * counts.data
        return sparse.csr_matrix(counts)


@dataclass(eq=False, kw_only=True)
class BPR(Pairwise):
    """Vectors whose dot products put what a user took above what the user did not take {cite}`rendle2009bpr`.

    The score is b_i + p_u . q_i. Each training interaction is set against an item that the user did not take, all such
    items equally likely. An item that nobody took in training was only ever that other item, and stands low.

    Args:
        dim: D, the width of the vectors.
        name: of the system in tables.
    """

    dim: int = 64
    name: str = "BPR"

    def make(self, split: Split) -> nn.Module:
        return _Factors(split.dataset.num_users, split.dataset.num_items, self.dim)

    def margins(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        users = pairs.users[rows]
        users, items, others = map(self.tensor, (users, pairs.items[rows], pairs.negatives(users, rng)))
        return self.model(users, items) - self.model(users, others)

    def sides(self) -> tuple[np.ndarray, ...]:
        return tuple(part.detach().cpu().numpy() for part in self.model.sides())


@dataclass(eq=False, kw_only=True)
class VBPR(BPR):
    """BPR with a second dot product, between a user's taste and what an item's features show {cite}`he2016vbpr`.

    The score is b_i + p_u . q_i + t_u . E f_i + c . f_i, where the features f_i are ``directions``. Any dense features
    will do: of pictures as in the paper, of texts, of both.

    Args:
        features: (I + 1, F), row 0 and the rows of items without features zero.
        feature_dim: width of t_u and E f_i.
    """

    features: np.ndarray = field(repr=False)
    feature_dim: int = 64
    name: str = "VBPR"

    def make(self, split: Split) -> nn.Module:
        check_rows(self.features, split, self.name)
        features = torch.as_tensor(directions(self.features))
        return _SeenFactors(super().make(split), features, self.feature_dim)


class _Factors(nn.Module):
    """b_i + p_u . q_i."""

    def __init__(self, num_users: int, num_items: int, dim: int):
        super().__init__()
        self.users, self.items = nn.Embedding(num_users, dim), nn.Embedding(num_items + 1, dim)
        self.bias = nn.Parameter(torch.zeros(num_items + 1))
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=SPREAD)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores of pairs."""
        return self.bias[items] + (self.users(users) * self.items(items)).sum(1)

    def sides(self) -> tuple[Tensor, Tensor, Tensor]:
        """(U, D) users, (I + 1, D) items, (I + 1,) biases."""
        return self.users.weight, self.items.weight, self.bias


class _SeenFactors(nn.Module):
    """b_i + p_u . q_i + t_u . E f_i + c . f_i."""

    def __init__(self, base: _Factors, features: Tensor, dim: int):
        super().__init__()
        self.base = base
        self.register_buffer("features", features, persistent=False)
        self.tastes = nn.Embedding(base.users.num_embeddings, dim)
        self.projection = nn.Linear(features.shape[1], dim, bias=False)  # E
        self.slope = nn.Parameter(torch.zeros(features.shape[1]))  # c
        nn.init.normal_(self.tastes.weight, std=SPREAD)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores of pairs."""
        features = self.features[items]
        return self.base(users, items) + (self.tastes(users) * self.projection(features)).sum(1) + features @ self.slope

    def sides(self) -> tuple[Tensor, Tensor, Tensor]:
        """As of _Factors, both dot products as one."""
        users, items, bias = self.base.sides()
        users = torch.cat([users, self.tastes.weight], dim=1)
        items = torch.cat([items, self.projection(self.features)], dim=1)
        return users, items, bias + self.features @ self.slope
