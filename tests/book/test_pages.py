"""The built book in a browser: no other host, no errors, readable in each theme and width, folds and search work."""

import gzip
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent.parent
SURVEY = Path(__file__).with_name("survey.js").read_text()
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
ENTRIES = [entry for part in TOC["parts"] for entry in part["chapters"]]
PAGES = [TOC["root"], *(page["file"] for entry in ENTRIES for page in (entry, *entry.get("sections", ()))), "search"]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
THEMES = ("light", "dark")
WIDTHS = (1280, 390)
PUBLIC = bool(yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"])
# Theme, width, and the pages on which axe-core looks at them: what it reports hardly depends on either.
SAMPLE = ("book/intro", "book/claims", "book/references", "search", "notebooks/03d_sampled_evaluation")
VIEWS = {("light", 1280): PAGES, ("dark", 1280): SAMPLE, ("light", 390): SAMPLE}
VIOLATIONS = """async () => {
  document.querySelectorAll("details").forEach((fold) => (fold.open = true));
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 120)}`));
}"""
MOST_BYTES = 1_500_000  # of a page with all that it loads, as a web server sends it: what is text is compressed
TEXTS = {".html", ".css", ".js", ".svg", ".json"}
OVERFLOW = """() => {
  const root = document.documentElement, wide = [...document.querySelectorAll("article *")];
  const out = wide.filter((element) => element.getBoundingClientRect().right > innerWidth + 1).slice(0, 5);
  const names = out.map((element) => `${element.tagName}.${element.className}`);
  return root.scrollWidth > innerWidth + 1 ? [`${root.scrollWidth} > ${innerWidth}`, ...names] : [];
}"""


def cells_of(page):
    return nbformat.read(ROOT / f"{page}.ipynb", as_version=4).cells


# What needs no browser -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def soup(html):
    """A built page, parsed; each once."""
    seen = {}

    def parse(path):
        if path not in seen:
            seen[path] = BeautifulSoup(path.read_text(), "html.parser")
        return seen[path]

    return lambda name: parse(html / name)


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_no_traceback(html, page):
    assert "Traceback (most recent call last)" not in (html / f"{page}.html").read_text()


@pytest.mark.parametrize("page", ["index", *PAGES, "genindex"])
def test_links_within_the_book_lead_somewhere(html, soup, page):
    dead = []
    for link in soup(f"{page}.html").find_all("a", href=True):
        address, anchor = urldefrag(link["href"])
        parts = urlsplit(address)
        if parts.scheme:
            continue
        target = (html / page).parent / unquote(parts.path) if parts.path else html / f"{page}.html"
        name = target.resolve().relative_to(html.resolve())
        found = target.is_file() and (
            not anchor or target.suffix != ".html" or soup(name).find(id=unquote(anchor)) is not None
        )
        if not found:
            dead.append(link["href"])
    assert dead == []


def test_notebooks_are_the_numbered_sections_of_their_chapter(soup):
    for chapter, entry in enumerate((entry for entry in ENTRIES if "sections" in entry), 1):
        numbers = [f"{chapter}.", *(f"{chapter}.{number}." for number in range(1, len(entry["sections"]) + 1))]
        for page, number in zip((entry, *entry["sections"]), numbers, strict=True):
            shown = soup(f"{page['file']}.html").select("article .section-number")
            assert [span.text.strip() for span in shown] == [number], page["file"]


@pytest.mark.parametrize("page", PAGES)
def test_launch_buttons_follow_the_repository(soup, page):
    links = [link["href"] for link in soup(f"{page}.html").find_all("a", href=True)]
    launch = [link for link in links if "colab.research" in link or "mybinder" in link]
    assert bool(launch) is (PUBLIC and page in CHAPTERS)
    if not PUBLIC:
        assert soup(f"{page}.html").select(".dropdown-launch-buttons, .dropdown-source-buttons") == []


# What a reader sees ----------------------------------------------------------------------------------------------


class Visit:
    """A page in one theme: what it asked for, what it complained of, and the survey of it."""

    def __init__(self, context, address, page):
        self.elsewhere, self.complaints, self.overflow, self.files = [], [], {}, set()
        tab = context.new_page()
        tab.on("request", lambda request: self.request(request.url, address))
        tab.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.goto(f"{address}/{page}.html")
        tab.evaluate("() => window.MathJax?.startup?.promise.then(() => null)")
        vars(self).update(tab.evaluate(SURVEY))
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 900})
            self.overflow[width] = tab.evaluate(OVERFLOW)
        tab.close()

    def request(self, url, address):
        if not url.startswith((address, "data:", "blob:")):
            self.elsewhere.append(url)
        elif url.startswith(address):
            self.files.add(unquote(urlsplit(url).path).lstrip("/"))


@pytest.fixture(scope="module")
def weight(html):
    """Bytes of a built file as it is sent."""

    @cache
    def weigh(name):
        content = (html / name).read_bytes()
        return len(gzip.compress(content, 6) if Path(name).suffix in TEXTS else content)

    return weigh


@pytest.fixture(scope="module")
def contexts(browser):
    """One browser profile a theme."""
    contexts = {}
    for theme in THEMES:
        # Without motion a colour is at once what it will be, not on its way there.
        contexts[theme] = browser.new_context(color_scheme=theme, reduced_motion="reduce")
        contexts[theme].set_default_timeout(10_000)
        contexts[theme].add_init_script(f"localStorage.setItem('mode', '{theme}')")
    return contexts


@pytest.fixture(scope="module")
def visits():
    """Visits already made."""
    return {}


@pytest.fixture
def visit(contexts, address, visits, page, theme):
    if (page, theme) not in visits:
        visits[page, theme] = Visit(contexts[theme], address, page)
    return visits[page, theme]


