"""Chapter 2's runs: how far image and description overlap."""

from pathlib import Path

from experiments.benchmarks import SEEDS, data_home, open_real
from experiments.record import round_decimals
from mmrec_helpers.encoders.models import load_encoder
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch02 import study_caption_swaps, study_captions, study_overlap, sweep_parameter


def overlap() -> dict:
    """The overlap study, its parameter sweeps and its swaps on three Pocket Shops."""
    models, fingerprints, shops = load_settings().models, [], {}
    encoder = load_encoder(models["clip"])
    for seed in SEEDS:
        dataset, truth = load_shop(seed)
        fingerprints.append(dataset.fingerprint)
        shops[str(seed)] = {
            "study": study_overlap(dataset, truth, models["clip"]),
            "study by SigLIP": study_overlap(dataset, truth, models["siglip"]),
            "overlap sweep": sweep_parameter("overlap", (0.0, 0.25, 0.5, 0.75, 1.0), encoder, seed, "laptop"),
            "noise sweep": sweep_parameter("noise", (0.0, 1.0), encoder, seed, "laptop"),
            "swaps": study_caption_swaps(dataset, truth, encoder),
        }
        print(f"seed {seed}", flush=True)
    run = {"seeds": SEEDS, "fingerprints": fingerprints, "clip": models["clip"], "siglip": models["siglip"]}
    parts = next(iter(shops.values()))
    return round_decimals(run | {part: {seed: shop[part] for seed, shop in shops.items()} for part in parts})


def overlap_real() -> dict:
    """The study on MovieLens's posters and overviews and on Flickr8k's photographs and captions.

    The encoders are those of the settings. The pocket models know drawings only: theirs are negative controls.
    """
    captions, models, sets = Path(data_home()) / "flickr8k-captions", load_settings().models, {}
    dataset, _ = open_real("MovieLens")
    for encoder in (models["clip"], models["siglip"]):
        flickr = study_captions(captions, load_encoder(encoder))
        sets[encoder] = {"MovieLens": study_overlap(dataset, None, encoder), "Flickr8k": flickr}
        print(encoder, flush=True)
    return round_decimals({"seeds": [0], "sets": sets})
