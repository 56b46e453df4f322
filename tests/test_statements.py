"""Statements of cause and effect: what counts as saying one, and what does not."""

import pytest

from data.statements import ANSWERS, answered, claims, claims_of, claims_too, statement, turned

FALLS = "the cloud cover rises, so the sunlight falls"  # they go opposite ways
RISES = "the heater power rises, so the water temperature rises"
HELD = "the rainfall stays the same, so the soil moisture stays the same"

SAID = {  # each of these texts says the statement
    FALLS: (
        "the cloud cover rises, so the sunlight falls",
        "The cloud cover rises, so the sunlight falls.",
        "the cloud cover rises so the sunlight falls",
        "Cloud cover rises, so sunlight falls",
        "the cloud cover increases, so the sunlight decreases",
        "the cloud cover grows, so the sunlight shrinks",
        "the cloud cover goes up, so the sunlight goes down",
        "the cloud cover is greater, so the sunlight is lower",
        "the cloud cover is higher, so the sunlight is smaller",
        "the cloud cover is larger, so the sunlight is less",
        "the cloud cover rises, so the sunlight drops",
        "the cloud cover rises, therefore the sunlight falls",
        "the cloud cover rises, thus the sunlight falls",
        "the cloud cover rises, hence the sunlight falls",
        "the cloud cover rises, which means that the sunlight falls",
        "the cloud cover rises, and so the sunlight falls",
        "the cloud cover rises so that the sunlight falls",
        "when the cloud cover rises, the sunlight falls",
        "When the cloud cover rises, then the sunlight falls.",
        "if the cloud cover rises, the sunlight falls",
        "as the cloud cover rises, the sunlight falls",
        "because the cloud cover rises, the sunlight falls",
        "Since the cloud cover rises, the sunlight falls.",
        "because the cloud cover rises, so the sunlight falls",
        "the sunlight falls when the cloud cover rises",
        "The sunlight falls if the cloud cover rises.",
        "the sunlight falls because the cloud cover rises",
        "the sunlight falls, because the cloud cover rises",
        "the sunlight decreases as the cloud cover increases",
        "the sunlight falls since the cloud cover rises",
        "the cloud cover falls, so the sunlight rises",
        "when the cloud cover drops, the sunlight increases",
        "the sunlight rises because the cloud cover falls",
        "in A, the cloud cover is greater, so the sunlight is lower",
        "in B, the cloud cover is lower, so the sunlight is greater",
        "In valley A, the cloud cover is greater, so the sunlight is lower.",
        "in A, the sunlight is lower because the cloud cover is greater",
        "So the cloud cover rises, so the sunlight falls",
        "1. the cloud cover rises, so the sunlight falls",
        "- the cloud cover rises, so the sunlight falls",
        "the cloud cover also rises, so the sunlight also falls",
        "the humidity rises, so the cloud cover rises, so the sunlight falls",
        "the cloud cover rises, so the sunlight falls, so the leaf temperature falls",
        "the day is long.\nthe cloud cover rises, so the sunlight falls\nAnswer: it falls",
        "a rises, so b falls\nthe sunlight falls when the cloud cover rises",
        "the CLOUD COVER rises, so the SUNLIGHT falls",
    ),
    RISES: (
        "the heater power rises, so the water temperature rises",
        "the heater power falls, so the water temperature falls",
        "the water temperature rises as the heater power grows",
        "when the heater power goes down, the water temperature goes down",
        "in B, the heater power is lower, so the water temperature is lower",
        "the current rises, so the heater power rises, so the water temperature rises",
        "the water temperature is greater because the heater power is greater",
        "if the heater power decreases, the water temperature decreases",
        "the heater power is increasing, so the water temperature is increasing",
        "the heater power is rising, so the water temperature is rising",
        "when the heater power is falling, the water temperature is falling",
    ),
    HELD: (
        "the rainfall stays the same, so the soil moisture stays the same",
        "the rainfall stays constant, so the soil moisture stays constant",
        "the rainfall does not change, so the soil moisture does not change",
        "the soil moisture remains unchanged because the rainfall remains unchanged",
        "when the rainfall is the same, the soil moisture is the same",
        "the rainfall is unchanged, so the soil moisture is unchanged",
        "in A, the rainfall is the same, so the soil moisture is the same",
    ),
}
NOT_SAID = {  # none of these says it
    FALLS: (
        "",
        "Answer: it falls",
        "the sunlight falls",
        "the cloud cover rises",
        "the cloud cover rises and the sunlight falls",
        "the cloud cover rises. The sunlight falls.",
        "the cloud cover rises\nso the sunlight falls",
        "the cloud cover rises, so the sunlight rises",
        "the cloud cover falls, so the sunlight falls",
        "the cloud cover rises, so the sunlight stays the same",
        "the cloud cover stays the same, so the sunlight stays the same",
        "the cloud cover stays the same, so the sunlight falls",
        "the sunlight falls, so the cloud cover rises",
        "the cloud cover rises because the sunlight falls",
        "when the sunlight falls, the cloud cover rises",
        "the sunlight rises when the cloud cover rises",
        "when the cloud cover rises, the sunlight rises",
        "the cloud cover thickness rises, so the sunlight falls",
        "the high cloud cover rises, so the sunlight falls",
        "the cover rises, so the sunlight falls",
        "the cloud rises, so the sunlight falls",
        "the cloud cover rises, so the light falls",
        "the cloud cover rises, so the surface sunlight falls",
        "the cloud cover rises, so the sunlight intensity falls",
        "the cloud cover rises, so the sunlight does not fall",
        "the cloud cover does not rise, so the sunlight falls",
        "the cloud cover rises, so the sunlight never falls",
        "it is not true that the cloud cover rises, so the sunlight falls",
        "It is wrong that the sunlight falls when the cloud cover rises",
        "It is false that when the cloud cover rises, the sunlight falls",
        "the cloud cover rises, so the sunlight falls: this is incorrect",
        "that the cloud cover rises does not mean that the sunlight falls",
        "in A, the cloud cover is greater, so the sunlight is greater",
        "in A, the cloud cover is greater, so the sunlight is the same",
        "in B, the cloud cover is lower, so the sunlight is lower",
        "the humidity rises, so the sunlight falls",
        "the cloud cover rises, so the humidity rises, so the sunlight falls",
        "the cloud cover rises, so the humidity falls",
        "the cloud cover falls because the sunlight rises",
        "the cloud cover changes, so the sunlight changes",
        "the cloud cover rises, so the sunlight falls or rises",
        "the cloud cover rises, but the sunlight falls",
        "the cloud cover and the haze rise, so the sunlight falls",
        "does the cloud cover rise, so the sunlight falls?",
        "sunlight = power ÷ cloud cover",
        "the cloud cover rises, so it falls",
        "the cloud cover rises, so",
        ", so the sunlight falls",
    ),
    RISES: (
        "the heater power rises, so the temperature rises",
        "the heater power rises, so the water rises",
        "the power rises, so the water temperature rises",
        "the water temperature rises, so the heater power rises",
        "the heater power falls, so the water temperature rises",
        "the heater power rises, so the waste water temperature rises",
        "the current rises, so the water temperature rises",
        "the current rises, so the heater power rises",
        "the heater power and the water temperature rise",
        "the heater power is not greater, so the water temperature is not greater",
        "heater power × time = heat",
    ),
    HELD: (
        "the rainfall rises, so the soil moisture rises",
        "the rainfall rises, so the soil moisture stays the same",
        "the rainfall stays the same, so the soil moisture rises",
        "the soil moisture stays the same, so the rainfall stays the same",
        "the soil moisture stays the same",
        "the rain stays the same, so the soil moisture stays the same",
    ),
}


