"""Language models: pretrained backbones and how they are fine-tuned."""
