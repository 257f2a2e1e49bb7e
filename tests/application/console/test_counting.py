"""The time of counts and searches does not grow with the size of the tables."""

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from usher.application.accounts.models import LmsAccount
from usher.console import counting
from usher.console.counting import Count
from usher.console.learners.finding import find

pytestmark = pytest.mark.django_db


def make_users(count: int) -> None:
    model = get_user_model()
    model.objects.bulk_create(
        model(username=f"Learner{n}", email=f"Learner{n}@E.example") for n in range(count)
    )


def test_counts_above_the_maximum_are_estimates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_users(7)
    rows = get_user_model().objects.all()
    assert counting.count_rows(rows) == counting.count_all_rows(get_user_model()) == Count(7)
    monkeypatch.setattr(counting, "MAX_EXACT_COUNT", 5)
    assert counting.count_all_rows(get_user_model()).is_estimate
    count = counting.count_rows(rows, limit=5)
    assert count.is_estimate
    assert count.value >= 6  # at least one more than the limit
    assert str(count).startswith("about ")


def test_large_counts_are_rounded_and_grouped_by_thousands() -> None:
    assert str(Count(1234)) == "1,234"
    assert str(Count(2_345_678, is_estimate=True)) == "about 2.3 million"
    assert str(Count(20_000, is_estimate=True)) == "about 20,000"
    assert Count(1) + Count(2, is_estimate=True) == Count(3, is_estimate=True)


@pytest.mark.parametrize(
    "text", ["learner3", "LEARNER3", " Learner3 ", "learner3@e.example", "LEARNER3@E.EXAMPLE"]
)
def test_a_whole_username_or_address_finds_one_user(text: str) -> None:
    make_users(40)
    matches = find(text)
    assert [user.username for user in matches.users] == ["Learner3"]
    assert not matches.is_prefix_search


def test_an_id_or_an_lms_username_finds_one_user() -> None:
    make_users(3)
    user = get_user_model().objects.get(username="Learner1")
    LmsAccount.objects.create(user=user, username="Other_Name", reserved_at=timezone.now())
    assert find(str(user.pk)).users == [user]
    assert find("other_name").users == [user]


def test_the_beginning_of_a_name_finds_users_with_this_beginning() -> None:
    make_users(40)
    matches = find("LEARNER3")
    assert len(matches.users) == 1, "a user with exactly this name is the only match"
    matches = find("learn")
    assert matches.is_prefix_search
    assert len(matches.users) == 20  # the most that a search shows
    assert {user.username for user in find("learner39@").users} == {"Learner39"}
    # No beginning of a name, too short, or a character that SQL's LIKE would match with any other.
    for text in ("ner3", "le", "%", "learner3_", "_earner", ""):
        assert find(text).users == []