def pairs(table):
    return [(wanted, text) for wanted, texts in table.items() for text in texts]


@pytest.mark.parametrize("wanted, text", pairs(SAID))
def test_it_says_so(wanted, text):
    assert claims_too(text, wanted)


@pytest.mark.parametrize("wanted, text", pairs(NOT_SAID))
def test_it_does_not_say_so(wanted, text):
    assert not claims_too(text, wanted)


def test_the_tables_are_long_and_have_no_text_twice():
    for table in (SAID, NOT_SAID):
        assert len(pairs(table)) == len(set(pairs(table))) >= 60


def test_a_chain_claims_each_of_its_links():
    assert claims("the a rises, so the b falls, so the c falls") == {("a", "b", -1), ("b", "c", 1)}
    assert claims("the a rises, so the b falls\nthe c rises when the b falls") == {
        ("a", "b", -1),
        ("b", "c", -1),
    }
    assert claims("in A, the a is lower, so the b is lower, so the c is greater") == {
        ("a", "b", 1),
        ("b", "c", -1),
    }


@pytest.mark.parametrize("does", [1, -1])
@pytest.mark.parametrize("then", [1, 0, -1])
def test_the_claim_does_not_depend_on_the_direction(does, then):
    said = claims_of(statement("ice area", does, "sea level", then))
    assert said == {("ice area", "sea level", does * then)}
    assert said == claims_of(statement("ice area", -does, "sea level", -then))
    if then:
        assert claims_of(turned(statement("ice area", does, "sea level", then))) == {
            ("ice area", "sea level", -does * then)
        }


def test_a_choice_turned_round_keeps_its_letter():
    assert turned("the a rises, so the b falls (C)") == "the a rises, so the b rises (C)"
    assert turned("the b falls when the a rises (C)") == "the b rises when the a rises (C)"
    held = "the a stays the same, so the b stays the same (A)"
    assert turned(held) == "the a rises, so the b stays the same (A)"


def test_names_that_sound_like_verbs_come_through():
    for name in ("capillary rise", "rainfall", "grass growth", "boiling-point elevation", "ph"):
        assert claims_of(f"the {name} rises, so the {name} rate falls") == {
            (name, f"{name} rate", -1)
        }
        assert claims_of(f"the sea level falls because the {name} falls") == {
            (name, "sea level", 1)
        }


@pytest.mark.parametrize(
    "text, answer",
    [
        ("Answer: it falls", "it falls"),
        ("a rises, so b falls\nAnswer: it falls.", "it falls"),
        ("**Answer: It must rise**", "it must rise"),
        ("The final answer is: it cannot be told", None),
        ("Final answer: it cannot be told", "it cannot be told"),
        ("Answer: (B)", "b"),
        ("Answer: B", "b"),
        ("Answer: it rises\nAnswer: it falls", "it falls"),
        ("Answer: it falls\n", "it falls"),
        ("it falls", None),
        ("", None),
    ],
)
def test_the_answer_of_a_text(text, answer):
    assert answered(text) == answer
    assert answer is None or answer in ANSWERS
