"""Sphinx extension of the book: launch buttons that follow the repository's address, and the status table."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from mmrec_helpers.evaluation.intervals import format_interval, mean_interval
from mmrec_helpers.evaluation.published import PUBLISHED
from mmrec_helpers.evaluation.runs import load_runs
from mmrec_helpers.evaluation.tables import compare, pooled

NOT_RECORDED = "not recorded yet"
COLAB = "https://colab.research.google.com"


def follow_repository(app: Sphinx, config: Config) -> None:
    """Show repository and launch buttons only where there is a repository to point to."""
    options = config.html_theme_options
    public = bool(options.get("repository_url"))
    options["use_repository_button"] = options["use_issues_button"] = public
    options["launch_buttons"]["colab_url"] = COLAB if public else ""


def drop_thebe(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Leave out Thebe: the book does not use it, it names a content network, and declared twice it is an error."""
    scripts = context.get("script_files", [])
    context["script_files"] = [script for script in scripts if "thebe" not in f"{script} {script.attributes}".lower()]


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
    """The claims of ``book/claims.yml``, one definition list a claim."""

    def run(self) -> list[nodes.Node]:
        """The list."""
        path = Path(self.env.srcdir) / "book" / "claims.yml"
        self.env.note_dependency(str(path))
        lines = []
        for row in yaml.safe_load(path.read_text()):
            lines += [f"**{row['claim']}** {{cite}}`{row['paper']}`, {row['place']}.", ""]
            lines += ["| Where | What |", "|---|---|"]
            for field, label in (("theirs", "Paper"), ("ours", "Here"), ("real", "Real data")):
                lines.append(f"| {label} | {row[field]} |")
            lines += [f"| Verdict | **{row['verdict']}** |", f"| Shown in | {row['cell']} |", ""]
        return parsed(self, lines)


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
    """A number of ours from recorded runs with its 95 % interval: a mean, or a ratio; else that it is not recorded.

    Args:
        row: ``study`` and ``system``, with ``split``, ``protocol`` and ``metric`` of the setting on the Pocket Shop;
            ``to``, study and system to whose mean it is taken as a ratio. Or ``slower`` and ``faster``, expressions of
            items of chapter 5's timing at histories of ten items.
        results: folder of the records.
    """
    if "study" not in row:
        return NOT_RECORDED
    where = {"data": "pocket", "protocol": row["protocol"]}
    try:
        if "slower" in row:
            (run,) = load_runs(results / f"{row['study']}.parquet", **where)
            slow, fast = (median(run.scalars["seconds"][row[name]]["10"]) for name in ("slower", "faster"))
            return f"{slow / fast:.1f}"
        where |= {"split": row["split"], "part": "test"}
        systems = [(row["study"], row["system"]), *row.get("to", {}).items()]
        runs = [load_runs(results / f"{study}.parquet", system=name, **where) for study, name in systems]
    except FileNotFoundError:
        return NOT_RECORDED
    except ValueError as error:
        if "has no runs with" not in str(error):
            raise
        return NOT_RECORDED
    own = pooled(runs[0], row["metric"])
    if len(runs) == 1:
        return format_interval(mean_interval(own.to_numpy()))
    shops = {run.stamp["fingerprint"] for run in runs[0]}  # the reference may be recorded on more
    runs[1] = [run for run in runs[1] if run.stamp["fingerprint"] in shops]
    gap = compare([*runs[0], *runs[1]], systems[0][1], systems[1][1], row["metric"])[["mean", "ci_low", "ci_high"]]
    return format_interval(1 + gap / pooled(runs[1], row["metric"]).mean())


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
    app.add_directive("notebook-status", NotebookStatus)
    app.add_directive("claims-ledger", ClaimsLedger)
    app.add_directive("recorded-result", RecordedResult)
    app.add_directive("reproduction", Reproduction)
    return {"version": "1", "parallel_read_safe": True}
