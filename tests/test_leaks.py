"""No test question is in the training data, by text; and the search finds one that is put there."""

from data.questions import questions
from leaks import asked, found_in, search, why, worked
from rubrics import Example

CALCULATION = Example(
    "",
    "A cart rolls. The mass is 3 kg and the acceleration is 4 m/s². What is the force?",
    solution="force = mass × acceleration = 3 kg × 4 m/s² = 12 N\nAnswer: 12 N",
)
WHY = Example("", "Given: same wind. The cloud cover rises. What happens to the sunlight, and why?")


def test_no_test_question_is_in_the_training_data():
    found, compared = search(0, 1500, 300, 200, 100)
    assert found == {"question": [], "working": [], "numbers": [], "why": []}
    assert compared["working"] > 900 and compared["numbers"] > 500 and compared["why"] > 800


def test_a_question_that_is_put_there_is_found():
    solved_back = "mass = force ÷ acceleration = 12 N ÷ 4 m/s² = 3 kg\nAnswer: 3 kg"
    assert found_in([CALCULATION], [("x", solved_back)])[0]["working"]
    assert not found_in([CALCULATION], [("x", solved_back.replace("3", "5"))])[0]["working"]
    other_words = "Find the force. Given: mass = 3 kg, acceleration = 4 m/s². A cart rolls."
    assert found_in([CALCULATION], [(other_words.replace("Given: ", "It is known: "), "")])[0]
    again = "Explain how the sunlight will change. Suppose that the cloud cover rises. Given: same wind."
    assert found_in([WHY], [(again, "")])[0]["why"] and why(again) == why(WHY.question)
    for other in (again.replace("rises", "falls"), again.replace("same wind", "same sea")):
        assert not found_in([WHY], [(other, "")])[0]["why"]


def test_the_marks_tell_the_questions_apart_as_the_keys_do():
    """As many marks as keys: the reading of the text loses nothing and makes nothing up."""
    rows = questions("x", 900, "train", 0, new_share=0.5, explanation_share=1)
    marks = {why(e.question) for e in rows}
    keys = {(e.meta["keys"][0].replace(":held:", ":effect:")) for e in rows}
    keys = {key.replace(":two causes:", ":effect:") for key in keys}
    assert None not in marks and len(marks) == len(keys) > 600
    rows = questions("x", 300, "train", 0, new_share=0.5, explanation_share=0)
    plain = [e for e in rows if e.meta["kind"] not in ("comparison", "missing")]
    read = sum(bool(worked(e.solution)) for e in plain), sum(bool(asked(e.question)) for e in plain)
    assert min(read) > 0.9 * len(plain) and not any(why(e.question) for e in rows)
