"""The shop's texts tell what they are told to tell, and nothing else."""

import html
import itertools
import re

import numpy as np
import pytest

from mmrec_helpers.pocket_shop import catalogue, wording

VALUES = {
    "colour": catalogue.COLOURS,
    "pattern": catalogue.PATTERNS,
    "style": catalogue.STYLES,
    "occasion": catalogue.OCCASIONS,
    "price_tier": catalogue.PRICE_TIERS,
}
SUBSETS = [subset for n in range(4) for subset in itertools.combinations(catalogue.MENTIONABLE, n)]
# Words that would give an attribute away without naming it.
HINTS = re.compile(
    r"\b(scarlet|crimson|amber|golden|navy|turquoise|violet|rosy|silver|stripes?|dots?|spots?|polka|chequered|checks?|"
    r"squares?|flowers?|flowery|petals?|blossoms?|contemporary|sleek|minimal\w*|timeless|vintage|traditional|rural|"
    r"farmhouse|country|fun|cheerful|whimsical|wood|wooden|metal|clay|porcelain|earthenware|hide|knitted|woven|"
    r"trips?|journeys?|suitcase|colleagues?|workplace|celebrations?|birthdays?|cheap|expensive|prices?|affordable|"
    r"exclusive)\b",
    re.IGNORECASE,
)
GOOD = {"love", "loved", "happy", "happier", "delighted", "perfect", "wonderful", "favourite", "nice", "pleased",
        "glad", "good", "recommend", "five", "better than", "best", "well done", "dreamed", "like"}  # fmt: skip
BAD = {"disappointed", "disappointing", "regret", "waste", "worst", "terrible", "awful", "never", "let-down", "sadly",
       "expected", "hoped", "sending", "refund", "too many", "would not", "not for me", "not really", "meh",
       "not one"}  # fmt: skip


def random_facts(rng: np.random.Generator) -> dict[str, str]:
    facts = {name: str(rng.choice(values)) for name, values in VALUES.items()}
    facts["category"] = str(rng.choice(catalogue.CATEGORIES))
    facts["material"] = str(rng.choice(catalogue.MATERIALS_OF[facts["category"]]))
    facts["brand"] = wording.brand_name(rng.random(wording.NUM_DRAWS_BRAND))
    return facts


@pytest.fixture(scope="module")
def shop() -> list[tuple[dict[str, str], np.ndarray]]:
    rng = np.random.default_rng(20240611)
    return [(random_facts(rng), rng.random(wording.NUM_DRAWS_DESCRIPTION)) for _ in range(3000)]


def sentences_of(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", text)


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text)


def assert_clean(text: str) -> None:
    assert "  " not in text
    assert not re.search(r"[{}<>]", text), text
    assert text == text.strip()
    assert all(sentence[0].isupper() and sentence[-1] in ".!?" for sentence in sentences_of(text)), text
    assert not re.search(r"\b[Aa] [aeio]|\b[Aa] (umbrella|used)|\b[Aa]n (?!hour)[^aeiouAEIOU]", text), text
    assert not re.search(r"\b(\w+) \1\b|,,|\.\.|\s[,.!?]", text), text


# --- brand names and titles ---------------------------------------------------------------------------------------


def all_brands() -> list[str]:
    counts = [len(wording.BRAND_STARTS), len(wording.BRAND_MIDDLES), len(wording.BRAND_ENDS)]
    grid = itertools.product(*(range(n) for n in counts))
    return [wording.brand_name([(i + 0.5) / n for i, n in zip(row, counts, strict=True)] + [0.0] * 5) for row in grid]


def test_brand_names_are_single_words_free_of_attributes():
    brands = all_brands()
    assert len(set(brands)) == len(brands) >= 400
    forbidden = [word for values in VALUES.values() for word in values]
    forbidden += [*catalogue.CATEGORIES, *catalogue.MATERIALS, "parties"]
    for brand in brands:
        assert re.fullmatch(r"[A-Z][a-z]{4,}", brand)
        assert not any(word in brand.lower() for word in forbidden), brand
        assert not re.search(r"(.)\1\1", brand.lower()), brand


def test_titles_name_brand_and_category_and_at_most_the_occasion(shop):
    titles = set()
    for facts, draws in shop:
        title = wording.title(facts, draws[: wording.NUM_DRAWS_TITLE])
        titles.add(title)
        assert len(title.split()) <= 8
        assert facts["brand"] in title
        told = wording.told_attributes(title)
        assert told.pop("category") == {facts["category"]}
        assert told in ({}, {"occasion": {facts["occasion"]}})
        assert not HINTS.search(title)
        assert not re.search(r"[{}]|  |^\s|\s$", title)
    assert len(titles) > 0.95 * len(shop)


# --- descriptions ---------------------------------------------------------------------------------------------------


def test_descriptions_tell_the_facts_and_the_mentions_and_nothing_else(shop):
    for facts, draws in shop:
        for mentions in SUBSETS:
            text = wording.description(facts, mentions, draws)
            told = {name: {facts[name]} for name in ("category", "material", "occasion", *mentions)}
            assert wording.told_attributes(text) == told, text
            assert facts["brand"] in words_of(text)
            assert 40 <= len(text.split()) <= 120
            assert 4 <= len(sentences_of(text)) <= 7


