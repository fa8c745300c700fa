"""What is recorded in book/results: one module a chapter, run by ``python -m experiments [NAME ...]``."""

import mmrec_helpers  # noqa: F401, so that torchvision can be imported
