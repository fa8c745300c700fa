"""captions.py: what is read of the files, the measures beside sums by hand, and a training on plain colours."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import captions, ch06
from experiments.captions import Captioner, bleu, cider, mentioned, n_grams, part_features, plain
from mmrec_helpers.encoders.models import load_encoder
from mmrec_helpers.llm.language_models import load_language_model

COLOURS = ("red", "blue", "green")


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Photographs of plain colours in the layout of the four sources; pocket models in the place of the real ones."""
    for source, (table, column, _) in captions.TABLES.items():
        (tmp_path / source / "images").mkdir(parents=True)
        rows = ["image,caption" if table == "captions.csv" else "item,title,colour,pattern,category"]
        for number in range(12):
            colour, name = COLOURS[number % 3], f"{number:02}"
            noise = np.random.default_rng(number).integers(-20, 20, (48, 48, 3))
            image = np.array(Image.new("RGB", (48, 48), colour)) + noise
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / source / "images" / f"{name}.jpg")
            if column == "image":
                rows += [f"{name}.jpg,{own} {colour} mug ." for own in ("A", "The", "One")]
            else:
                rows.append(f"{name},Noname,{colour.title()},Solid,T-shirt")
        (tmp_path / source / table).write_text("\n".join(rows))
    monkeypatch.setenv("MMREC_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(captions, "ENCODER", "pocket-resnet")
    monkeypatch.setattr(captions, "LLM", "pocket-lm")
    cached = (captions.photographs, captions.photo_llava)
    for function in cached:
        function.cache_clear()
    yield tmp_path
    for function in cached:
        function.cache_clear()


def test_captions_of_people_and_attributes_of_products(files):
    flickr, products = captions.photographs("flickr8k-train"), captions.photographs("hm-products")
    assert len(flickr.files) == len(products.files) == 12
    assert all(file.exists() for file in flickr.files)
    colour = COLOURS[int(flickr.files[0].stem) % 3]
    assert flickr.captions[0] == [f"{own} {colour} mug" for own in ("a", "the", "one")]
    assert [own[0] for own in products.captions] == [f"{fact['colour']} solid t-shirt" for fact in products.facts]


def test_plain_and_mentioned():
    assert plain(" A man's  T-shirt, leggings/tights . ") == "a man's t-shirt leggings/tights"
    assert mentioned("dark blue denim trousers", ["blue", "dark blue", "black"]) == "dark blue"
    assert mentioned("bluebell", ["blue"]) == ""


def test_parts_of_an_image_are_in_the_order_of_reading():
    encoder = load_encoder("pocket-resnet")
    image = Image.new("RGB", (64, 64), "white")
    image.paste((200, 0, 0), (32, 0, 64, 32))
    plain_image = Image.new("RGB", (64, 64), "white")
    one, other = part_features(encoder, [image, plain_image])
    assert one.shape[0] == captions.GRID**2
    first_stage = slice(0, 16)
    changed = (one[:, first_stage] - other[:, first_stage]).float().norm(dim=1)
    assert changed.argmax() == 1
    torch.testing.assert_close(part_features(encoder, [image]), one[None], rtol=1e-2, atol=1e-2)


def test_the_loss_is_that_of_the_caption_alone_after_the_image():
    llm, encoder = load_language_model("pocket-lm"), load_encoder("pocket-resnet")
    features = part_features(encoder, [Image.new("RGB", (64, 64), own) for own in COLOURS])
    torch.manual_seed(0)
    captioner = Captioner(encoder, llm, features.float().mean((0, 1)), features.float().std((0, 1)) + 1e-3)
    texts = ["a red mug", "blue"]
    total, count = 0.0, 0
    for row, text in enumerate(texts):
        parts = captioner.adaptor((features[row].float() - captioner.centre) / captioner.spread)
        answer = [*llm.tokens(text), captioner.eos]
        before, after = llm.words[captioner.start], llm.words[[*llm.tokens("\n"), *answer]]
        logits = llm.logits(llm.hidden_states(torch.cat([before, parts, after])[None]))[0].log_softmax(1)
        for place, token in enumerate(answer, start=len(logits) - len(answer)):
            total, count = total - logits[place - 1, token].item(), count + 1
    assert captioner.loss(features[:2], texts).item() == pytest.approx(total / count, rel=1e-4)


@pytest.mark.filterwarnings("ignore:(?s).*The hypothesis contains 0 counts:UserWarning")
def test_colours_are_learnt_and_the_record_has_its_controls(files, monkeypatch):
    monkeypatch.setattr(captions, "BATCH_SIZE", 4)
    monkeypatch.setattr(captions, "LR", 1e-2)
    monkeypatch.setattr(captions, "WARMUP", 2)
    epochs = captions.train_captioner

    def more(captioner, features, texts, seed, checkpoint, identity):
        many = [own.repeat(30, 1, 1) for own in features]
        return epochs(captioner, many, [own * 30 for own in texts], seed, checkpoint, identity)

    monkeypatch.setattr(captions, "train_captioner", more)
    cells = captions.plan("ch06")
    assert len({cell.fit for cell in cells}) == 1
    (_, people), (_, products) = ch06.run(cells, files / "training.pt")
    assert people.metric("CIDEr, photo-llava").mean() > 2 * people.metric("CIDEr, another photo's").mean()
    assert {name for name in people.scalars if name.startswith("BLEU")} == {
        f"BLEU, {name}" for name in ("photo-llava", "another photo's", "nearest photo's", "one person's")
    }
    for name in ("photo-llava", "nearest photo's", "another photo's", "most frequent"):
        own, wrong = products.metric(f"colour, {name}"), products.metric(f"colour wrong, {name}")
        assert ((own + wrong) <= 1).all()
    assert products.metric("colour, photo-llava").mean() > 0.8
    assert products.metric("category, most frequent").mean() == 1
    monkeypatch.setattr(captions, "train_captioner", None)  # it is in the cache
    captions.photo_llava.cache_clear()
    (_, again), _ = ch06.run(cells, files / "training.pt")
    assert again.scalars["fit seconds"] == people.scalars["fit seconds"] > 0
    np.testing.assert_array_equal(again.values["CIDEr, photo-llava"], people.values["CIDEr, photo-llava"])


def test_n_grams():
    assert n_grams("a b a b", 2) == {("a", "b"): 2, ("b", "a"): 1}
    assert n_grams("a", 2) == {}


def test_cider_by_hand():
    """Two images; a word of both has no weight."""
    references = [["a dog runs", "a dog"], ["a cat", "a cat sits"]]
    same, repeated, other = (cider([text, "a cat"], references)[0] for text in ("a dog", "a dog dog", "a cat"))
    assert other == 0
    # n = 1: of "a dog" only "dog" has a weight; with the references the cosines are 1 / sqrt(2) and 1.
    # n = 2: "a dog" is one of two bigrams in the first. No longer n-grams. The first reference has a word more.
    expected = 10 / 4 / 2 * 2 * (np.exp(-1 / 72) / np.sqrt(2) + 1)
    assert same == pytest.approx(expected)
    assert repeated < same


def test_bleu():
    references = [["a dog runs on the grass", "the dog runs"], ["a man rides a bike in town"]]
    assert bleu([own[0] for own in references], references) == pytest.approx(100)
    assert bleu(["a dog runs on the street", "a man rides a bike"], references) < 90


def test_items_without_an_image_have_no_caption(files, monkeypatch):
    from mmrec_helpers.pocket_shop.shop import load_shop

    dataset = load_shop(size="tiny")[0]
    texts = captions.item_captions(dataset)
    assert len(texts) == dataset.num_items + 1
    assert not any(text for text, has in zip(texts, dataset.has_image, strict=True) if not has)
    assert captions.item_captions(dataset) == texts


def test_captions_go_on_after_an_interruption(files, monkeypatch):
    from mmrec_helpers.pocket_shop.shop import load_shop

    dataset = load_shop(1, "tiny")[0]
    whole, write, calls = captions.item_captions(dataset), captions.Captioner.captions, []
    monkeypatch.setattr(captions, "CAPTIONED", 50)
    for path in captions.load_settings().cache.glob(f"photo/*{dataset.fingerprint}/*"):
        path.unlink()

    def interrupted(captioner, vectors):
        if len(calls) == 2:
            calls.append("interrupt")
            raise KeyboardInterrupt
        calls.append(len(vectors))
        return write(captioner, vectors)

    monkeypatch.setattr(captions.Captioner, "captions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        captions.item_captions(dataset)
    assert captions.item_captions(dataset) == whole
    assert sum(n for n in calls if n != "interrupt") == dataset.has_image.sum(), "nothing is captioned twice"
