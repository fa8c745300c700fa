"""book/your-data.md: what it shows is what happens."""

import json
import re

from mmrec_helpers.data.readers.folder import read_folder


def block(root, begin: str) -> str:
    """The page's only block of code that begins so."""
    (found,) = re.findall(
        rf"^```{begin}\n(.*?)^```$", (root / "book/your-data.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return found


def test_the_example_prints_what_the_page_shows(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(block(root, r"python(?=\n)"), {})
    assert capsys.readouterr().out == block(root, r"text(?=\nRecDataset)")


def test_the_mapping_reads_files_of_those_names(root, tmp_path):
    (tmp_path / "columns.json").write_text(block(root, "json"))
    (tmp_path / "photos").mkdir()
    for kind, tables in json.loads(block(root, "json")).items():
        for table in tables if kind == "items" else [tables] if kind == "interactions" else []:
            columns = {theirs: ours for ours, theirs in table.items() if ours not in ("file", "skip")}
            columns |= {name: "" for name in table.get("skip", [])} | {"colour": "blue"}
            values = ["7" if ours in ("user", "item", "time") else ours for ours in columns.values()]
            (tmp_path / table["file"]).write_text(",".join(columns) + "\n" + ",".join(values) + "\n")
    dataset, _ = read_folder(tmp_path)
    assert dataset.num_interactions == 1  # an empty rating would drop it
    assert dataset.column("colour").tolist() == [None, "blue"]
    assert (dataset.item(1)["title"], dataset.item(1)["description"]) == ("title", "description")
