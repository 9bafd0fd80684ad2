"""Templates as stern's users write them."""

from __future__ import annotations

import pytest

from app.cli.log_template import template
from app.errors import UsageError

FIELDS: dict[str, object] = {
    "Message": '{"level": "error", "msg": "no", "n": [1, 2]}', "PodName": "web-1", "ContainerName": "app",
    "Namespace": "shop", "NodeName": "n1", "Labels": {"app": "web"}, "PodColor": 96, "ContainerColor": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{{.PodName}} {{.ContainerName}}{{"\\n"}}', "web-1 app\n"),
        ('{{printf "%s (%s/%s)\\n" .PodName .Namespace .NodeName}}', "web-1 (shop/n1)\n"),
        ("{{color .PodColor .PodName}} {{color .ContainerColor .ContainerName}}", "\x1b[96mweb-1\x1b[0m app"),
        ("{{with $d := .Message | parseJSON}}[{{$d.level}}] {{$d.msg}}{{end}}", "[error] no"),
        ("{{.Labels.app}}{{.Labels.none}}", "web<no value>"),
        ("{{json .Labels}}", '{"app": "web"}'),
        ("{{if eq .PodName \"x\"}}a{{else if .NodeName}}b{{else}}c{{end}}", "b"),
        ("{{range (index (parseJSON .Message) \"n\")}}<{{.}}>{{end}}", "<1><2>"),
        ("a  {{- .PodName -}}  b", "aweb-1b"),
        ("{{with .Nothing}}x{{else}}y{{end}}", "y"),
        ("{{$x := .PodName}}{{$x}}{{/* a remark */}}", "web-1"),
        ("{{colorRed .PodName}}", "\x1b[31mweb-1\x1b[0m"),
        ("{{extjson .PodName}}", '"web-1"'),
        ("{{.}}"[:0] + "plain", "plain"),
    ],
)  # fmt: skip
def test_what_a_template_makes(source: str, expected: str) -> None:
    assert template(source)(FIELDS) == expected


@pytest.mark.parametrize(
    "source",
    ["{{", "{{nope .Message}}", "{{.Message", "{{if .Message}}", "{{end}}", "{{}}", "{{(.Message}}", "{{.A .B}}"],
)
def test_what_is_not_understood_is_a_usage_error(source: str) -> None:
    with pytest.raises(UsageError) as failure:
        template(source)
    assert failure.value.exit_code == 2
    assert "--template" in failure.value.title


def test_a_line_that_does_not_fit_is_printed_with_the_reason() -> None:
    line = template("{{with $d := .Message | parseJSON}}{{$d.msg}}{{end}}\n")({**FIELDS, "Message": "not json"})
    assert line.endswith(" not json\n")
    assert line.startswith("[")
