"""Item features as recommenders take them: TF-IDF, main directions, encoded images and texts."""

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.encoders.features import encode_images, encode_texts
from mmrec_helpers.recommenders.matrices import directions


def tfidf(dataset: RecDataset) -> sparse.csr_array:
    """(I + 1, F) TF-IDF of the words in each item's title and description {cite}`salton1988term`.

    English stop words and words of one item only are left out; how often a word stands in a text counts by its
    logarithm. Row 0, the padding, is zero, and so is that of an item without text.

    Raises:
        ValueError: no two items share a word.
    """
    pairs = zip(dataset.items["title"], dataset.items["description"], strict=True)
    texts = ["", *(" ".join(part or "" for part in pair) for pair in pairs)]
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english", dtype=np.float32)
    try:
        return sparse.csr_array(vectorizer.fit_transform(texts))
    except ValueError as error:
        raise ValueError(f"{dataset.name}: no two items share a word in title and description ({error})") from error


def joined(*blocks: np.ndarray | sparse.sparray) -> np.ndarray | sparse.csr_array:
    """(I + 1, all F) the directions of several features side by side.

    The dot product of two joined rows is the sum of the blocks' cosines, so that no block outweighs another by its
    width or its scale.
    """
    blocks = [directions(block) for block in blocks]
    if any(sparse.issparse(block) for block in blocks):
        return sparse.csr_array(sparse.hstack(blocks))
    return np.concatenate(blocks, axis=1)


def text_features(dataset: RecDataset, dim: int = 64, reader: str = "tfidf") -> np.ndarray:
    """(I + 1, F) the main directions of the items' titles and descriptions {cite}`deerwester1990indexing`.

    Args:
        dataset: the items.
        dim: F, or less where there are not as many.
        reader: what makes vectors of texts: ``tfidf``, or an encoder.

    Returns:
        Zeros in row 0, the padding, and where there is no text.
    """
    read = tfidf(dataset) if reader == "tfidf" else with_padding(encode_texts(dataset, reader).vectors.numpy())
    return TruncatedSVD(min(dim, *read.shape), random_state=0).fit_transform(read).astype(np.float32)


def image_features(dataset: RecDataset, encoder: str) -> np.ndarray:
    """(I + 1, F) vectors of the pictures; zeros for the padding and where there is no picture."""
    return with_padding(encode_images(dataset, encoder).vectors.numpy())


def with_padding(vectors: np.ndarray) -> np.ndarray:
    """(I, F) of the items -> (I + 1, F), row 0 zeros."""
    return np.concatenate([np.zeros_like(vectors[:1]), vectors])


def main_directions(features: np.ndarray, num: int) -> np.ndarray:
    """(I + 1, num) the directions in which (I + 1, F) features vary most; row 0, the padding, is 0."""
    return np.concatenate([np.zeros((1, num)), PCA(num, random_state=0).fit_transform(features[1:])])
