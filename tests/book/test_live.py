"""The page that recommends in the browser: its numbers are Python's, by clicks and by keys, from a folder, offline."""

import base64
import json
import re

import live
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mmrec_helpers.encoders.features import embed_texts, encode_images
from mmrec_helpers.encoders.models import load_encoder
from mmrec_helpers.evaluation.audit import audit_table, audit_text, read_table
from mmrec_helpers.lessons.audit import outcomes_of, smallest_contradiction, value_ranges
from mmrec_helpers.lessons.preferences import preference_message, split_blocks
from mmrec_helpers.llm.generation import generate
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.llm.summaries import summarise_items
from mmrec_helpers.pocket_shop.shop import load_shop

PAGE = "book/live.html"
SCROLL = "(name) => document.querySelectorAll(`[id^=live-${name}]`).forEach((part) => part.scrollIntoView())"
NAMES = ("recommend", "search", "matrix", "preferences", "audit")
ATOL = 1e-4
ROUNDED = 0.0005 + ATOL  # of a number that is shown with three decimals
TEXTS = [
    "a striped mug",
    "  Two   CAPS, red & blue!  ",
    "naïve café ☕ 日本 x",
    "ΟΔΟΣ İstanbul ß",
    "no\u00a0break\u0085line",
    "1,5-2%",
]
TEXTS += ["</s> a <s>cap</s>", "_under_score don't", "\ufeffmark", "e\u0301 a\u200db", "dots " * 90]


@pytest.fixture(scope="module")
def split():
    return load_shop(0, "laptop")[0].leave_one_out()


@pytest.fixture(scope="module")
def system(split):
    return live.trained_decoder(split)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(live.ENCODER)


@pytest.fixture(scope="module")
def llm():
    return load_language_model(live.WRITER)


@pytest.fixture(scope="module")
def item_texts():
    """(I + 1,) what the language model gets of each item."""
    return summarise_items(load_shop(0, "laptop")[0], "pocket-lm", "pocket-vlm").fused


@pytest.fixture(scope="module")
def preferences(tab):
    """The data of the figure of the preference, unpacked once, as `preferences` of the page."""
    tab.evaluate("async () => (globalThis.preferences = await inflate(LIVE_PREFERENCES)) && null")


@pytest.fixture(scope="module")
def tab(browser, html):
    """The page, opened from its folder."""
    with browser.new_context(viewport={"width": 1280, "height": 1000}) as context:
        context.set_default_timeout(120_000)  # other processes may have the cores
        tab = context.new_page()
        tab.requested, tab.errors = [], []
        tab.on("request", lambda request: tab.requested.append(request.url))
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.goto((html / PAGE).as_uri())
        for name in NAMES:
            tab.evaluate(SCROLL, name)
            tab.locator(f"#live-{name} .live-status").wait_for()
        yield tab
        assert all(url.startswith(("file:", "data:")) for url in tab.requested)
        assert tab.errors == []


def items_in(tab, label):
    return [int(card.get_attribute("data-item")) for card in tab.get_by_label(label, exact=True).locator("> li").all()]


def lines_in(tab, label):
    """What stands below the titles of a list of cards: a number by its name, and other lines."""
    cards = [
        card.locator("small").all_inner_texts() for card in tab.get_by_label(label, exact=True).locator("> li").all()
    ]
    return [(float(re.sub("cosine |P = ", "", first)), rest) for first, *rest in cards]


def check_list(tab, system, history, before=()):
    """History and list of the page are these and Python's; a change is marked on each card that it moved."""
    assert items_in(tab, "History, oldest first") == history
    expected = live.next_item_probabilities(system, history)
    shown = items_in(tab, "The ten most probable next items")
    assert shown == live.recommended(expected, history)
    lines = lines_in(tab, "The ten most probable next items")
    for rank, (item, (probability, rest)) in enumerate(zip(shown, lines, strict=True)):
        assert abs(probability - expected[item - 1]) < ROUNDED
        assert not before or rest == live.moved(item, rank, before)
    return shown


