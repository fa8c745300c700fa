"""Matrix factorization by alternating least squares, BPR, and VBPR, which also uses item features."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.lessons.bpr import Factors, FactorsWithFeatures
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.matrices import check_rows, directions, history_counts, interaction_counts
from mmrec_helpers.recommenders.pairwise import Pairs, PairwiseRecommender


@dataclass(eq=False, kw_only=True)
class MatrixFactorization(BaseRecommender):
    """Implicit-feedback matrix factorization by alternating least squares {cite}`hu2008implicit`.

    An item with r interactions is a positive with confidence 1 + alpha r, every other item a negative with confidence
    1. A user's embedding is solved from the history of the query, so users need not be in the training part. Items
    without interactions score 0. Uses the package ``implicit``.

    Args:
        dim: D.
        alpha: confidence added by an interaction.
        regularization: the paper's lambda.
        iterations: each solves for all users, then for all items.
        seed: of the initial embeddings.
    """

    FITTED = ("item_factors",)
    dim: int = 32
    alpha: float = 5.0
    regularization: float = 30.0
    iterations: int = 15
    seed: int = 0
    name: str = "matrix factorization"

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Solve for the item embeddings."""
        with threadpool_limits(1, "blas"):  # implicit has threads of its own
            solver = self._solver()
            solver.fit(self._confidence(interaction_counts(split)), show_progress=False)
        self.item_factors = solver.item_factors

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) dot products."""
        history = self._confidence(history_counts(queries, len(self.item_factors) - 1))
        with threadpool_limits(1, "blas"):
            solver = self._solver()
            solver.item_factors = self.item_factors
            users = solver.recalculate_user(np.arange(len(queries)), history)
        return users @ self.item_factors.T

    def _solver(self) -> AlternatingLeastSquares:
        """The solver, without embeddings."""
        return AlternatingLeastSquares(
            factors=self.dim,
            regularization=self.regularization,
            use_cg=False,  # exact, unlike conjugate gradients
            iterations=self.iterations,
            random_state=self.seed,
        )

    def _confidence(self, counts: sparse.csr_array) -> sparse.csr_matrix:
        """The confidences that differ from 1, as ``implicit`` expects them."""
        counts.data = 1 + self.alpha * counts.data
        return sparse.csr_matrix(counts)


@dataclass(eq=False, kw_only=True)
class BPR(PairwiseRecommender):
    """Matrix factorization trained by Bayesian personalized ranking {cite}`rendle2009bpr`.

    The score is b_i + p_u . q_i. Each training interaction is compared with one negative, sampled uniformly. An item
    without training interactions is only ever a negative and gets low scores.

    Args:
        dim: D.
    """

    dim: int = 64
    name: str = "BPR"
    model: Factors | FactorsWithFeatures = field(init=False, repr=False)

    def build_model(self, split: Split) -> nn.Module:
        """See ``PairwiseRecommender``."""
        return Factors(split.dataset.num_users, split.dataset.num_items, self.dim)

    def score_differences(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """See ``PairwiseRecommender``."""
        users = pairs.users[rows]
        users, items, others = map(self.tensor, (users, pairs.items[rows], pairs.negatives(users, rng)))
        return self.model(users, items) - self.model(users, others)

    def embeddings(self) -> tuple[np.ndarray, ...]:
        """See ``PairwiseRecommender``."""
        return tuple(part.detach().cpu().numpy() for part in self.model.embeddings())


@dataclass(eq=False, kw_only=True)
class VBPR(BPR):
    """BPR with a second dot product, between a user and an item's projected features {cite}`he2016vbpr`.

    The score is b_i + p_u . q_i + t_u . E f_i + c . f_i, where the features f_i are ``directions``: of images, as in
    the paper, of texts, or of both.

    Args:
        features: (I + 1, F) dense; zeros in row 0 and for items without features.
        feature_dim: dimension of t_u and E f_i.
    """

    NOT_SAVED = ("features",)
    features: np.ndarray = field(repr=False)
    feature_dim: int = 64
    name: str = "VBPR"

    def build_model(self, split: Split) -> nn.Module:
        """See ``PairwiseRecommender``."""
        check_rows(self.features, split, self.name)
        features = torch.as_tensor(directions(self.features))
        base = Factors(split.dataset.num_users, split.dataset.num_items, self.dim)
        return FactorsWithFeatures(base, features, self.feature_dim)
