"""references.bib: whatever the package cites is there, once."""

import re
from collections import Counter


def test_every_cited_key_is_in_the_references(root):
    known = Counter(re.findall(r"^@\w+\{([^,\s]+),", (root / "book" / "references.bib").read_text(), re.MULTILINE))
    assert max(known.values()) == 1
    cited = {}
    for path in sorted((root / "mmrec_helpers").rglob("*.py")):
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text()):
            cited |= {key.strip(): path.name for key in keys.split(",")}
    assert len(cited) > 5
    assert {key: name for key, name in cited.items() if key not in known} == {}
