"""Shared by the tests of the sources: a small shop that each test damages in its own way."""

from pathlib import Path

import pytest
from PIL import Image

INTERACTIONS = ("user,item,time,rating,review", "ann,mug,100,5,good", "bob,lamp,50,3,", "ann,lamp,90,4,bright")
ITEMS = ("item,title,description,category,brand,price", "mug,Mug,holds tea,kitchen,Kim,$4.50", "lamp,Lamp,,light,,12")


class Shop:
    """A folder in the documented layout; ``write`` replaces a file, a list of lines or bytes."""

    def __init__(self, path: Path):
        self.path = path
        self.write("interactions.csv", INTERACTIONS)
        self.write("items.csv", ITEMS)

    def write(self, name: str, content: tuple[str, ...] | bytes) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else ("\n".join(content) + "\n").encode())
        return file

    def picture(self, name: str, size: tuple[int, int] = (3, 2)) -> Path:
        file = self.path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 90).save(file)
        return file


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path / "my shop")
