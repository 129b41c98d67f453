"""Escaping happens in one place, and nothing gets past it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.airflow_ui.markup import Markup, clean, element, is_web_address, join, link, text
from tests.airflow_ui.helpers import structure, text_of
from tests.airflow_ui.hostile_text import HOSTILE


@given(HOSTILE, HOSTILE)
def test_no_text_leaves_its_element_or_its_attribute(inside: str, attribute: str) -> None:
    hostile = element("p", inside, title=attribute)
    assert structure(hostile) == [("p", "title"), ("/p",)]


@given(st.text(alphabet=st.characters(blacklist_categories=("C", "Z"))))
def test_printable_text_is_shown_as_it_is(shown: str) -> None:
    assert text_of(element("p", shown)) == " ".join(clean(shown).split())


def test_elements_are_put_into_elements_unchanged() -> None:
    assert element("p", element("b", "<"), None, 3, hidden=True, class_=None) == "<p hidden><b>&lt;</b>3</p>"
    assert join([element("br"), "&"]) == "<br/>&amp;"
    assert text(Markup("<i>")) == "<i>"


def test_text_that_is_put_together_with_an_element_is_no_element() -> None:
    assert text(element("b") + "<i>") == "&lt;b&gt;&lt;/b&gt;&lt;i&gt;"


@pytest.mark.parametrize("kind", ["sk", "pat", "public_access", "callback"])
def test_credentials_of_helmr_are_masked_wherever_they_stand(kind: str) -> None:
    secret = f"hlmr_{kind}_abcdef0123456789"
    page = element("p", f"key {secret}.", link(f"https://helmr.example.com/{secret}", secret), title=secret)
    assert secret not in page
    assert "***" in page


def test_characters_that_do_not_print_are_replaced() -> None:
    assert clean("a\x1b[31mb\u202ec\ud800\n\td") == "a\ufffd[31mb\ufffdc\ufffd\n\td"


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//x", "/x", "", "https:", "http://[", None, 7]
)
def test_links_lead_to_the_web_only(url: object) -> None:
    assert not is_web_address(url)
    assert "href" not in link(str(url), "label")


def test_a_link_is_marked_for_the_script_that_opens_it_outside_the_frame() -> None:
    assert 'data-open="new"' in link("https://helmr.example.com", "out")
    assert 'data-open="here"' in link("../x", "in", here=True)
