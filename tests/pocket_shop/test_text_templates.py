"""The shop's texts tell what they are told to tell, and nothing else."""

import html
import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest

from mmrec_helpers.pocket_shop import catalogue, text_templates
from mmrec_helpers.pocket_shop.text_templates import TEMPLATES

Shop = list[tuple[dict[str, str], np.ndarray]]
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
    """The facts of an item that the catalogue could hold."""
    facts = {name: str(rng.choice(values)) for name, values in VALUES.items()}
    facts["category"] = str(rng.choice(catalogue.CATEGORIES))
    facts["material"] = str(rng.choice(catalogue.MATERIALS_OF[facts["category"]]))
    facts["brand"] = text_templates.brand_name(rng.random(text_templates.NUM_DRAWS_BRAND))
    return facts


@pytest.fixture(scope="module")
def shop() -> Shop:
    """The facts of many items, each with the draws of its texts."""
    rng = np.random.default_rng(20240611)
    return [(random_facts(rng), rng.random(text_templates.NUM_DRAWS_DESCRIPTION)) for _ in range(3000)]


def sentences_of(text: str) -> list[str]:
    """The sentences of a text."""
    return re.split(r"(?<=[.!?]) ", text)


def words_of(text: str) -> list[str]:
    """The words of a text, without punctuation."""
    return re.findall(r"[\w'-]+", text)


def assert_clean(text: str) -> None:
    """A text has no left-over fields, no doubled words, and articles that fit."""
    assert "  " not in text
    assert not re.search(r"[{}<>]", text), text
    assert text == text.strip()
    assert all(sentence[0].isupper() and sentence[-1] in ".!?" for sentence in sentences_of(text)), text
    assert not re.search(r"\b[Aa] [aeio]|\b[Aa] (umbrella|used)|\b[Aa]n (?!hour)[^aeiouAEIOU]", text), text
    assert not re.search(r"\b(\w+) \1\b|,,|\.\.|\s[,.!?]", text), text


def test_templates_are_written_for_everything_in_the_catalogue() -> None:
    """Each category, occasion and attribute has its words, in the catalogue's order."""
    assert tuple(TEMPLATES["categories"]) == catalogue.CATEGORIES
    for part in ("occasions", "occasion_sentences"):
        assert tuple(TEMPLATES[part]) == catalogue.OCCASIONS
    for part in ("mention_sentences", "fillers"):
        assert tuple(TEMPLATES[part]) == catalogue.MENTIONABLE
    assert {*TEMPLATES["fact_sentences"], "occasion", *catalogue.MENTIONABLE} == set(text_templates.SLOT_POSITIONS)


# --- brand names and titles ---------------------------------------------------------------------------------------


def all_brands() -> list[str]:
    """Every brand name that can be drawn."""
    counts = [len(parts) for parts in TEMPLATES["brand_names"].values()]
    grid = itertools.product(*(range(n) for n in counts))
    return [
        text_templates.brand_name([(i + 0.5) / n for i, n in zip(row, counts, strict=True)] + [0.0] * 5) for row in grid
    ]


def test_brand_names_are_single_words_free_of_attributes() -> None:
    """No brand name gives an attribute away, and there are enough of them."""
    brands = all_brands()
    assert len(set(brands)) == len(brands) >= 400
    forbidden = [word for values in VALUES.values() for word in values]
    forbidden += [*catalogue.CATEGORIES, *catalogue.MATERIALS, "parties"]
    for brand in brands:
        assert re.fullmatch(r"[A-Z][a-z]{4,}", brand)
        assert not any(word in brand.lower() for word in forbidden), brand
        assert not re.search(r"(.)\1\1", brand.lower()), brand


def test_titles_name_brand_and_category_and_at_most_the_occasion(shop: Shop) -> None:
    """A title tells nothing that the parameter overlap is to hide."""
    titles = set()
    for facts, draws in shop:
        title = text_templates.title(facts, draws[: text_templates.NUM_DRAWS_TITLE])
        titles.add(title)
        assert len(title.split()) <= 8
        assert facts["brand"] in title
        told = text_templates.mentioned_attributes(title)
        assert told.pop("category") == {facts["category"]}
        assert told in ({}, {"occasion": {facts["occasion"]}})
        assert not HINTS.search(title)
        assert not re.search(r"[{}]|  |^\s|\s$", title)
    assert len(titles) > 0.95 * len(shop)