def test_the_page_weighs_what_it_says(html):
    files = [path for path in (html / "_static" / "live").iterdir() if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    assert f"{megabytes:.1f} MB" in (html / PAGE).read_text()
    assert megabytes < 10


def test_probabilities_are_those_of_python(tab, system, split):
    rng = np.random.default_rng(0)
    for length in range(13):
        history = rng.permutation(split.dataset.num_items)[:length] + 1
        call = "(history) => Array.from(nextItemProbabilities(items.decoder, history))"
        found = np.log(tab.evaluate(call, history.tolist()))
        expected = np.log(live.next_item_probabilities(system, history.tolist()))
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_tokens_and_text_vectors_are_those_of_python(tab, encoder, split):
    texts = [*TEXTS, *live.SENTENCES, *split.dataset.items["description"][:30], *split.dataset.items["title"][:30]]
    call = """(texts) => texts.map((text) => {
      const { tokens, vector } = encodeText(loadClip().tower, text);
      return [tokens, Array.from(vector)];
    })"""
    tokens, vectors = zip(*tab.evaluate(call, texts), strict=True)
    for text, own in zip(texts, tokens, strict=True):
        ids = encoder.tokenizer(text, truncation=True, max_length=encoder.max_len)["input_ids"]
        assert list(own) == encoder.tokenizer.convert_ids_to_tokens(ids), text
    expected = normalize(embed_texts(texts, encoder).vectors)
    np.testing.assert_allclose(np.array(vectors), expected, rtol=0, atol=ATOL)


def test_clicks_change_the_list_as_python_does(tab, system, split):
    history = live.first_history(split)
    shown = check_list(tab, system, history)
    choices = tab.locator(".live-choice")
    at = next(at for at in range(12) if int(choices.nth(at).get_attribute("data-item")) not in history)
    history = [*history, int(choices.nth(at).get_attribute("data-item"))]
    choices.nth(at).click()
    shown = check_list(tab, system, history, shown)

    tab.get_by_role("button", name="Replace").nth(1).click()
    tab.get_by_label("Category").select_option("lamp")
    history[1] = int(choices.first.get_attribute("data-item"))
    choices.first.click()
    shown = check_list(tab, system, history, shown)

    choices.first.click()  # it is in the history now
    assert "in the history already" in tab.locator("#live-recommend .live-status").inner_text()
    assert items_in(tab, "History, oldest first") == history

    tab.get_by_role("button", name="Remove").first.click()
    shown = check_list(tab, system, history[1:], shown)
    tab.get_by_role("button", name="Empty the history").click()
    check_list(tab, system, [], shown)


def test_keys_alone_are_enough(tab, system):
    tab.get_by_label("Category").focus()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")  # other pictures
    tab.keyboard.press("Tab")
    history = [int(tab.evaluate("document.activeElement.dataset.item"))]
    tab.keyboard.press("Enter")
    shown = check_list(tab, system, history)
    while tab.evaluate("document.activeElement.innerText") != "Remove":
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    check_list(tab, system, [], shown)


def test_a_click_is_answered_within_a_second(tab):
    call = """() => {
      const start = performance.now();
      document.querySelector(".live-choice").click();
      return performance.now() - start;
    }"""
    assert tab.evaluate(call) < 1000


def test_a_sentence_finds_the_pictures_that_python_finds(tab, encoder, split):
    cosines = (
        normalize(encode_images(split.dataset, live.ENCODER).vectors)
        @ (normalize(embed_texts(["a red teapot"], encoder).vectors)[0])
    )
    tab.get_by_role("textbox", name="Sentence").fill("a red teapot")
    tab.keyboard.press("Enter")
    assert items_in(tab, "Nearest pictures") == [row + 1 for row in cosines.topk(live.FOUND).indices.tolist()]
    shown = [cosine for cosine, _ in lines_in(tab, "Nearest pictures")]
    np.testing.assert_allclose(shown, cosines.topk(live.FOUND).values, atol=ROUNDED)


def python_reply(llm, message):
    """Token ids of the message as a prompt, token ids of the reply, and its text."""
    prompt = llm.tokens(llm.chat(message))
    (ids,) = generate(llm, [prompt], live.REPLY_TOKENS)
    return prompt, list(ids), llm.tokenizer.decode(ids, skip_special_tokens=True).strip()


@pytest.mark.usefixtures("preferences")
@pytest.mark.parametrize("user", range(2 * live.USERS))
def test_preferences_are_those_of_python_token_by_token(tab, llm, item_texts, user):
    call = """([texts, before]) => {
      const { writer } = preferences, message = preferenceMessage(writer, texts, before);
      const { ids, text } = replyTo(writer, message);
      return [textToIds(writer.prompt.replace("{message}", () => message), writer.tokenizer), ids, text];
    }"""
    before = ""
    for block in split_blocks(live.users_of(*load_shop(0, "laptop"))[user].purchases, live.BLOCK):
        texts = [item_texts[item] for item in block]
        found = tab.evaluate(call, [texts, before])
        assert found == [*python_reply(llm, preference_message(texts, before))]
        before = found[-1]


@pytest.mark.usefixtures("preferences")
def test_any_text_has_the_tokens_of_python(tab, llm):
    texts = [*TEXTS, "it's\n\n  3 x\t<|user|>y ", "\r\n", "\U0001f600 e\u0301"]
    found = tab.evaluate("(texts) => texts.map((text) => textToIds(text, preferences.writer.tokenizer))", texts)
    assert found == [llm.tokens(text) for text in texts]


def shown_preferences(tab):
    """Before and after, and the phrases of each that are marked."""
    boxes = [tab.get_by_role("group", name=f"Preference {when} this block") for when in ("before", "after")]
    return [
        (box.inner_text(), box.locator(mark).all_inner_texts()) for box, mark in zip(boxes, ("del", "ins"), strict=True)
    ]


def check_preferences(tab, llm, texts, items, before):
    """Items of a block, the preference before and after it, and the phrases that changed are Python's."""
    assert items_in(tab, "Items of this block") == items
    *_, after = python_reply(llm, preference_message([texts[item] for item in items], before))
    (old, gone), (new, added) = shown_preferences(tab)
    assert (old, new) == (before or "None yet.", after)
    assert gone == (live.changes(after, before) if before else [])
    assert added == (live.changes(before, after) if before else [])
    return after


def test_keys_step_through_a_preference(tab, llm, item_texts):
    user = live.users_of(*load_shop(0, "laptop"))[1]
    tab.locator("#live-preferences select").select_option(user.name)
    blocks = split_blocks(user.purchases, live.BLOCK)
    steps = [check_preferences(tab, llm, item_texts, blocks[0], "")]
    tab.get_by_role("button", name="Next block").focus()
    for block in blocks[1:]:
        tab.keyboard.press("Enter")
        steps.append(check_preferences(tab, llm, item_texts, block, steps[-1]))
    report = tab.locator("#live-preferences .live-status")
    for phrase in live.changes(*steps[-2:]):
        assert phrase in report.inner_text().partition("Gone:")[0]
    tab.keyboard.press("Enter")
    assert report.inner_text() == "This is the last block."
    tab.get_by_role("button", name="Previous block").press("Enter")
    check_preferences(tab, llm, item_texts, blocks[-2], steps[-3])


def test_the_history_of_the_first_figure_has_a_preference(tab, llm, item_texts):
    mine, report = tab.get_by_role("button", name="Take my history"), tab.locator("#live-preferences .live-status")
    tab.get_by_role("button", name="Empty the history").click()
    mine.click()
    assert "empty" in report.inner_text()
    for at in range(4):
        tab.locator(".live-choice").nth(at).click()
    history = items_in(tab, "History, oldest first")
    mine.click()
    first = check_preferences(tab, llm, item_texts, history[:3], "")
    tab.get_by_role("button", name="Next block").click()
    check_preferences(tab, llm, item_texts, history[3:], first)


@pytest.mark.usefixtures("preferences")
def test_a_step_takes_at_most_two_seconds(tab):
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the processor: others may use it, too

    def seconds():
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}["ThreadTime"]

    start = seconds()
    tab.evaluate(
        "() => replyTo(preferences.writer, preferenceMessage(preferences.writer, preferences.texts.slice(0, 3)))"
    )
    assert 0 < seconds() - start < 2


