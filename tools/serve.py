"""`make serve`: the service on this machine, with a model that is trained for it on first use."""

import secrets
import sys

import faiss
import torch
import uvicorn

from mmrec_helpers.loading import load_data_for_training
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.app import create_app
from mmrec_helpers.serving.pipeline import Catalogue
from mmrec_helpers.settings import load_settings

EPOCHS = 4
"""Of the first version: enough to be better than popularity, and done in seconds."""


def main(port: int) -> None:
    """Serve the active version; publish and activate a first one if there is none."""
    settings = load_settings()
    root = settings.cache / "serving" / settings.data.replace("/", "_").replace(":", "_")
    if not versions.active(root):
        split = load_data_for_training(settings)[0].leave_one_out()
        if not (root / "first").exists():
            versions.publish(root, "first", Catalogue.of(split), SASRec(epochs=EPOCHS, batch_size=256).fit(split))
        versions.activate(root, "first")
    token = secrets.token_urlsafe(16)
    print(f"Versions lie in {root}", f"Switch with the header Authorization: Bearer {token}", sep="\n", flush=True)
    torch.set_num_threads(1)  # a batch is small, and the other cores parse and validate
    faiss.omp_set_num_threads(1)
    app = create_app(root, token)
    uvicorn.run(app, port=port, access_log=False, server_header=False, timeout_graceful_shutdown=10)


if __name__ == "__main__":
    main(int(sys.argv[1]))
