"""Label and field selectors of the lab's API server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lab.accept import Form, choose
from app.lab.resources import Resource, find
from app.lab.selectors import field_selector, label_selector
from app.lab.statuses import StatusError


def pods() -> Resource:
    found = find("", "v1", "pods")
    assert found is not None
    return found


OBJ = {
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web", "tier": "front", "n": "5", "e": ""}},
    "spec": {"nodeName": "node-1"},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True), ("app", True), ("!app", False), ("!nope", True), ("app=web", True), ("app==web", True),
        ("app=db", False), ("app!=db", True), ("nope!=x", True), ("app in (web, db)", True), ("app in (db)", False),
        ("app notin (db)", True), ("nope notin (x)", True), ("nope in (x)", False), ("n>4,n<6", True), ("n>5", False),
        ("app>1", False), ("app=web,tier=front", True), ("app=web,tier=back", False), ("e=", True), ("app=", False),
        ("app = web , tier", True), ("tier in (front,back),!x", True), ("e in ()", True),
    ],
)  # fmt: skip
def test_label_selectors(selector: str, selected: bool) -> None:
    match = label_selector(selector)
    assert (match is None or match(OBJ)) is selected


@pytest.mark.parametrize(
    "selector", ["app===x", "app in (", "app in web", "=x", "app,,b", "app,", "a b", "app in (a b)"]
)
def test_bad_label_selectors_are_refused(selector: str) -> None:
    with pytest.raises(StatusError, match="unable to parse requirement") as caught:
        label_selector(selector)
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True), ("metadata.name=web-1", True), ("metadata.name!=web-1", False), ("status.phase==Running", True),
        ("metadata.namespace=shop,spec.nodeName=node-1", True), ("spec.nodeName=", False),
        ("status.nominatedNodeName=", True),
    ],
)  # fmt: skip
def test_field_selectors(selector: str, selected: bool) -> None:
    match = field_selector(selector, pods())
    assert (match is None or match(OBJ)) is selected


@given(st.text(alphabet="ab=!,() <>\\.in", max_size=30))
def test_any_text_is_understood_or_refused(text: str) -> None:
    for parse in (label_selector, lambda found: field_selector(found, pods())):
        try:
            match = parse(text)
        except StatusError as error:
            assert error.code == 400
        else:
            assert match is None or match(OBJ) in (True, False)


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "action", "form"),
    [
        ("", "list", Form("json")),
        ("*/*", "watch", Form("json")),
        (f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", "list", Form("table")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", "list", Form("table", "v1beta1")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", "list", Form("json")),
        ("application/vnd.kubernetes.protobuf,application/json", "get", Form("json")),
        (f"application/json;q=0.5, {TABLE}", "get", Form("table")),
        ("application/yaml, application/json", "watch", Form("json")),
    ],
)
def test_the_form_of_an_answer(accept: str, action: str, form: Form) -> None:
    assert choose(accept, action) == form
