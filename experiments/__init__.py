"""What is recorded in book/results."""

import mmrec_helpers  # noqa: F401, so that torchvision can be imported
