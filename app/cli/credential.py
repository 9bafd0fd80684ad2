"""`jumpdeck credential CHANNEL` (hidden): the exec entry of a lent kubeconfig; prints the credential it asks for."""

from __future__ import annotations

import argparse
import sys


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("channel", metavar="CHANNEL", help="where the running Jumpdeck lends its credential")


def run(args: argparse.Namespace) -> int:
    """Print an ExecCredential. Raises SignInError when the lending process has gone or has no credential."""
    import json

    from app.cluster.lending import ask
    from app.errors import SignInError
    from app.text import prose

    try:
        raw = ask(args.channel)
        found = json.loads(raw)
    except (OSError, EOFError, ValueError) as exc:
        raise SignInError(
            "The Jumpdeck that lent this kubeconfig has gone", prose(str(exc)), "Run it again: jumpdeck exec.",
            code="JD-EXEC-GONE",
        ) from exc  # fmt: skip
    if isinstance(found, dict) and "error" in found:
        lines = [prose(str(line)) for line in found["error"]] + ["", "", ""]
        raise SignInError("There is no credential", "; ".join(line for line in lines[:2] if line), lines[2],
                          code="JD-EXEC-CREDENTIAL")  # fmt: skip
    sys.stdout.write(raw.decode())
    return 0
