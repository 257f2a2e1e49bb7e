"""Values for Tutor's configuration: a value that could end a line or begin a template is
refused."""

import shlex
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from usher.contract import tutor_values
from usher.contract.tutor_values import NotAllowed

SPECIAL = ["{{", "}}", "{%", "%}", "{#", "\n", "\r", "\x00", "\u2028", "'", '"', "`", "$(", "\\"]
#: Checks that accept an apostrophe: names and e-mail addresses are written to JSON only.
CHECKS_THAT_ACCEPT_APOSTROPHES = (tutor_values.label, tutor_values.email)
hostile_texts = st.lists(
    st.one_of(st.sampled_from(SPECIAL), st.text(max_size=8), st.just("http://x.org")), max_size=6
).map("".join)
TEXT_CHECKS = (
    tutor_values.name,
    tutor_values.backend,
    tutor_values.username,
    tutor_values.label,
    tutor_values.secret,
    tutor_values.host,
    tutor_values.requirement,
    tutor_values.email,
    tutor_values.address,
)


@pytest.mark.parametrize("check", TEXT_CHECKS)
@given(text=hostile_texts)
@example(text="http://x{{ cycler.__init__.__globals__.os.popen('id').read() }}")
@example(text="ol-oauth2\nimport os")
@example(text="ol-oauth2\n")
@example(text="shop.example\n    privileged: true")
def test_no_accepted_value_has_special_characters(check: Any, text: str) -> None:
    try:
        accepted_value = check(text, "value")
    except NotAllowed as error:
        assert str(error).isprintable()
        assert str(error).isascii()
        assert len(str(error)) < 300
        return
    assert accepted_value.isprintable()
    forbidden = set(SPECIAL)
    if check in CHECKS_THAT_ACCEPT_APOSTROPHES:
        forbidden.discard("'")
    assert not [mark for mark in forbidden if mark in accepted_value]
    # YAML and the shell read the value back as the same single string.
    assert yaml.safe_load(yaml.safe_dump({"x": accepted_value})) == {"x": accepted_value}
    assert shlex.split(shlex.quote(accepted_value)) == [accepted_value]


@given(st.recursive(st.none() | st.booleans() | st.integers() | hostile_texts, st.lists))
def test_only_text_and_true_or_false_are_accepted(value: Any) -> None:
    for check in (*TEXT_CHECKS, tutor_values.pattern, tutor_values.flag):
        try:
            accepted_value = check(value, "value")
        except NotAllowed:
            continue
        assert isinstance(value, str | bool)
        assert isinstance(accepted_value, str | bool)


@given(
    st.dictionaries(
        st.sampled_from([*tutor_values.FIELDS, "x", "{{"]), hostile_texts | st.booleans()
    )
)
def test_an_entry_is_accepted_with_all_its_fields_or_refused(entry: dict[str, Any]) -> None:
    try:
        accepted_value = tutor_values.check_settings({tutor_values.APPLICATIONS: [entry]})
    except NotAllowed:
        return
    accepted_entry = accepted_value[tutor_values.APPLICATIONS][0]
    assert set(accepted_entry) == set(entry)
    assert set(entry) <= set(tutor_values.FIELDS)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("http://x.org/", "http://x.org"),
        ("HTTPS://X.Org:8443/Sub/", "https://x.org:8443/Sub"),
        ("http://bücher.example", "http://xn--bcher-kva.example"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://host.docker.internal:8013", "http://host.docker.internal:8013"),
        ("http://app_1.local", "http://app_1.local"),
    ],
)
def test_an_address_is_normalised(text: str, normalised: str) -> None:
    assert tutor_values.address(text, "address") == normalised


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x.org",
        "ftp://x.org",
        "javascript:alert(1)//http://x.org",
        "http://",
        "http://user@x.org",
        "http://user:pass@x.org",
        "http://x.org?next=/",
        "http://x.org?",
        "http://x.org#a",
        "http://x.org:port",
        "http://x.org:99999",
        "http://x.org/a b",
        "http://x.org/{{ 7 * 7 }}",
        "http://{%x%}.org",
        "http://x.org\t",
        " http://x.org",
        "http://x..org",
        "http://-x.org",
        "http://x.org/'",
        "http://x.org\\@y.org",
        "http://" + "a" * 300 + ".org",
    ],
)
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(NotAllowed, match="write an address such as"):
        tutor_values.address(text, "address")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(NotAllowed, match="is not a setting of Usher"):
        tutor_values.check_settings({"LMS_HOST": "x.org"})
