"""Slides: what they take from notebooks is there, once; each fits into a browser, and nothing comes from elsewhere."""

import re

import pytest
import slides
import yaml

import notebooks

LECTURES = yaml.safe_load(slides.SLIDES.read_text())
SURVEY = """() => {
  const inside = ({ left, top, right, bottom }) =>
    left >= -1 && top >= -1 && right <= innerWidth + 1 && bottom <= innerHeight + 1;
  const current = Reveal.getCurrentSlide(), parts = [...current.querySelectorAll("h2, p, li, pre, img, mjx-container")];
  return {
    outside: parts.filter((part) => !inside(part.getBoundingClientRect())).map((part) => part.outerHTML.slice(0, 80)),
    broken: parts.filter((part) => part.tagName === "IMG" && !part.naturalWidth).length,
    silent: parts.filter((part) => part.tagName === "IMG" && !part.alt).length,
    cut: parts.filter((part) => part.tagName === "PRE" && part.scrollWidth > part.clientWidth + 1).length,
    unset: /\\$\\$/.test(current.innerText), wrong: current.querySelectorAll("mjx-merror, [data-mjx-error]").length,
  };
}"""
SOUND = {"outside": [], "broken": 0, "silent": 0, "cut": 0, "unset": False, "wrong": 0}


@pytest.mark.parametrize("lecture", LECTURES, ids=[lecture["notebook"] for lecture in LECTURES])
def test_a_lecture_finds_its_parts_and_begins_and_ends_with_words(lecture):
    made = slides.slides(lecture)  # each part is there once, or this raises
    kinds = [cell.metadata.slideshow.slide_type for cell in made.cells]
    assert kinds.count("slide") == len(lecture["slides"]) <= 15
    assert "notes" in kinds
    for slide in (lecture["slides"][0], lecture["slides"][-1]):
        assert not set(slide) & set(slides.PARTS)
    assert sum(bool(set(slide) & set(slides.PARTS)) for slide in lecture["slides"]) > len(lecture["slides"]) / 2
    assert {exercise for exercise in numbers(lecture["slides"][-1]["text"])} <= exercises_of(lecture["notebook"])


def numbers(text):
    return re.findall(r"xercise (\d\.\d+)", text)


def exercises_of(name):
    (path,) = notebooks.paths(name)
    return set(re.findall(r"Exercise (\d\.\d+):", path.read_text()))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("formula", "no such formula"),
        ("code", "no_such_function"),
        ("code", "import"),  # in several cells
        ("code", "class GPT2(nn.Module)"),  # too long
        ("output", "no such cell"),
        ("figure", "no-such-figure"),
        ("diagram", "no-such.svg"),
    ],
)
def test_what_a_notebook_does_not_have_once_is_named(part, name):
    (path,) = notebooks.paths("04a")
    with pytest.raises(ValueError, match=re.escape(name)):
        slides.PARTS[part](notebooks.read(path), name)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    try:
        return slides.build(tmp_path_factory.mktemp("slides"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("number", range(len(LECTURES)), ids=[lecture["notebook"] for lecture in LECTURES])
def test_each_slide_fits_and_asks_no_other_host(pages, browser, number):
    asked, complaints, found = [], [], {}
    tab = browser.new_page(viewport={"width": slides.WIDTH, "height": slides.HEIGHT})
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(pages[number].as_uri())
    tab.evaluate("() => MathJax.startup.promise.then(() => null)")
    for index, slide in enumerate(LECTURES[number]["slides"]):
        tab.evaluate(f"() => Reveal.slide({index}, 0)")
        found[slide["title"]] = tab.evaluate(SURVEY)
    assert tab.evaluate("() => Reveal.getTotalSlides()") == len(found)
    tab.close()
    assert {title: survey for title, survey in found.items() if survey != SOUND} == {}
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == complaints == []
