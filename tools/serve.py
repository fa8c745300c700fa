"""`make serve`: the service on this machine, with a model that is trained for it on first use."""

import sys

from mmrec_helpers.loading import load_data_for_training
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.app import run
from mmrec_helpers.serving.pipeline import Catalogue
from mmrec_helpers.settings import load_settings

EPOCHS = 4
"""Of the first version: enough to be better than popularity, and done in seconds."""


def main(port: int, sessions: str = "") -> None:
    """Serve the active version, sessions in Redis if there is a URL; if there is no version, publish one."""
    settings = load_settings()
    root = settings.cache / "serving" / settings.data.replace("/", "_").replace(":", "_")
    if not versions.active(root):
        split = load_data_for_training(settings)[0].leave_one_out()
        if not (root / "first").exists():
            versions.publish(root, "first", Catalogue.of(split), SASRec(epochs=EPOCHS, batch_size=256).fit(split))
        versions.activate(root, "first")
    run(root, port, sessions)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