@pytest.fixture(scope="class")
def tab(contexts, address, page):
    """A page to click on. It is loaded once: the tests of a class that need it untouched come first."""
    tab = contexts["light"].new_page()
    tab.goto(f"{address}/{page}.html")
    yield tab
    tab.close()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("page", PAGES)
class TestEveryPage:
    def test_asks_no_other_host(self, visit):
        assert visit.elsewhere == []

    def test_reports_no_error(self, visit):
        assert visit.complaints == []

    def test_formulas_are_set(self, visit):
        assert visit.unset == []

    def test_has_the_theme_asked_for(self, visit, theme):
        assert visit.theme == theme

    def test_has_one_title(self, visit):
        assert len(visit.headings) == 1, visit.headings

    def test_images_load_and_have_alternative_text(self, visit):
        assert (visit.broken, visit.silent) == ([], [])

    def test_images_have_a_ground(self, visit):
        assert visit.glassy == []  # black ink on a dark page, were it so

    def test_text_stands_out(self, visit):
        assert visit.faint == []

    def test_is_light(self, visit, weight):
        own = [file for file in visit.files if "_static/live/" not in file]  # test_live.py weighs these
        assert sum(map(weight, own)) < MOST_BYTES, sorted(own, key=weight)[-5:]

    @pytest.mark.parametrize("width", WIDTHS)
    def test_does_not_scroll_sideways(self, visit, width):
        assert visit.overflow[width] == []


@pytest.mark.parametrize(("theme", "width", "page"), [(*view, page) for view, pages in VIEWS.items() for page in pages])
def test_axe_finds_no_violation(axe, contexts, address, theme, width, page):
    tab = contexts[theme].new_page()
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(f"{address}/{page}.html")
    tab.evaluate("() => window.MathJax?.startup?.promise.then(() => null)")
    tab.evaluate(axe)
    assert tab.evaluate(VIOLATIONS) == []
    tab.close()


@pytest.mark.parametrize("theme", THEMES)
def test_without_a_choice_the_theme_is_that_of_the_system(browser, address, theme):
    with browser.new_context(color_scheme=theme) as context:
        tab = context.new_page()
        tab.goto(f"{address}/{TOC['root']}.html")
        assert tab.evaluate("document.documentElement.dataset.theme") == theme


@pytest.mark.parametrize("page", ["book/notation"], scope="class")
def test_mathematics_is_set(tab):
    tab.locator("mjx-container").first.wait_for()
    assert tab.locator("mjx-container mjx-math").count() > 20
    assert tab.locator("mjx-merror").count() == 0
    text = tab.locator("article").inner_text()
    assert "$$" not in text
    assert "\\frac" not in text


@pytest.mark.parametrize("page", CHAPTERS, scope="class")
class TestEveryChapter:
    def test_solutions_are_folded(self, tab, page):
        solutions = tab.locator("article pre", has_text="### BEGIN SOLUTION")
        exercises = [cell for cell in cells_of(page) if cell.metadata.get("book", {}).get("role") == "solution"]
        assert solutions.count() == len(exercises) > 0
        assert not any(solution.is_visible() for solution in solutions.all())

    def test_each_widget_has_a_static_view_that_turns(self, tab, page):
        views = tab.locator("article .static-view").all()
        assert len(views) >= sum("show_widget(" in cell.source for cell in cells_of(page) if cell.cell_type == "code")
        assert views
        for view in views:
            labels, panels = view.locator("> label").all(), view.locator("> .panel").all()
            assert len(labels) == len(panels) >= 2
            for label, shown in zip(labels, panels, strict=True):
                label.click()
                assert [panel.is_visible() for panel in panels] == [panel is shown for panel in panels]

    def test_each_fold_opens_on_a_click(self, tab, page):
        folded = [cell for cell in cells_of(page) if {"hide-cell", "hide-input"} & set(cell.metadata.get("tags", []))]
        folds = tab.locator("article details.hide").all()
        assert len(folds) == len(folded) > 0
        for fold in folds:
            source = fold.locator("pre").first
            assert not source.is_visible()
            fold.locator("summary").first.click()
            assert source.is_visible()


@pytest.mark.parametrize("page", ["notebooks/01a_data_exploration", "notebooks/04a_gpt2_from_scratch"], scope="class")
def test_on_paper_nothing_is_left_to_click_or_cut_off(tab):
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 680, "height": 960})  # A4 within its margins
    clicked = ".bd-sidebar-primary, .bd-sidebar-secondary, .prev-next-footer, button, .headerlink, details.hide"
    assert not any(element.is_visible() for element in tab.locator(clicked).all())
    assert tab.evaluate(OVERFLOW) == []


def test_search_finds_a_word_of_chapter_1(contexts, address):
    tab = contexts["light"].new_page()
    tab.goto(f"{address}/search.html?q=leakage")
    tab.locator("#search-results a[href*='01b_splits_and_leakage']").first.wait_for(timeout=10_000)
    tab.close()


def test_search_finds_each_term_of_the_glossary(contexts, address, soup):
    terms = {f"#{term['id']}": term.get_text() for term in soup("book/glossary.html").select("dl.glossary dt")}
    assert len(terms) > 100
    tab = contexts["light"].new_page()
    tab.goto(f"{address}/search.html?q=leakage")
    tab.locator("#search-results a").first.wait_for(timeout=10_000)  # the index is there
    ask = "(term) => Search._performSearch(...Search._parseQuery(term)).map(([page, , anchor]) => [page, anchor])"
    typed = {anchor: term.rstrip("#").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for anchor, term in terms.items()}
    found = {anchor: tab.evaluate(ask, term) for anchor, term in typed.items()}
    tab.close()
    assert [terms[anchor] for anchor, hits in found.items() if ["book/glossary", anchor] not in hits] == []
