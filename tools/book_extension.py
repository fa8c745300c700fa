"""Sphinx extension of the book: launch buttons that follow the repository's address, study times, tables."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from html import escape, unescape
from pathlib import Path
from typing import Any

import yaml
from claims import NOT_RECORDED
from classroom import TESTS, exercises, mistake, title_of
from docutils import nodes
from ledger import VERDICTS, Judged, judge, measure, printed_text, runs_in, with_intervals
from pages import mend_pages, preview, sitemap
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

from mmrec_helpers.evaluation.published import PUBLISHED
from mmrec_helpers.evaluation.runs import load_runs

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
LAUNCHERS = {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org"}
"""Public services that open a notebook of a repository; a JupyterHub is an institution's own, see _config.yml."""


def follow_repository(app: Sphinx, config: Config) -> None:
    """Show repository and launch buttons only where there is a repository to point to."""
    options = config.html_theme_options
    url, buttons = options.get("repository_url") or "", options["launch_buttons"]
    options["use_repository_button"] = options["use_issues_button"] = bool(url)
    buttons |= {name: service if url else "" for name, service in LAUNCHERS.items()}
    if "//github.com/" not in url:  # Colab opens no other repositories
        buttons["colab_url"] = ""
    if not url:
        buttons["jupyterhub_url"] = ""