def test_no_choice_of_sentences_is_too_short_or_too_long():
    for category in catalogue.CATEGORIES:
        for material, occasion in itertools.product(catalogue.MATERIALS_OF[category], catalogue.OCCASIONS):
            lengths = {
                slot: [len(s.split()) for s in wording._fact_options(slot, category, material, occasion)]
                for slot in (*wording.FACT_SENTENCES, "occasion")
            }
            for attribute in catalogue.MENTIONABLE:
                told = [wording._picture_options(attribute, category, value) for value in (VALUES[attribute][0], None)]
                lengths[attribute] = [len(s.split()) for options in told for s in options]
            for frame in wording.FRAMES:
                assert sum(min(lengths[slot]) for slot in frame) >= 40
                assert sum(max(lengths[slot]) for slot in frame) <= 120


def test_changing_the_mentions_changes_only_their_sentences(shop):
    for facts, draws in shop:
        frame = wording.FRAMES[int(draws[0] * len(wording.FRAMES))]
        silent = sentences_of(wording.description(facts, (), draws))
        for mentions in SUBSETS:
            telling = sentences_of(wording.description(facts, set(mentions), draws))
            changed = {slot for slot, old, new in zip(frame, silent, telling, strict=True) if old != new}
            assert changed == set(mentions)


def test_hidden_values_leave_no_trace(shop):
    """An item that differs only in what its description hides has the very same description."""
    rng = np.random.default_rng(5)
    for facts, draws in shop[:500]:
        for mentions in SUBSETS:
            hidden = set(catalogue.MENTIONABLE) - set(mentions)
            others = {name: str(rng.choice(VALUES[name])) for name in (*hidden, "price_tier")}
            assert wording.description(facts, mentions, draws) == wording.description(facts | others, mentions, draws)


def all_sentences():
    """Every sentence that can occur in a description, with the attributes it tells."""
    for category in catalogue.CATEGORIES:
        for material, occasion in itertools.product(catalogue.MATERIALS_OF[category], catalogue.OCCASIONS):
            for slot in (*wording.FACT_SENTENCES, "occasion"):
                yield from ((slot, s) for s in wording._fact_options(slot, category, material, occasion))
        for attribute in catalogue.MENTIONABLE:
            for value in (*VALUES[attribute], None):
                yield from ((attribute, s) for s in wording._picture_options(attribute, category, value))


def test_every_sentence_is_clean_english_without_hints():
    for sentence in {sentence for _, sentence in all_sentences()}:
        text = sentence.replace("{brand}", "Alderlow")
        assert_clean(text)
        assert len(sentences_of(text)) == 1, text
        assert not HINTS.search(text), text


def test_every_slot_has_at_least_eight_options_and_a_position_of_its_own():
    for category in catalogue.CATEGORIES:
        for slot in (*wording.FACT_SENTENCES, "occasion"):
            for occasion in catalogue.OCCASIONS:
                options = wording._fact_options(slot, category, catalogue.MATERIALS_OF[category][0], occasion)
                assert len(set(options)) == len(options) >= 8
        for attribute in catalogue.MENTIONABLE:
            telling = wording._picture_options(attribute, category, VALUES[attribute][0])
            silent = wording._picture_options(attribute, category, None)
            assert len(set(telling)) >= 8
            assert len(set(silent)) >= 8
            # A told and a hidden attribute take about the same room.
            assert abs(np.mean([len(s.split()) for s in telling]) - np.mean([len(s.split()) for s in silent])) < 2
    positions = list(wording.SLOT_POSITIONS.values())
    assert len(set(positions)) == len(positions)
    assert 0 < min(positions) <= max(positions) < wording.NUM_DRAWS_DESCRIPTION


def test_frames_tell_each_fact_once_in_at_least_three_orders():
    parts = {"who_all": {"who", "material", "occasion"}, "who_material": {"who", "material"},
             "who_occasion": {"who", "occasion"}, "material_occasion": {"material", "occasion"}}  # fmt: skip
    for frame in wording.FRAMES:
        told = [part for slot in frame for part in parts.get(slot, {slot}) if part != "service"]
        assert sorted(told) == ["colour", "material", "occasion", "pattern", "style", "who"]
    assert len(set(wording.FRAMES)) == len(wording.FRAMES) >= 3


def test_descriptions_are_varied(shop):
    masked = set()
    for facts, draws in shop[:1200]:
        text = wording.description(facts, ("colour",), draws).replace(facts["brand"], "BRAND")
        assert_clean(text)
        thing = f"{wording.THINGS[facts['category']]}|{wording.SHORTS[facts['category']]}|{facts['category']}"
        masked.add(re.sub(rf"\b({thing})s?\b", "THING", text))
    assert len(masked) >= 0.95 * 1200


