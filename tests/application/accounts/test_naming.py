"""Characters that the LMS rejects are removed from usernames and full names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.application.conftest import make_learner
from usher.application.accounts import naming
from usher.application.accounts.models import UsernameReservation
from usher.application.accounts.naming import (
    NoFreeName,
    candidates,
    clean_full_name,
    clean_username,
    reserve,
)
from usher.contract import limits


@given(st.text(max_size=200))
def test_the_lms_accepts_every_cleaned_username(text):
    name = clean_username(text)
    assert re.fullmatch(limits.USERNAME_PATTERN, name)
    assert limits.USERNAME_MIN_LENGTH <= len(name) <= limits.USERNAME_MAX_LENGTH


@given(st.text(max_size=200))
def test_cleaning_a_cleaned_username_changes_nothing(text):
    cleaned = clean_username(text)
    assert clean_username(cleaned) == cleaned


@given(st.text(max_size=60), st.lists(st.text(max_size=40), max_size=4))
def test_the_lms_accepts_every_candidate_for_a_username(text, suggestions):
    names = list(candidates(text, suggestions))
    assert len(names) > 20, "enough that one of them is free"
    for name in names:
        assert re.fullmatch(limits.USERNAME_PATTERN, name)
        assert len(name) <= limits.USERNAME_MAX_LENGTH


@given(st.text(max_size=400))
def test_the_lms_accepts_every_cleaned_full_name(text):
    name = clean_full_name(text, fallback="somebody")
    assert 1 <= len(name) <= limits.FULL_NAME_MAX_LENGTH
    assert "<" not in name
    assert ">" not in name
    assert "://" not in name
    assert name == name.strip()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alice", "alice"),
        ("Zoë O'Hara", "Zoe_O_Hara"),
        ("Łukasz Żółć", "Lukasz_Zolc"),
        ("Søren Ærø", "Soren_Aero"),
        ("Đorđe ħ ŧ ı", "Dorde_h_t_i"),
        ("Straße", "Strasse"),
        ("Þórður", "Thordur"),
        ("Юрий Щукин", "Yuriy_Shchukin"),
        ("Зеленський", "Zelenskiy"),
        ("Ἀριστοτέλης", "Aristotelis"),
        ("王小明", "learner"),
        ("a@b.co", "a_b_co"),
        ("x", "learnerx"),
        ("__", "learner"),
        ("a" * 80, "a" * 30),
    ],
)
def test_usernames_are_transliterated_and_shortened(text, name):
    assert clean_username(text) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Зоя Ωmega 王", "Зоя Ωmega 王"),
        ("J.R.R. Tolkien", "J.R.R. Tolkien"),
        ("Dr.Smith", "Dr.Smith"),
        ("ann.example.org", "ann.example.org"),
        ('Anne  Marie // Jean: a/b & "c"', 'Anne  Marie // Jean: a/b & "c"'),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("<b>Eve</b>", "b Eve /b"),
        ("x:<//y", "x: //y"),
        ("Bob ftp://x ://y", "Bob"),
        ("Nul\0 and \ud800half", "Nul and half"),
        ("N" * 300, "N" * 255),
        ("Visit https://evil.example/x now", "Visit now"),
        ("  spaced \n out ", "spaced out"),
        ("", "somebody"),
    ],
)
def test_full_names_keep_all_but_markup_and_addresses(text, name):
    assert clean_full_name(text, fallback="somebody") == name


def test_reserving_fails_if_all_candidates_are_taken(db, monkeypatch):
    # Numbers in candidates are not random now, so that all candidates can be reserved.
    monkeypatch.setattr(naming.secrets, "randbelow", lambda below: 7777)
    user = make_learner()
    for name in candidates("popular"):
        UsernameReservation.objects.get_or_create(username=name)
    with pytest.raises(NoFreeName, match="popular"):
        reserve(user, "popular")


def test_many_learners_with_the_same_name_in_another_alphabet_get_usernames(db):
    names = {reserve(make_learner(), name) for name in ("王小明", "दीपक") for _ in range(30)}
    assert len(names) == 60


@pytest.mark.parametrize("wanted", ["", " ", "__", "王小明"])
def test_a_name_without_usable_characters_gives_a_random_username(db, wanted):
    """A sequential number would tell everybody how many learners there are."""
    names = [reserve(make_learner(), wanted) for _ in range(2)]
    assert all(re.fullmatch("learner_[a-z2-9]{10}", name) for name in names), names
    assert len(set(names)) == 2