@pytest.mark.parametrize("at", [0, 4])
def test_the_matrix_is_that_of_python(tab, encoder, html, at):
    text = (html / "_static" / "live" / "live-clip.js").read_text()
    matrix = json.loads(text.removeprefix("const LIVE_CLIP = ").removesuffix(";\n"))["matrix"]
    images = np.frombuffer(base64.b64decode(matrix["images"]["float32"]), "<f4").reshape(len(matrix["titles"]), -1)
    tab.get_by_role("slider", name="Overlap").fill(str(at))
    tab.get_by_role("slider", name="Temperature").fill("-1")
    texts = normalize(embed_texts(matrix["descriptions"][at], encoder).vectors)
    expected = (torch.from_numpy(images.copy()) @ texts.T / 0.1).softmax(1).numpy()
    shown = [float(cell.inner_text()) for cell in tab.locator("#live-matrix td[style]").all()]
    np.testing.assert_allclose(np.reshape(shown, expected.shape), expected, atol=0.005 + ATOL)


def random_tables(num):
    """Tables in CSV of random numbers, of means of random ranks, and of such means with small errors."""
    rng = np.random.default_rng(0)
    names = [f"{metric}@{cutoff}" for metric in ("HR", "NDCG", "MRR", "MAP", "R", "P") for cutoff in (1, 5, 10, 20)]
    for _ in range(num):
        columns = rng.choice([*names, "MRR", "NDCG"], size=rng.integers(1, 6), replace=False)
        ranks = outcomes_of(40, 1, 1)
        users = rng.integers(0, 41, 50)
        means = np.array([value_ranges(name, ranks)[0, users].mean() for name in columns])
        rows = rng.random(len(columns)), means, np.clip(means + rng.normal(size=len(columns)) / 500, 0, 1)
        lines = [",".join([f"system {at}", *(f"{value:.3f}" for value in row)]) for at, row in enumerate(rows)]
        yield "\n".join([",".join(["system", *columns]), *lines])


