"""`make serve`: the service on this machine. On first use popularity answers while a model is trained for it."""

import secrets
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.loading import load_data_for_training
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.app import run
from mmrec_helpers.serving.pipeline import Answer, Catalogue, Pipeline, Request
from mmrec_helpers.settings import load_settings

EPOCHS = 4
"""Of the first version: enough to be better than popularity, and done in seconds."""
FIRST = "first"


class MostPopular(Pipeline):
    """What needs no training: for every request the most popular items that filters and search leave."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue, self.version = catalogue, "popularity"
        catalogue.most_popular(Request(query="x"))  # so that the first search is as fast as others

    def recommend(self, requests: Sequence[Request]) -> list[Answer]:
        """See ``Pipeline``."""
        return [self.catalogue.most_popular(request) for request in requests]


def train_and_switch(split: Split, catalogue: Catalogue, root: Path, port: int, token: str) -> None:
    """Publish the first version unless it is there, and let the running service switch to it.

    Raises:
        Exception: training or switch has failed; popularity goes on, and a line says so.
    """
    try:
        if not (root / FIRST).exists():
            model = SASRec(epochs=EPOCHS, batch_size=256).fit(split)
            with suppress(FileExistsError):  # a service at another port was faster
                versions.publish(root, FIRST, catalogue, model)
        starting = httpx.HTTPTransport(retries=8)  # a small training may be done before the service listens
        with httpx.Client(transport=starting, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
            answer = client.post(f"http://127.0.0.1:{port}/version", json={"version": FIRST})
        if answer.is_error:
            raise RuntimeError(answer.json()["detail"])
    except Exception as error:
        print(f"Version {FIRST} cannot be served, popularity goes on: {error}", file=sys.stderr, flush=True)
        raise
    print(f"Version {FIRST} answers now.", flush=True)


def main(port: int, sessions: str = "") -> None:
    """Serve the active version, sessions in Redis if there is a URL; if there is no version, train one meanwhile."""
    settings, token = load_settings(), secrets.token_urlsafe(16)
    root = settings.cache / "serving" / settings.data.replace("/", "_").replace(":", "_")
    if versions.active(root):
        return run(root, port, sessions)
    split = load_data_for_training(settings)[0].leave_one_out()
    catalogue = Catalogue.of(split)
    until = MostPopular(catalogue)
    print(f"Popularity answers until version {FIRST} is trained.")
    threading.Thread(target=train_and_switch, args=(split, catalogue, root, port, token), daemon=True).start()
    run(root, port, sessions, until, token)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
