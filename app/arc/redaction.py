"""What the program writes, made fit for a screen and a log: no token, no key, no control character."""

from __future__ import annotations

import re

from app.text import clean_line

HIDDEN = "***"
_LINE_LIMIT = 500
"""Characters of one line that are kept."""
_SECRETS = (
    (re.compile(r"SharedAccessSignature[^\"'<>\r\n]*", re.IGNORECASE), HIDDEN),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*"), HIDDEN),  # a JWT, whole or its beginning
    (re.compile(r"(?i)\b(bearer|pop|basic)(:?\s+|%20|\+)[A-Za-z0-9._~+/=%-]{8,}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)((?:token|secret|password|passwd|signature|client-key-data|assertion)"
                r"\\*[\"']?\s*[:=]\s*)(?:\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s,;&}]+)"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)((?:[?&]|%26|\b)(?:sig|sb-hc-token|code|sr)(?:=|%3d))[^\s&\"']+"), rf"\1{HIDDEN}"),
    (re.compile(r"(://[^\s/@:]{0,200}:)[^\s/@]{1,200}@"), rf"\1{HIDDEN}@"),
    (re.compile(r"[A-Za-z0-9+/_=-]{80,}"), HIDDEN),  # kubeconfigs and keys in base64; a SHA-256 in hex has 64
)  # fmt: skip


def redacted(raw: str | bytes) -> str:
    """One harmless line without anything that looks like a credential, at most 500 characters."""
    text = clean_line(raw)
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text if len(text) <= _LINE_LIMIT else text[: _LINE_LIMIT - 1] + "…"