def test_audits_are_those_of_python(tab):
    tables = [*live.TABLES.values(), *random_tables(20)]
    verdicts = set()
    for text, rows in zip(tables, tab.evaluate("(tables) => tables.map(audit)", tables), strict=True):
        shares, unit = read_table(text)
        for row, expected in zip(rows, audit_table(shares, unit).itertuples(), strict=True):
            assert (row["system"], row["verdict"]) == (expected.Index, expected.verdict), text
            assert abs(row["distance"] - expected.distance) < ATOL
            given = shares[expected.Index]
            part = smallest_contradiction(given, outcomes_of(longest(given), 1, 1), unit)
            assert row["contradiction"] == pytest.approx(part)
            verdicts.add(row["verdict"])
    assert verdicts == {"possible", "weak", "contradiction"}


def longest(row):
    return max([1, *(int(name.partition("@")[2]) for name in row if "@" in name)])


def test_a_wrong_table_is_refused_with_its_place(tab):
    tab.get_by_role("textbox", name="Table").fill("system,HR@5\nours,28.9")
    tab.get_by_role("button", name="Audit", exact=True).click()
    assert "Row 2, HR@5: 28.9 is more than 1" in tab.locator("#live-audit .live-status").inner_text()
    assert tab.locator("#live-audit td").count() == 0
    tab.get_by_role("button", name="two systems").click()
    shown = [row.all_inner_texts() for row in (line.locator("td") for line in tab.locator("#live-audit tr").all()[1:])]
    expected = audit_text(live.TABLES["two systems"])
    assert [cells[:2] for cells in shown] == [[row.verdict, f"{row.distance:.1f}"] for row in expected.itertuples()]


def test_without_scripts_there_are_static_views(browser, html):
    with browser.new_context(java_script_enabled=False) as context:
        context.set_default_timeout(120_000)  # other processes may have the cores
        tab = context.new_page()
        tab.goto((html / PAGE).as_uri())
        for name in NAMES:
            assert tab.locator(f"#live-{name}-static .static-view").is_visible()
            assert not tab.locator(f"#live-{name}").is_visible()
