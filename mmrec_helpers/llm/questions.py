"""The questions of image-LLM alignment, in our own words: five for each property of the next item."""

_ATTRIBUTE = (
    "Which {} will they buy next?",
    "What {} does the next purchase have?",
    "Name the {} of the next purchase.",
    "Which {} comes next?",
    "Of which {} is the next purchase?",
)
_QUESTIONS = {
    "title": (
        "What is the next purchase called?",
        "What is the title of the next purchase?",
        "Name the next purchase.",
        "What will they buy next?",
        "Which item comes next?",
    ),
    "description": (
        "Describe the next purchase.",
        "What is the next purchase like?",
        "Give the details of the next purchase.",
        "Say more about the next purchase.",
        "What does the shop say of the next purchase?",
    ),
}


def questions_about(name: str) -> list[str]:
    """The five questions about a property: ``title``, ``description``, or an attribute such as ``category``."""
    return [question.format(name) for question in _QUESTIONS.get(name, _ATTRIBUTE)]