def drop_thebe(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Leave out Thebe: the book does not use it, it names a content network, and declared twice it is an error."""
    scripts = context.get("script_files", [])
    context["script_files"] = [script for script in scripts if "thebe" not in f"{script} {script.attributes}".lower()]


def add_preview(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add what a link to the page shows elsewhere."""
    if doctree is None:
        return
    first = next((node.astext() for node in doctree.findall(nodes.paragraph)), "")
    context["metatags"] += preview(
        unescape(re.sub("<[^>]*>", "", context["title"])), first, address(app), f"{pagename}.html"
    )


def address(app: Sphinx) -> str:
    """Where the book lies, ending in a slash; empty if it has no public address."""
    base = app.config.html_baseurl
    return base.rstrip("/") + "/" if base else ""


def finish(app: Sphinx, failure: Exception | None) -> None:
    """Make the built pages accessible, and list them for search engines if they have a public address."""
    if failure is not None or app.builder.format != "html":
        return
    mend_pages(Path(app.outdir))
    if base := address(app):
        names = [app.builder.get_target_uri(name) for name in app.env.found_docs]
        (Path(app.outdir) / "sitemap.xml").write_text(sitemap(base, names), encoding="utf-8")


class StudyTime(SphinxRole):
    """Minutes that notebooks state in their front matter: of a chapter (``01``) or of one notebook (``01a``)."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The minutes."""
        paths = sorted(NOTEBOOKS.glob(f"{self.text}*.ipynb"))
        for path in paths:
            self.env.note_dependency(str(path))
        return [nodes.Text(f"{study_minutes(paths)} minutes")], []


def study_minutes(paths: list[Path]) -> int:
    """The sum of the study times of notebooks.

    Raises:
        ValueError: there is no notebook, or one has no study time.
    """
    found = [re.search(r"\*\*Study time\*\* (\d+) minutes", path.read_text()) for path in paths]
    if not found or None in found:
        raise ValueError(f"a study time is missing: {[path.name for path in paths]}")
    return sum(int(time[1]) for time in found if time)


class CoursePlan(SphinxDirective):
    """A table of a course: each line names a session, its notebooks and its homework; titles and times are theirs."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """The table."""
        for path in NOTEBOOKS.glob("*.ipynb"):
            self.env.note_dependency(str(path))
        return parsed(self, plan(self.arguments[0], list(self.content)))


def plan(unit: str, rows: list[str]) -> list[str]:
    """The lines of the table of a course.

    Raises:
        ValueError: a row names a notebook that does not exist, or homework that is of none of its notebooks.
    """
    lines = [f"| {unit} | Notebooks | Study | Homework | Minutes |", "|---|---|--:|---|--:|"]
    for row in rows:
        label, names, work = (part.strip().split() for part in row.split("|"))
        paths = [path for name in names for path in NOTEBOOKS.glob(f"{name}_*.ipynb")]
        own = [one for path in paths for one in exercises(path) if one.number in work]
        if len(paths) != len(names) or len(own) != len(work):
            raise ValueError(f"a course plan names what its notebooks do not have: {row}")
        links = "; ".join(f"{path.stem[:3]} [{title_of(path)}](../notebooks/{path.name})" for path in paths)
        cells = [" ".join(label), links, f"{study_minutes(paths)}", ", ".join(one.number for one in own)]
        lines.append(f"| {' | '.join(cells)} | {sum(one.minutes for one in own)} |")
    return lines


class ExerciseTable(SphinxDirective):
    """All exercises: number and title, stars, minutes, and a typical mistake; a table a chapter."""

    def run(self) -> list[nodes.Node]:
        """The tables."""
        for path in (TESTS, *NOTEBOOKS.glob("*.ipynb")):
            self.env.note_dependency(str(path))
        return parsed(self, [line for chapter in range(1, 10) for line in exercise_rows(chapter)])


def exercise_rows(chapter: int) -> list[str]:
    """The lines of a chapter's table of exercises."""
    lines = ["| Exercise | Stars | Minutes | A typical mistake |", "|---|--:|--:|---|"]
    found = [(path, one) for path in sorted(NOTEBOOKS.glob(f"0{chapter}*.ipynb")) for one in exercises(path)]
    for path, one in found:
        anchor = nodes.make_id(f"Exercise {one.number}: {one.title}")
        link = f'<a href="../notebooks/{path.stem}.html#{anchor}">{one.number} {escape(one.title)}</a>'
        lines.append(f"| {link} | {one.difficulty} | {one.minutes} | {escape(mistake(one)).replace('|', '&#124;')} |")
    minutes, points = sum(one.minutes for _, one in found), sum(one.difficulty for _, one in found)
    total = f"{len(found)} exercises, {minutes} minutes, {points} stars."
    return [f"**[](chapter-{chapter})**: {total}", "", *lines, ""]


class NotebookStatus(SphinxDirective):
    """A table of each notebook's minutes, device and versions, from ``book/results/notebooks.json``."""

    def run(self) -> list[nodes.Node]:
        """The table."""
        path = Path(self.env.srcdir) / "book" / "results" / "notebooks.json"
        self.env.note_dependency(str(path))
        lines = ["| Notebook | Minutes | Profile | Device | Versions |", "|---|---|---|---|---|"]
        for name, run in sorted(json.loads(path.read_text()).items()):
            versions = ", ".join(f"{package} {number}" for package, number in run["versions"].items())
            versions += f", Python {run['python']}"
            lines.append(f"| {name} | {run['seconds'] / 60:.1f} | {run['profile']} | {run['device']} | {versions} |")
        return parsed(self, lines)


class ClaimsLedger(SphinxDirective):
    """The claims of a paper in ``book/claims.yml``, one row each; without an argument the number of each verdict."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table."""
        book = Path(self.env.srcdir) / "book"
        for path in (book / "claims.yml", *sorted((book / "results").glob("*.parquet"))):
            self.env.note_dependency(str(path))
        judged = judged_claims(book)
        if not self.arguments:
            return parsed(self, counts(judged))
        own = [(row, one) for row, one in judged if row["paper"] == self.arguments[0]]
        found = Counter(one.verdict for _, one in own)
        numbers = ", ".join(f"{name} {found[name]}" for name in VERDICTS if found[name])
        table = nodes.table(classes=["claims"])
        group = nodes.tgroup(cols=4)
        head, body = nodes.thead(), nodes.tbody()
        table += group
        group += [nodes.colspec(colwidth=width) for width in (36, 20, 26, 18)]
        group += [head, body]
        head += [nodes.row("", *(nodes.entry("", nodes.paragraph(text=name)) for name in HEADS))]
        body += [nodes.row("", *(nodes.entry("", *cell) for cell in self.cells(*one))) for one in own]
        return [nodes.paragraph(text=f"{len(own)} claims: {numbers}."), table]

    def cells(self, row: Mapping[str, Any], own: Judged) -> list[list[nodes.Node]]:
        """The claim with its details, the paper's number, ours, the verdict."""
        head = f"<details><summary>{escape(row['claim'])}</summary>"
        claim = [
            nodes.raw("", head, format="html"),
            *parsed(self, details(row, own)),
            nodes.raw("", "</details>", format="html"),
        ]
        sides = [f"{own.sides.count(side)} {name}" for side, name in SIDES.items() if side in own.sides]
        verdict = nodes.paragraph("", "", nodes.strong(text=own.verdict))
        if own.missing and own.sides:
            sides.append(f"{own.missing} not recorded")
        if len(sides) > 1:
            verdict += nodes.Text(f" ({', '.join(sides)})")
        texts = printed_text(row["theirs"]), own.short or row.get("note", "")
        return [claim, *([nodes.paragraph(text=text)] for text in texts), [verdict]]


HEADS = ("Claim", "Paper", "Here", "Verdict")
SIDES = {1: "for", 0: "open", -1: "against"}


@cache
def _judged(path: Path, changed: tuple[int, ...]) -> list[tuple[dict[str, Any], Judged]]:
    rows = yaml.safe_load((path / "claims.yml").read_text())
    return list(zip(rows, judge(rows, runs_in(path / "results")), strict=True))


def judged_claims(book: Path) -> list[tuple[dict[str, Any], Judged]]:
    """The rows of the ledger with what the records make of them; made anew only if a file changed."""
    paths = (book / "claims.yml", *sorted((book / "results").glob("*.parquet")))
    return _judged(book, tuple(path.stat().st_mtime_ns for path in paths))


def counts(judged: list[tuple[dict[str, Any], Judged]]) -> list[str]:
    """A table of the verdicts."""
    found = Counter(own.verdict for _, own in judged)
    lines = [f"The ledger has {len(judged)} claims.", "", "| Verdict | Claims |", "|---|--:|"]
    return lines + [f"| {name} | {found[name]} |" for name in VERDICTS]


def details(row: Mapping[str, Any], own: Judged) -> list[str]:
    """What is folded below a claim."""
    lines = [f"{row['place'][0].upper()}{row['place'][1:]}.", ""]
    if row.get("rule"):
        lines += [f"Rule: {row['rule']}.", ""]
    lines += [f"- {escape(line)}" for line in own.lines] + [""]
    if own.beside:
        lines += ["Shown beside it:", "", *(f"- {escape(line)}" for line in own.beside), ""]
    lines += [f"Asserted, {name}: `{text}`\n" for name, text in row.get("asserts", {}).items()]
    lines += [f"Released code: {row['source']}.", ""] if "source" in row else []
    lines += [f"{row['note']}.", ""] if "note" in row else []
    places = [f'<a href="{address}">{escape(heading)}</a>' for heading, address in headings(row["cell"])]
    return [*lines, f"Shown in {' and '.join(places)}."]


def headings(cell: Mapping[str, str]) -> list[tuple[str, str]]:
    """Heading and address of the sections of notebooks that a row names, such as ``04b: Cold items``."""
    found = []
    for name, heading in cell.items():
        (path,) = NOTEBOOKS.glob(f"{name}_*.ipynb")
        found.append((heading, f"../notebooks/{path.stem}.html#{nodes.make_id(heading)}"))
    return found


class Reproduction(SphinxDirective):
    """The headline numbers of ``book/reproduction.yml`` beside ours, one definition list a number."""

    def run(self) -> list[nodes.Node]:
        """The list."""
        book = Path(self.env.srcdir) / "book"
        lines = []
        for path in (book / "reproduction.yml", *sorted((book / "results").glob("ch*.parquet"))):
            self.env.note_dependency(str(path))
        for row in yaml.safe_load((book / "reproduction.yml").read_text()):
            lines += [f"**{row['claim']}** {{cite}}`{row['paper']}`, {row['place']}.", ""]
            lines += ["| What | Number |", "|---|---|", f"| Paper: {row['what']} | {printed(row['printed'])} |"]
            lines += [f"| Here: {own['what']} | {ours(own, book / 'results')} |" for own in row["ours"]]
            lines += [f"| Why they differ | {row['why']} |", f"| Shown in | {row['cell']} |", ""]
        return parsed(self, lines)


def printed(number: str | dict[str, str]) -> str:
    """A number of a paper: as it stands in a text, or made from one or two rows of its transcribed table."""
    if isinstance(number, str):
        return number
    table, metric = PUBLISHED[number["table"]], number["metric"]
    own = table[number["system"]][metric]
    return f"{own / table[number['to']][metric]:.2f}" if "to" in number else f"{own:.3f}"


def ours(row: dict[str, Any], results: Path) -> str:
    """A number of ours from recorded runs with its 95 % interval, as in the ledger; or that there is none."""
    if "study" not in row:
        return NOT_RECORDED
    recorded = {name: value for name, value in row.items() if name != "what"}  # which the ledger does not have
    return with_intervals([measure(recorded, runs_in(results))])[0].number


class RecordedResult(SphinxDirective):
    """A study of ``book/results``, columns its seeds: NDCG@10 of its systems, or what one system does by task."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table."""
        study, *systems = self.arguments
        path = Path(self.env.srcdir) / "book" / "results" / f"{study}.parquet"
        self.env.note_dependency(str(path))
        runs = load_runs(path, **({"system": systems[0]} if systems else {}))
        rows: dict[str, dict[int, float]] = {}
        for run in runs:
            found = run.scalars if systems else {run.system: run.metric("NDCG@10").mean()}
            for row, number in found.items():
                if run.stamp["seed"] in rows.setdefault(row, {}):
                    raise ValueError(f"{path}: two runs of {row} have the seed {run.stamp['seed']}")
                rows[row][run.stamp["seed"]] = number
        if not systems:
            rows = dict(sorted(rows.items(), key=lambda row: sum(row[1].values())))  # the ceilings are the last
        seeds = sorted({run.stamp["seed"] for run in runs})
        heads = [f"seed {seed}" for seed in seeds]
        lines = [f"| {systems[0] if systems else 'NDCG@10'} | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
        lines += [f"| {row} | {' | '.join(f'{found[seed]:.3f}' for seed in seeds)} |" for row, found in rows.items()]
        for stamp in {run.stamp["commit"]: run.stamp for run in runs}.values():
            versions = ", ".join(f"{package} {number}" for package, number in stamp["versions"].items())
            made = f"Recorded by `make results` at commit {stamp['commit'][:7]} on {stamp['device']}; {versions}."
            lines += ["", made]
        return parsed(self, lines)


def parsed(directive: SphinxDirective, lines: list[str]) -> list[nodes.Node]:
    """The nodes of lines of MyST."""
    container = nodes.container()
    directive.state.nested_parse(lines, directive.content_offset, container)
    return container.children


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register with Sphinx."""
    app.connect("config-inited", follow_repository)
    app.connect("html-page-context", drop_thebe, priority=900)  # after whoever adds scripts
    app.connect("html-page-context", add_preview)
    app.connect("build-finished", finish)
    app.add_role("study-time", StudyTime())
    app.add_directive("course-plan", CoursePlan)
    app.add_directive("exercise-table", ExerciseTable)
    app.add_directive("notebook-status", NotebookStatus)
    app.add_directive("claims-ledger", ClaimsLedger)
    app.add_directive("recorded-result", RecordedResult)
    app.add_directive("reproduction", Reproduction)
    return {"version": "1", "parallel_read_safe": True}
