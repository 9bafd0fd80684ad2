"""Templates as stern's users write them."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.log_template import template
from app.errors import UsageError
from app.text import clean_block

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
        ("{{json .Labels}}", '{"app":"web"}'),
        ("{{if eq .PodName \"x\"}}a{{else if .NodeName}}b{{else}}c{{end}}", "b"),
        ("{{range (index (parseJSON .Message) \"n\")}}<{{.}}>{{end}}", "<1><2>"),
        ("a  {{- .PodName -}}  b", "aweb-1b"),
        ("{{with .Labels.none}}x{{else}}y{{end}}", "y"),
        ("{{$x := .PodName}}{{$x}}{{/* a remark */}}", "web-1"),
        ("{{colorRed .PodName}}", "\x1b[31mweb-1\x1b[0m"),
        ("{{extjson .PodName}}", '"web-1"'),
        ("plain", "plain"),
        ('{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}', "app=web;"),
        ('{{range $i, $v := (parseJSON .Message).n}}{{$i}}:{{$v}} {{end}}', "0:1 1:2 "),
        ('{{range (parseJSON .Message).n}}{{if eq . 2}}{{break}}{{end}}{{.}}{{else}}none{{end}}', "1"),
        ('{{range .Labels.none}}x{{else}}none{{end}}', "none"),
        ('{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}{{if true}}{{$x = 3}}{{end}}{{$x}}', "213"),
        ('{{if .Labels.none}}a{{else with .NodeName}}{{.}}{{end}}', "n1"),
        ('{{"}}"}}\\{{"\\x41\\t"}}', "}}\\A\t"),
        ('{{extractJSONParts .Message "level" "msg" "none"}}', "error, no, <nil>"),
        ('{{tryExtractJSONParts .PodName "level"}}', "web-1"),
        ('{{parseJSON .Message | extjson}}', '{"level":"error","msg":"no","n":[1,2]}'),
        ("{{with $m := parseJSON .Message}}{{levelColor $m.level}}{{levelColor $m.none}}{{end}}",
         "\x1b[31merror\x1b[0m"),
        ('{{levelColor "odd"}}{{bunyanLevelColor 30}}{{bunyanLevelColor 200}}', "odd\x1b[34m30\x1b[0m200"),
        ('{{colorCustom "Hi" 3 96}}', "\x1b[3;96mHi\x1b[0m"),
        ('{{printf "%-4s|%3d|%q|%.2f%%" "ab" 7 "x" 1.5}}', 'ab  |  7|"x"|1.50%'),
        ('{{.Message | prettyJSON}}', '{\n  "level": "error",\n  "msg": "no",\n  "n": [\n    1,\n    2\n  ]\n}'),
        ('{{.PodName | prettyJSON}}', "web-1"),
        ('{{toUTC 1700000000.5 | toRFC3339Nano}}', "2023-11-14T22:13:20.5Z"),
        ('{{toRFC3339Nano "2024-02-03 04:05:06.123456789 +0200"}}', "2024-02-03T04:05:06.123456789+02:00"),
        ('{{toRFC3339Nano "soon"}}', "0001-01-01T00:00:00Z"),
        ('{{toUTC "2024-02-03T04:05:06+02:00"}}', "2024-02-03 02:05:06 +0000 UTC"),
        ('{{toTimestamp "1700000000" "2006-01-02 15:04:05.000 MST"}}', "2023-11-14 22:13:20.000 UTC"),
        ('{{toTimestamp "Tue, 14 Nov 2023 22:13:20 GMT" "Mon Jan _2 3:04PM -07:00" "UTC"}}',
         "Tue Nov 14 10:13PM +00:00"),
    ],
)  # fmt: skip
def test_what_a_template_makes(source: str, expected: str) -> None:
    assert template(source, colour=True)(FIELDS) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{",
        "{{nope .Message}}",
        "{{.Message",
        "{{if .Message}}",
        "{{end}}",
        "{{}}",
        "{{(.Message}}",
        "{{.A .B}}",
        "{{.Nope}}",
        "{{$.Nope}}",
        "{{with .PodName}}{{$.Nope}}{{end}}",
        "{{.PodName.x}}",
        "{{.Annotations.x}}",
        "{{$x}}",
        "{{if true}}{{$x := 1}}{{end}}{{$x}}",
        "{{break}}",
        "{{else}}",
        '{{json "}}',
    ],
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


def test_an_unknown_field_says_which_and_has_its_code() -> None:
    with pytest.raises(UsageError) as failure:
        template("{{.Nope}}")
    assert failure.value.code == "JD-USAGE-TEMPLATE"
    assert ".Nope" in failure.value.detail


def test_json_of_the_line_has_sterns_keys() -> None:
    line = json.loads(template("{{json .}}")(FIELDS))
    assert line == {
        "message": FIELDS["Message"], "nodeName": "n1", "namespace": "shop", "podName": "web-1",
        "containerName": "app", "labels": {"app": "web"},
    }  # fmt: skip
    assert json.loads(template("{{.}}")(FIELDS)) == line


@pytest.mark.parametrize(
    "source",
    ["{{colorRed .PodName}}", "{{color 96 .PodName}}", '{{levelColor "error"}}', "{{bunyanLevelColor 50}}",
     '{{colorCustom "Hi" 3 96}}'],
)  # fmt: skip
def test_nothing_is_painted_without_colour(source: str) -> None:
    assert "\x1b" not in template(source)(FIELDS)
    assert "\x1b" in template(source, colour=True)(FIELDS)


SAFE_EXAMPLE = (
    "{{.PodName}}/{{.ContainerName}} {{ with $msg := .Message | tryParseJSON }}"
    "[{{ colorGreen (toRFC3339Nano $msg.ts) }}] {{ levelColor $msg.level }}"
    ' ({{ colorCyan $msg.caller }}) {{ $msg.msg }}{{ else }} {{ .Message }} {{ end }}{{"\\n"}}'
)


def test_sterns_example_with_a_fallback() -> None:
    message = '{"ts": "2024-02-03T04:05:06Z", "level": "info", "caller": "a.go:1", "msg": "hello"}'
    render = template(SAFE_EXAMPLE)
    assert render({**FIELDS, "Message": message}) == "web-1/app [2024-02-03T04:05:06Z] info (a.go:1) hello\n"
    assert render({**FIELDS, "Message": "plain"}) == "web-1/app  plain \n"


@pytest.mark.parametrize(
    "source",
    ["{{(parseJSON .Message).a}}", '{{extractJSONParts .Message "a"}}', "{{prettyJSON .Message}}",
     "{{ppextjson .Message}}", "{{json (parseJSON .Message)}}",
     "{{range $k, $v := parseJSON .Message}}{{$k}}{{$v}}{{end}}"],
)  # fmt: skip
def test_an_escape_hidden_in_json_does_not_come_out(source: str) -> None:
    hostile = r'{"a": "\u001b]52;c;x\u0007 \u009b31m \u202e \u007f", "\u001b[2J": 1}'
    made = template(source)({**FIELDS, "Message": hostile})
    assert clean_block(made) == made


def test_what_does_not_fit_is_told_in_our_words() -> None:
    for source in ("{{len 5}}", "{{json}}", "{{lt .PodName 5}}", "{{toTimestamp .Message}}", "{{range 5}}{{end}}"):
        line = template(source)(FIELDS)
        assert line.startswith("[")
        assert "object" not in line.split("]")[0]


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_template_and_any_line_come_to_an_end(source: str, message: str) -> None:
    with suppress(UsageError):
        template("{{" + source + "}}")({**FIELDS, "Message": message})
    template('{{toRFC3339Nano .Message}}{{tryExtractJSONParts .Message "a"}}{{prettyJSON .Message}}')(
        {**FIELDS, "Message": message}
    )
