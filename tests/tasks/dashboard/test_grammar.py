"""The search as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dashboard.grammar import KEYS, LONGEST, Term, parse, replaced, unparse


def terms(text):
    found, wrong = parse(text)
    assert not wrong, wrong
    return [(term.key, term.path, term.value) for term in found]


def complaint(text):
    (only,) = parse(text)[1]
    return only.why


def test_every_word_of_the_search_is_one_term():
    assert terms(
        'state:failed queue:crm name:email.* record:order/1042 error:"mailbox full" '
        "data.customer.id:17 created:>2026-11-20 worker:web-3 incident:12 id:5"
    ) == [
        ("state", "", "failed"),
        ("queue", "", "crm"),
        ("name", "", "email.*"),
        ("record", "", "order/1042"),
        ("error", "", "mailbox full"),
        ("data", "customer.id", "17"),
        ("created", "", ">2026-11-20"),
        ("worker", "", "web-3"),
        ("incident", "", "12"),
        ("id", "", "5"),
    ]


@pytest.mark.parametrize("text", ["Order 1042", "  Order   1042 ", '"Order 1042"', "Order\t1042"])
def test_words_without_a_key_are_one_free_text(text):
    assert terms(text) == [("", "", "Order 1042")]


def test_free_words_on_both_sides_of_a_term_belong_together():
    assert terms("Order state:failed 1042") == [("state", "", "failed"), ("", "", "Order 1042")]


def test_what_looks_like_a_key_is_text_inside_quotation_marks():
    assert terms('"state: failed"') == [("", "", "state: failed")]
    assert terms(r'error:"say \"no\" \\ twice"') == [("error", "", r'say "no" \ twice')]


def test_a_quotation_mark_that_nothing_closes_takes_the_rest():
    assert terms('error:"mailbox full state:failed') == [("error", "", "mailbox full state:failed")]
    assert terms('"mailbox full') == [("", "", "mailbox full")]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("stat:failed", "state:"), ("states:failed", "state:"), ("status:failed", "state:"),
        ("creatd:24h", "created:"), ("Queu:crm", "queue:"), ("reason:full", "error:"),
        ("type:email", "name:"), ("payload:x", "data:"), ("recrod:order/1", "record:"),
    ],
)  # fmt: skip
def test_an_unknown_word_is_explained_with_what_was_probably_meant(text, near):
    assert f"Did you mean “{near}”?" in complaint(text)


def test_a_word_nobody_could_mean_is_explained_with_all_that_are_known():
    for key in KEYS:
        assert f"{key}:" in complaint("zzzz:failed")


@pytest.mark.parametrize("text", ["state:", 'error:""', "queue: crm"])
def test_a_key_without_a_value_is_explained(text):
    assert "something is missing" in complaint(text)


@pytest.mark.parametrize("text", ["data:17", "data.:17", "data.a..b:17", "data.a.:17"])
def test_data_without_a_place_to_look_is_explained(text):
    assert "data.customer.id:17" in complaint(text)


def test_keys_may_be_written_in_capitals_but_places_in_the_data_may_not():
    assert terms("STATE:failed data.Customer:x") == [
        ("state", "", "failed"),
        ("data", "Customer", "x"),
    ]


@pytest.mark.parametrize("text", ["state:failed AND queue:crm", "state:failed and queue:crm"])
def test_what_is_true_of_each_search_may_be_said(text):
    assert unparse(parse(text)[0]) == "state:failed queue:crm"
    assert parse(text)[1] == []


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("state:failed OR state:due queue:crm", ("state:failed", "state:due queue:crm")),
        ('state:failed or error:"mailbox full"', ("state:failed", 'error:"mailbox full"')),
        ("id:1 ODER Order 1042", ("id:1", "Order 1042")),
    ],
)
def test_or_is_explained_and_its_sides_are_offered(text, instead):
    (only,) = parse(text)[1]
    assert "cannot say “or”" in only.why
    assert only.instead == instead


@pytest.mark.parametrize("text", ["Portland OR", "salt and pepper", '"id:1" OR', 'id:1 "OR" x'])
def test_and_or_or_in_a_text_belong_to_it(text):
    found, wrong = parse(text)
    assert wrong == []
    assert found[-1].value.split() == [
        word for word in text.replace('"', "").split() if word != "id:1" or text[0] == '"'
    ]
    assert parse(unparse(found)) == (found, [])


def test_a_search_of_thousands_of_words_is_refused():
    assert "too long" in complaint("a" * (LONGEST + 1))
    assert "too long" in complaint("state:failed " * 30)


def test_a_filter_takes_the_place_of_the_one_before():
    assert replaced("state:due queue:crm", "state", "failed") == "state:failed queue:crm"
    assert replaced("state:due queue:crm", "state", None) == "queue:crm"
    assert replaced("Order 1042", "queue", "a b") == 'queue:"a b" Order 1042'


VALUES = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1).map(
    lambda text: " ".join(text.split())
)


@given(st.lists(st.tuples(st.sampled_from(["state", "queue", "error"]), VALUES), max_size=5))
def test_what_is_written_is_read_again(pairs):
    wanted = [Term(key, value) for key, value in pairs if value]
    assert parse(unparse(wanted)) == (wanted, [])


@given(VALUES)
def test_free_text_is_read_again(value):
    wanted = [Term("", value)] if value else []
    again, wrong = parse(unparse(wanted))
    assert (again, wrong) == (wanted, [])


@given(st.text())
def test_no_text_breaks_the_reader(text):
    parse(text)
