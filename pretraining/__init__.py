"""The recipes of the pocket models: what they learn from, how they are trained and measured."""

import mmrec_helpers  # noqa: F401, so that torchvision can be imported