# --- descriptions ---------------------------------------------------------------------------------------------------


def test_descriptions_tell_the_facts_and_the_mentions_and_nothing_else(shop: Shop) -> None:
    """What is told follows the mentions exactly, whatever is drawn."""
    for facts, draws in shop:
        for mentions in SUBSETS:
            text = text_templates.description(facts, mentions, draws)
            told = {name: {facts[name]} for name in ("category", "material", "occasion", *mentions)}
            assert text_templates.mentioned_attributes(text) == told, text
            assert facts["brand"] in words_of(text)
            assert 40 <= len(text.split()) <= 120
            assert 4 <= len(sentences_of(text)) <= 7


def test_no_choice_of_sentences_is_too_short_or_too_long() -> None:
    """The longest and shortest choices of every frame stay within 40 to 120 words."""
    for category in catalogue.CATEGORIES:
        for material, occasion in itertools.product(catalogue.MATERIALS_OF[category], catalogue.OCCASIONS):
            lengths = {
                slot: [len(s.split()) for s in text_templates._fact_options(slot, category, material, occasion)]
                for slot in (*TEMPLATES["fact_sentences"], "occasion")
            }
            for attribute in catalogue.MENTIONABLE:
                told = [
                    text_templates._visible_options(attribute, category, value)
                    for value in (VALUES[attribute][0], None)
                ]
                lengths[attribute] = [len(s.split()) for options in told for s in options]
            for frame in TEMPLATES["frames"]:
                assert sum(min(lengths[slot]) for slot in frame) >= 40
                assert sum(max(lengths[slot]) for slot in frame) <= 120


def test_changing_the_mentions_changes_only_their_sentences(shop: Shop) -> None:
    """The parameter overlap is a controlled experiment."""
    for facts, draws in shop:
        frame = TEMPLATES["frames"][int(draws[0] * len(TEMPLATES["frames"]))]
        silent = sentences_of(text_templates.description(facts, (), draws))
        for mentions in SUBSETS:
            telling = sentences_of(text_templates.description(facts, set(mentions), draws))
            changed = {slot for slot, old, new in zip(frame, silent, telling, strict=True) if old != new}
            assert changed == set(mentions)


def test_hidden_values_leave_no_trace(shop: Shop) -> None:
    """An item that differs only in what its description hides has the very same description."""
    rng = np.random.default_rng(5)
    for facts, draws in shop[:500]:
        for mentions in SUBSETS:
            hidden = set(catalogue.MENTIONABLE) - set(mentions)
            others = {name: str(rng.choice(VALUES[name])) for name in (*hidden, "price_tier")}
            assert text_templates.description(facts, mentions, draws) == text_templates.description(
                facts | others, mentions, draws
            )


def all_sentences() -> Iterator[tuple[str, str]]:
    """Every sentence that can occur in a description, with the attributes it tells."""
    for category in catalogue.CATEGORIES:
        for material, occasion in itertools.product(catalogue.MATERIALS_OF[category], catalogue.OCCASIONS):
            for slot in (*TEMPLATES["fact_sentences"], "occasion"):
                yield from ((slot, s) for s in text_templates._fact_options(slot, category, material, occasion))
        for attribute in catalogue.MENTIONABLE:
            for value in (*VALUES[attribute], None):
                yield from ((attribute, s) for s in text_templates._visible_options(attribute, category, value))


def test_every_sentence_is_clean_english_without_hints() -> None:
    """No sentence, told or not, gives an attribute away without naming it."""
    for sentence in {sentence for _, sentence in all_sentences()}:
        text = sentence.replace("{brand}", "Alderlow")
        assert_clean(text)
        assert len(sentences_of(text)) == 1, text
        assert not HINTS.search(text), text