@pytest.mark.parametrize("mention", ["material", "price_tier", "color"])
def test_unknown_mentions_are_refused_by_name(shop, mention):
    facts, draws = shop[0]
    with pytest.raises(ValueError, match=mention):
        wording.description(facts, ("colour", mention), draws)


# --- soiled descriptions -------------------------------------------------------------------------------------------


def test_soil_keeps_every_word_in_order_and_adds_no_attribute(shop):
    rng = np.random.default_rng(6)
    for facts, draws in shop:
        clean = wording.description(facts, ("style",), draws)
        soiled = wording.soil(clean, rng.random(wording.NUM_DRAWS_SOIL))
        assert re.search(r"<(p|br|b|div|ul|li)>", soiled)
        visible = html.unescape(re.sub(r"<[^>]+>", " ", soiled))
        rest = iter(words_of(visible))
        assert all(word in rest for word in words_of(clean)), soiled
        assert wording.told_attributes(soiled) == wording.told_attributes(clean)
        assert soiled.count("<b>") == soiled.count("</b>")
        assert soiled.count("<p>") == soiled.count("</p>")


# --- reviews -------------------------------------------------------------------------------------------------------

ABOUT = (None, *catalogue.TASTE_ATTRIBUTES)


def test_reviews_tell_only_what_was_liked_and_missed(shop):
    rng = np.random.default_rng(7)
    for facts, _ in shop:
        liked, missed = rng.choice(len(ABOUT), size=2, replace=False)
        liked, missed = ABOUT[liked], ABOUT[missed]
        text = wording.review(facts, int(rng.integers(1, 6)), liked, missed, rng.random(wording.NUM_DRAWS_REVIEW))
        told = wording.told_attributes(text)
        assert told.pop("category", {facts["category"]}) == {facts["category"]}
        about = {attribute for attribute in (liked, missed) if attribute not in (None, "brand")}
        assert told == {attribute: {facts[attribute]} for attribute in about}, text
        assert (facts["brand"] in text) == ("brand" in (liked, missed))
        assert 1 <= len(sentences_of(text)) <= 2
        assert len(text.split()) <= 32
        assert_clean(text)


def has_any(text: str, phrases: set[str]) -> bool:
    return any(re.search(rf"\b{re.escape(phrase)}\b", text.lower()) for phrase in phrases)


def test_reviews_agree_with_their_rating():
    for texts in (wording.WHOLE_REVIEWS, wording.OPENERS):
        every = [text for rating in range(1, 6) for text in texts[rating]]
        assert len(set(every)) == len(every)
        for rating in range(1, 6):
            assert len(texts[rating]) >= 6
        for text in (*texts[5], *texts[4]):
            assert not has_any(text, BAD), text
        for text in (*texts[2], *texts[1]):
            assert not has_any(text, GOOD), text
    assert not GOOD & BAD


def test_liked_and_missed_clauses_are_many_and_never_the_same():
    assert set(wording.LIKED) == set(wording.MISSED) == set(catalogue.TASTE_ATTRIBUTES)
    regret = re.compile(r"\b(not|no|wish|off|other than|another brand|too|less|little use|rather)\b")
    for attribute in catalogue.TASTE_ATTRIBUTES:
        liked, missed = wording.LIKED[attribute], wording.MISSED[attribute]
        assert len(set(liked)) >= 6
        assert len(set(missed)) >= 6
        assert not any(regret.search(clause) for clause in liked)
        assert all(regret.search(clause) for clause in missed)


@pytest.mark.parametrize("rating", [0, 6, 2.5])
def test_impossible_ratings_are_refused_by_value(shop, rating):
    with pytest.raises(ValueError, match=re.escape(str(rating))):
        wording.review(shop[0][0], rating, None, None, shop[0][1])


def test_reviews_about_something_unknown_are_refused_by_name(shop):
    with pytest.raises(ValueError, match="smell"):
        wording.review(shop[0][0], 4, "smell", None, shop[0][1])


# --- reading back --------------------------------------------------------------------------------------------------


def test_told_attributes_reads_whole_words_in_any_case():
    text = (
        "RED Sneakers and a T-shirt made of recycled plastic: for Parties, outdoors, gifts. Captain, hundred, greenish."
    )
    assert wording.told_attributes(text) == {
        "colour": {"red"},
        "category": {"sneaker", "t-shirt"},
        "material": {"plastic"},
        "occasion": {"party", "outdoor", "gift"},
    }
    assert wording.told_attributes("") == {}
    for attribute, values in VALUES.items():
        for value in values:
            assert wording.told_attributes(f"quite {value}.") == {attribute: {value}}


def test_every_text_depends_on_nothing_but_its_arguments(shop):
    facts, draws = shop[1]
    rating, liked = 2, "style"
    for make in (
        lambda row: wording.brand_name(row),
        lambda row: wording.title(facts, row),
        lambda row: wording.description(facts, ("style",), row),
        lambda row: wording.review(facts, rating, liked, None, row),
        lambda row: wording.soil("This is one. This is two.", row),
    ):
        assert make(draws) == make(draws) == make(draws.tolist())
        assert make([0.0] * 24)
        assert make(np.full(24, np.nextafter(1, 0)))
