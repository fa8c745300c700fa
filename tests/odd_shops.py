"""Thirty small shops, each odd in one way, as folders that ``read_folder`` opens."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

TEXTS = {
    "Chinese titles": "蓝色 陶瓷 杯子",
    "Arabic titles": "كوب أزرق",
    "Hebrew titles": "ספל כחול",
    "Thai titles": "แก้วสีฟ้า",
    "emoji titles": "☕🟦👩‍👩‍👧",
    "accents in two Unicode forms": "cafe\u0301 café",
    "titles of markup": "<b>mug</b> <script>x</script>",
    "titles of formulas": "$x$ $$ \\(y\\)",
    "titles of one character": "a",
    "titles of 5,000 characters": "mug " * 1_250,
    "titles with quotes and line ends": 'a "big"\r\nmug, blue',
    "titles of spaces": "   ",
}
OTHERS = (
    "8 items",
    "one user",
    "two users",
    "one interaction a user",
    "one moment",
    "one day",
    "7 days",
    "no texts",
    "no pictures",
    "all pictures missing but one",
    "one category",
    "no categories",
    "a category for each item",
    "no prices",
    "no reviews",
    "one rating",
    "ids of numbers",
    "200 users and 50 items",
)
SHOPS = (*TEXTS, *OTHERS)


def write_shop(name: str, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write one of SHOPS; return its interactions and items. 40 users, 30 items, unless its name says otherwise."""
    rng, days = np.random.default_rng(SHOPS.index(name)), {"one day": 1, "7 days": 7}.get(name, 300)
    users, items = {"8 items": (40, 8), "one user": (1, 30), "two users": (2, 30)}.get(name, (40, 30))
    users, items = (200, 50) if name == "200 users and 50 items" else (users, items)
    length = 1 if name == "one interaction a user" else min(12, items)
    rows = [(f"u{user}", item) for user in range(users) for item in rng.permutation(items)[:length]]
    log = pd.DataFrame(rows, columns=["user", "item"])
    log["time"] = 1_600_041_600 + (0 if name == "one moment" else np.sort(rng.integers(days * 86_400, size=len(log))))
    log["rating"] = 5 if name == "one rating" else rng.integers(1, 6, len(log))
    log["review"] = "" if name == "no reviews" else "It is good, and as described."
    goods = pd.DataFrame({"item": range(items)})
    kind = "" if name == "no texts" else TEXTS.get(name, "a blue mug")
    goods["title"] = [kind if len(kind) < 4 else f"{kind} {number}" for number in goods["item"]]
    goods["description"] = [kind and f"{kind}, number {number}, of steel." for number in goods["item"]]
    number = {"one category": 0, "a category for each item": goods["item"]}.get(name, goods["item"] % 5)
    goods["category"] = "" if name == "no categories" else ("kind " + pd.Series(number, goods.index).astype(str))
    goods["brand"] = "Kim"
    goods["price"] = "" if name == "no prices" else rng.integers(1, 90, items)
    if name != "ids of numbers":
        log["item"], goods["item"] = ("i" + table["item"].astype(str) for table in (log, goods))
    pictures = {"no pictures": 0, "all pictures missing but one": 1}.get(name, items)
    (folder / "images").mkdir(parents=True)
    for item in goods["item"][:pictures]:
        Image.fromarray(rng.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(folder / "images" / f"{item}.png")
    log.to_csv(folder / "interactions.csv", index=False)
    goods.to_csv(folder / "items.csv", index=False)
    return log, goods