def test_every_slot_has_at_least_eight_options_and_a_position_of_its_own() -> None:
    """Descriptions vary, and one slot's choice never shifts another's."""
    for category in catalogue.CATEGORIES:
        for slot in (*TEMPLATES["fact_sentences"], "occasion"):
            for occasion in catalogue.OCCASIONS:
                options = text_templates._fact_options(slot, category, catalogue.MATERIALS_OF[category][0], occasion)
                assert len(set(options)) == len(options) >= 8
        for attribute in catalogue.MENTIONABLE:
            telling = text_templates._visible_options(attribute, category, VALUES[attribute][0])
            silent = text_templates._visible_options(attribute, category, None)
            assert len(set(telling)) >= 8
            assert len(set(silent)) >= 8
            # A told and a hidden attribute take about the same room.
            assert abs(np.mean([len(s.split()) for s in telling]) - np.mean([len(s.split()) for s in silent])) < 2
    positions = list(text_templates.SLOT_POSITIONS.values())
    assert len(set(positions)) == len(positions)
    assert 0 < min(positions) <= max(positions) < text_templates.NUM_DRAWS_DESCRIPTION


def test_frames_tell_each_fact_once_in_at_least_three_orders() -> None:
    """Every frame tells the same facts."""
    parts = {"who_all": {"who", "material", "occasion"}, "who_material": {"who", "material"},
             "who_occasion": {"who", "occasion"}, "material_occasion": {"material", "occasion"}}  # fmt: skip
    for frame in TEMPLATES["frames"]:
        told = [part for slot in frame for part in parts.get(slot, {slot}) if part != "service"]
        assert sorted(told) == ["colour", "material", "occasion", "pattern", "style", "who"]
    assert len(set(TEMPLATES["frames"])) == len(TEMPLATES["frames"]) >= 3


def test_descriptions_are_varied(shop: Shop) -> None:
    """Hardly any two descriptions are the same but for brand and thing."""
    masked = set()
    for facts, draws in shop[:1200]:
        text = text_templates.description(facts, ("colour",), draws).replace(facts["brand"], "BRAND")
        assert_clean(text)
        words = TEMPLATES["categories"][facts["category"]]
        thing = f"{words['thing']}|{words['short']}|{facts['category']}"
        masked.add(re.sub(rf"\b({thing})s?\b", "THING", text))
    assert len(masked) >= 0.95 * 1200


@pytest.mark.parametrize("mention", ["material", "price_tier", "color"])
def test_unknown_mentions_are_refused_by_name(shop: Shop, mention: str) -> None:
    """The error names the mention."""
    facts, draws = shop[0]
    with pytest.raises(ValueError, match=mention):
        text_templates.description(facts, ("colour", mention), draws)


# --- noisy descriptions --------------------------------------------------------------------------------------------


def test_noise_keeps_every_word_in_order_and_adds_no_attribute(shop: Shop) -> None:
    """A noisy description tells what the clean one tells."""
    rng = np.random.default_rng(6)
    for facts, draws in shop:
        clean = text_templates.description(facts, ("style",), draws)
        noisy = text_templates.add_noise(clean, rng.random(text_templates.NUM_DRAWS_NOISE))
        assert re.search(r"<(p|br|b|div|ul|li)>", noisy)
        visible = html.unescape(re.sub(r"<[^>]+>", " ", noisy))
        rest = iter(words_of(visible))
        assert all(word in rest for word in words_of(clean)), noisy
        assert text_templates.mentioned_attributes(noisy) == text_templates.mentioned_attributes(clean)
        assert noisy.count("<b>") == noisy.count("</b>")
        assert noisy.count("<p>") == noisy.count("</p>")


# --- reviews -------------------------------------------------------------------------------------------------------

ABOUT = (None, *catalogue.TASTE_ATTRIBUTES)


def test_reviews_tell_only_what_was_liked_and_missed(shop: Shop) -> None:
    """A review names the attributes that it is about, and no other."""
    rng = np.random.default_rng(7)
    for facts, _ in shop:
        liked, missed = rng.choice(len(ABOUT), size=2, replace=False)
        liked, missed = ABOUT[liked], ABOUT[missed]
        text = text_templates.review(
            facts, int(rng.integers(1, 6)), liked, missed, rng.random(text_templates.NUM_DRAWS_REVIEW)
        )
        told = text_templates.mentioned_attributes(text)
        assert told.pop("category", {facts["category"]}) == {facts["category"]}
        about = {attribute for attribute in (liked, missed) if attribute not in (None, "brand")}
        assert told == {attribute: {facts[attribute]} for attribute in about}, text
        assert (facts["brand"] in text) == ("brand" in (liked, missed))
        assert 1 <= len(sentences_of(text)) <= 2
        assert len(text.split()) <= 32
        assert_clean(text)


