"""features.py: TF-IDF, principal components, and encoded texts and images as item features."""

from dataclasses import replace

import datasets
import numpy as np
import pytest
from scipy import sparse

from mmrec_helpers.data.dataset import NotAvailable
from mmrec_helpers.encoders.features import encode_texts
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.features import (
    concatenate_normalised,
    image_features,
    principal_components,
    text_features,
    tfidf,
)


@pytest.fixture(scope="module")
def dataset():
    return load_shop(0, "tiny")[0]


@pytest.mark.parametrize("kinds", [(np.array, np.array), (np.array, sparse.csr_array)])
def test_concatenated_blocks_weigh_the_same_whatever_their_scale_and_width(planted, kinds):
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(27, width)) * scale for width, scale in ((3, 1), (50, 1e3))]
    rows = concatenate_normalised(*(kind(block) for kind, block in zip(kinds, blocks, strict=True)))
    rows = rows.toarray() if sparse.issparse(rows) else rows
    means = [block.mean(axis=0) if kind is np.array else 0 for kind, block in zip(kinds, blocks, strict=True)]
    centred = [block - mean for block, mean in zip(blocks, means, strict=True)]
    units = [block / np.linalg.norm(block, axis=1, keepdims=True) for block in centred]
    assert np.allclose(rows @ rows.T, sum(block @ block.T for block in units), atol=1e-5)


def test_tfidf_reads_title_and_description_and_leaves_padding_blank(planted, planted_group):
    features = tfidf(planted.dataset)
    assert features.shape[0] == planted.dataset.num_items + 1
    known = np.asarray(features.sum(axis=1)).ravel() > 0
    assert np.array_equal(known, planted_group >= 0)
    alike = (features @ features.T).toarray()[1:26, 1:26]
    same = planted_group[1:26, None] == planted_group[1:26]
    assert alike[same].mean() > 2 * alike[~same].mean()


def test_tfidf_without_common_words_is_refused(planted):
    dataset = planted.dataset
    texts = [f"word{row}" for row in range(dataset.num_items)]
    columns = {name: dataset.items[name][:] for name in dataset.items.column_names}
    items = datasets.Dataset.from_dict(columns | {"title": texts, "description": texts}, dataset.items.features)
    with pytest.raises(NotAvailable, match="no two items share a word"):
        tfidf(replace(dataset, items=items))


def test_features_leave_padding_and_missing_pictures_at_zero(dataset):
    pictures = image_features(dataset, "pocket-clip")
    assert (pictures.any(axis=1) == dataset.has_image).all()
    texts = text_features(dataset)
    assert texts.shape == (dataset.num_items + 1, 64)
    assert not texts[0].any()


def test_an_encoders_components_keep_what_texts_have_in_common(dataset):
    vectors = encode_texts(dataset, "pocket-sbert").vectors.numpy()
    every = text_features(dataset, vectors.shape[1], "pocket-sbert")
    assert not every[0].any()
    np.testing.assert_allclose(every[1:] @ every[1:].T, vectors @ vectors.T, atol=1e-4)
    few = text_features(dataset, 8, "pocket-sbert")
    assert few.shape == (dataset.num_items + 1, 8)
    np.testing.assert_allclose(few, every[:, :8], atol=0.02)


@pytest.mark.parametrize("num", [1, 5, 20])
def test_principal_components_are_those_of_the_svd(num):
    rng = np.random.default_rng(0)
    features = rng.normal(2, 1, size=(61, 20)) * np.linspace(1, 4, 20)
    features[0] = 99  # the padding is not read
    found = principal_components(features, num)
    centred = features[1:] - features[1:].mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    assert found.shape == (61, num)
    assert not found[0].any()
    np.testing.assert_allclose(np.abs(found[1:]), np.abs(left * sizes)[:, :num], atol=1e-8)
    assert (np.diff(found[1:].var(axis=0)) < 0).all()
