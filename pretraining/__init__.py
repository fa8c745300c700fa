"""The recipes of the pocket models: their training data, how they are trained and how they are measured."""

import mmrec_helpers  # noqa: F401, so that torchvision can be imported
