"""questions.py: twenty questions about four properties; an attribute without its own is named in the shared ones."""

from mmrec_helpers.llm.questions import questions_about


def test_four_properties_have_twenty_questions_and_others_their_own_name():
    wordings = [questions_about(name) for name in ("brand", "category", "title", "description")]
    assert [len(questions) for questions in wordings] == [5] * 4
    assert len({question for questions in wordings for question in questions}) == 20
    assert all("department" in question for question in questions_about("department"))
