"""A sample of the bad inputs: every twelfth, and the first of each kind. See bad_inputs.py."""

from bad_inputs import cases, fault


def test_the_list_is_long_and_has_no_case_twice():
    everything = cases()
    assert len({str(case) for case in everything}) == len(everything) >= 450
    programs = {case.program for case in everything}
    assert len(programs) == 12 and len({case.kind for case in everything}) > 25


def test_a_sample_of_bad_inputs_ends_in_one_line_and_changes_nothing(finished):
    kinds, faults = set(), {}
    for number, case in enumerate(cases()):
        if case.program == "train.sh" or (case.kind in kinds and number % 12):
            continue
        kinds.add(case.kind)
        if why := fault(case, finished):
            faults[str(case)] = why
    assert not faults
