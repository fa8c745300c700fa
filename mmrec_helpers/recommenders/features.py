"""Item features for recommenders: TF-IDF, principal components, encoded texts and images."""

from math import sqrt

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from mmrec_helpers.data.dataset import NotAvailable, RecDataset
from mmrec_helpers.encoders.features import encode_images, encode_texts
from mmrec_helpers.recommenders.matrices import directions
from mmrec_helpers.recommenders.sequential import standardise


def tfidf(dataset: RecDataset) -> sparse.csr_array:
    """(I + 1, F) TF-IDF of the words in each item's title and description {cite}`salton1988term`.

    English stop words and words of a single item are left out; term frequency counts by its logarithm. Row 0, the
    padding, and rows of items without text are zero.

    Raises:
        NotAvailable: no two items share a word.
    """
    pairs = zip(dataset.items["title"], dataset.items["description"], strict=True)
    texts = ["", *(" ".join(part or "" for part in pair) for pair in pairs)]
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english", dtype=np.float32)
    try:
        return sparse.csr_array(vectorizer.fit_transform(texts))
    except ValueError as error:
        raise NotAvailable(f"{dataset.name}: no two items share a word in title and description ({error})") from error


def concatenate_normalised(*blocks: np.ndarray | sparse.sparray) -> np.ndarray | sparse.csr_array:
    """(I + 1, sum of F) several features side by side, each block centred and normalised by ``directions``.

    The dot product of two rows is the sum of the blocks' cosines: no block outweighs another by its number of columns
    or its scale.
    """
    normalised = [directions(block) for block in blocks]
    if any(sparse.issparse(block) for block in normalised):
        return sparse.csr_array(sparse.hstack(normalised))
    return np.concatenate(normalised, axis=1)


def shuffled_items(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(I + 1, F) features of which each item has those of another one at random; row 0, the padding, stays."""
    return np.concatenate([features[:1], rng.permutation(features[1:])])


def text_features(dataset: RecDataset, dim: int = 64, encoder: str = "tfidf") -> np.ndarray:
    """(I + 1, F) latent semantic analysis of the items' titles and descriptions {cite}`deerwester1990indexing`.

    F is ``dim``, or less where the vectors of the texts, by ``tfidf`` or a text encoder, have a lower dimension. Row 0,
    the padding, and rows of items without text are zero.
    """
    is_tfidf = encoder == "tfidf"
    vectors = tfidf(dataset) if is_tfidf else prepend_padding(encode_texts(dataset, encoder).vectors.numpy())
    return TruncatedSVD(min(dim, *vectors.shape), random_state=0).fit_transform(vectors).astype(np.float32)


def image_features(dataset: RecDataset, encoder: str) -> np.ndarray:
    """(I + 1, F) image embeddings; zeros for the padding and where there is no image."""
    return prepend_padding(encode_images(dataset, encoder).vectors.numpy())


def prepend_padding(vectors: np.ndarray) -> np.ndarray:
    """(I, F) of the items -> (I + 1, F), row 0 zeros."""
    return np.concatenate([np.zeros_like(vectors[:1]), vectors])


def principal_components(features: np.ndarray, num_components: int) -> np.ndarray:
    """(I + 1, num_components) the principal components of (I + 1, F) features; row 0, the padding, is 0."""
    components = PCA(num_components, random_state=0).fit_transform(features[1:])
    return np.concatenate([np.zeros((1, num_components)), components])


def unit_variance(features: np.ndarray) -> torch.Tensor:
    """(I + 1, F) float32 columns with mean 0 and variance 1 over the items with features; rows of zeros stay so."""
    scaled = sqrt(features.shape[1]) * standardise(features[1:])
    return torch.from_numpy(prepend_padding(scaled).astype(np.float32))