def has_any(text: str, phrases: set[str]) -> bool:
    """Whether a text holds one of the phrases as whole words."""
    return any(re.search(rf"\b{re.escape(phrase)}\b", text.lower()) for phrase in phrases)


def test_reviews_agree_with_their_rating() -> None:
    """Good ratings have no bad words, and bad ratings no good ones."""
    for part in ("whole", "opener"):
        texts = TEMPLATES["reviews"][part]
        every = [text for rating in "12345" for text in texts[rating]]
        assert len(set(every)) == len(every)
        for rating in "12345":
            assert len(texts[rating]) >= 6
        for text in (*texts["5"], *texts["4"]):
            assert not has_any(text, BAD), text
        for text in (*texts["2"], *texts["1"]):
            assert not has_any(text, GOOD), text
    assert not GOOD & BAD


def test_liked_and_missed_clauses_are_many_and_never_the_same() -> None:
    """Praise and regret can be told apart by their words."""
    assert set(TEMPLATES["reviews"]["liked"]) == set(TEMPLATES["reviews"]["missed"]) == set(catalogue.TASTE_ATTRIBUTES)
    regret = re.compile(r"\b(not|no|wish|off|other than|another brand|too|less|little use|rather)\b")
    for attribute in catalogue.TASTE_ATTRIBUTES:
        liked, missed = TEMPLATES["reviews"]["liked"][attribute], TEMPLATES["reviews"]["missed"][attribute]
        assert len(set(liked)) >= 6
        assert len(set(missed)) >= 6
        assert not any(regret.search(clause) for clause in liked)
        assert all(regret.search(clause) for clause in missed)


@pytest.mark.parametrize("rating", [0, 6, 2.5])
def test_impossible_ratings_are_refused_by_value(shop: Shop, rating: float) -> None:
    """The error shows the rating."""
    with pytest.raises(ValueError, match=re.escape(str(rating))):
        text_templates.review(shop[0][0], rating, None, None, shop[0][1])


def test_reviews_about_something_unknown_are_refused_by_name(shop: Shop) -> None:
    """The error names the attribute."""
    with pytest.raises(ValueError, match="smell"):
        text_templates.review(shop[0][0], 4, "smell", None, shop[0][1])


# --- reading back --------------------------------------------------------------------------------------------------


def test_mentioned_attributes_reads_whole_words_in_any_case() -> None:
    """A value counts as a whole word, capitalised or in the plural."""
    text = (
        "RED Sneakers and a T-shirt made of recycled plastic: for Parties, outdoors, gifts. Captain, hundred, greenish."
    )
    assert text_templates.mentioned_attributes(text) == {
        "colour": {"red"},
        "category": {"sneaker", "t-shirt"},
        "material": {"plastic"},
        "occasion": {"party", "outdoor", "gift"},
    }
    assert text_templates.mentioned_attributes("") == {}
    for attribute, values in VALUES.items():
        for value in values:
            assert text_templates.mentioned_attributes(f"quite {value}.") == {attribute: {value}}


def test_every_text_depends_on_nothing_but_its_arguments(shop: Shop) -> None:
    """The same draws give the same text, at the ends of their range too."""
    facts, draws = shop[1]
    rating, liked = 2, "style"
    for make in (
        lambda row: text_templates.brand_name(row),
        lambda row: text_templates.title(facts, row),
        lambda row: text_templates.description(facts, ("style",), row),
        lambda row: text_templates.review(facts, rating, liked, None, row),
        lambda row: text_templates.add_noise("This is one. This is two.", row),
    ):
        assert make(draws) == make(draws) == make(draws.tolist())
        assert make([0.0] * 24)
        assert make(np.full(24, np.nextafter(1, 0)))
