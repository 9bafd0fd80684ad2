"""`jumpdeck secrets set|remove|list`: secrets in the operating system's store, by kind and what they are for."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from app.errors import JumpdeckError
    from app.profiles.model import HopSpec, Profile, SshHop
    from app.secrets.secret import Secret
    from app.secrets.store import SecretStore

KINDS = ("password", "passphrase", "token", "client-secret", "client-certificate")
INPUT_LIMIT = 64 * 1024
"""Bytes read from a pipe; the store takes less and says so."""
_NAME_HELP = (
    "password [USER@]HOST[:PORT], passphrase KEYFILE, token PROFILE, client-secret or client-certificate CLIENT_ID, "
    "or a PROFILE that needs one secret"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands and their flags."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True, prog=parser.prog)

    setting = commands.add_parser(
        "set", help="keep a secret in the operating system's store",
        description="Keep a secret in the operating system's store. It is asked for without echo, or read from "
        "standard input when that is no terminal; it is never taken from the command line.",
        epilog="examples: jumpdeck secrets set password ops@jump01:22\n"
        "          jumpdeck secrets set passphrase ~/.ssh/id_ed25519\n"
        "          kubectl get secret reader-token -o jsonpath='{.data.token}' | base64 -d |\n"
        "              jumpdeck secrets set token shop-edge    (without base64 -d it is understood too)",
    )  # fmt: skip
    setting.add_argument("words", metavar="NAME", nargs="+", help=_NAME_HELP)
    setting.add_argument("--no-input", action="store_true", help="never ask; read standard input or fail")

    removing = commands.add_parser(
        "remove", help="remove a stored secret", description="Remove a stored secret.",
        epilog="example: jumpdeck secrets remove password ops@jump01:22",
    )  # fmt: skip
    removing.add_argument("words", metavar="NAME", nargs="+", help=_NAME_HELP)

    listing = commands.add_parser(
        "list", help="list the names of stored secrets, and say whether they can be kept here",
        description="List the names of stored secrets, and say whether they can be kept here. Shows no values.",
        epilog="example: jumpdeck secrets list",
    )  # fmt: skip
    listing.add_argument("-o", "--output", choices=("table", "name", "json"), default="table", help="default: table")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand. Raises JumpdeckError."""
    from app.cli.frame import run_async

    if args.action == "set":
        return run_async(_set(_one_name(args.words), no_input=args.no_input))
    if args.action == "remove":
        return run_async(_remove(args.words))
    return run_async(_list(args.output))


# -- names -------------------------------------------------------------------------------------------------------------


def _one_name(words: list[str]) -> str:
    """The name that the words mean. Raises UsageError, ProfileError or NotFoundError (a key file that is not there)."""
    kind, what = _split(words)
    if kind:
        return _name(kind, what)
    from app.profiles.store import load

    needed = secrets_of(load().get(what))
    if len(needed) == 1:
        return needed[0]
    from app.errors import UsageError

    why = "it needs several secrets" if needed else "its way in needs no secret that Jumpdeck keeps"
    raise UsageError(
        f"Which secret of {what}?", why,
        "Name one: " + (" or ".join(f"jumpdeck secrets set {_typed(name)}" for name in needed) or _NAME_HELP),
        code="JD-USAGE-SECRET",
    )  # fmt: skip


def _split(words: list[str]) -> tuple[str, str]:
    """Kind and what it is for; a single word that is no kind is a profile (kind ""). Raises UsageError."""
    parts = words[0].split(None, 1) if len(words) == 1 else words
    if len(parts) == 2 and parts[0] in KINDS:
        return parts[0], parts[1].strip()
    if len(parts) == 1 and parts[0] not in KINDS:
        return "", parts[0]
    import difflib

    from app.errors import UsageError
    from app.text import clean

    near = difflib.get_close_matches(parts[0], KINDS, n=1)
    why = f"what the {parts[0]} is for is missing" if len(parts) == 1 else f"`{clean(' '.join(parts))}` names no secret"
    hint = f"Did you mean {near[0]}? " if near and parts[0] not in KINDS else ""
    raise UsageError("Which secret?", why, f"{hint}A name is {_NAME_HELP}.", code="JD-USAGE-SECRET")


def _name(kind: str, what: str) -> str:
    if kind == "password":
        return _password(what)
    if kind == "passphrase":
        from pathlib import Path

        from app.secrets.secret import passphrase_name

        return passphrase_name(_existing(Path(what).expanduser()))
    if kind in ("client-secret", "client-certificate"):
        return _of_application(kind, what)
    return _token(what)


def _of_application(kind: str, client_id: str) -> str:
    import re

    from app.errors import UsageError
    from app.profiles import patterns
    from app.secrets.secret import client_certificate_name, client_secret_name
    from app.text import clean

    if not re.fullmatch(patterns.GUID, client_id):
        raise UsageError(
            f"`{clean(client_id)}` is no application id", "00000000-0000-0000-0000-000000000000 is its form",
            "It is the client-id of the sign-in.", code="JD-USAGE-SECRET",
        )  # fmt: skip
    return client_secret_name(client_id) if kind == "client-secret" else client_certificate_name(client_id)


def _password(what: str) -> str:
    from app.errors import UsageError
    from app.profiles import patterns
    from app.text import clean

    user, at, host = what.partition("@[vm:")
    if at and user and host.endswith("]:22"):
        return f"password {what}"  # a VM behind a local tunnel, as `secrets list` and hints have it
    if wrong := patterns.ssh_server(what):
        raise UsageError(f"`{clean(what)}` is no SSH server", wrong, "For example: password ops@jump01:22",
                         code="JD-USAGE-SECRET")  # fmt: skip
    return _server_password(what, None)


def _server_password(server: str, user: str | None, vm: str | None = None) -> str:
    """The name for a server as a profile names it; without a user it is the operating system's, as for ssh."""
    import getpass

    from app.profiles import patterns
    from app.routes.ssh import alias_of
    from app.secrets.secret import password_name

    user = user or patterns.ssh_user(server) or getpass.getuser()
    host, port = patterns.ssh_place(server)
    alias = alias_of(host, vm)
    return password_name(user, alias) if alias else password_name(user, host, port)


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    import difflib

    from app.errors import NotFoundError
    from app.files import shown
    from app.text import clean

    try:
        there = [each.name for each in path.parent.iterdir() if each.is_file()] if path.parent.is_dir() else []
    except OSError:
        there = []
    near = difflib.get_close_matches(path.name, there, n=3)
    hint = f"Near: {', '.join(clean(name) for name in near)}" if near else "Name the private key's file."
    raise NotFoundError("There is no such key file", shown(path), hint, code="JD-SECRET-FILE", layer="local")


def _token(what: str) -> str:
    from app.cli.frame import say
    from app.profiles.store import load
    from app.secrets.secret import token_name

    profile = load().get(what)
    name = token_name(profile.name)
    if name not in secrets_of(profile):
        say(f'jumpdeck: nothing asks for it yet: the cluster of {profile.name} has no auth = "token"')
    return name


def secrets_of(profile: Profile) -> list[str]:
    """Names of the secrets that the way into a profile's cluster may need."""
    from app.profiles.model import ArcCluster, ServerCluster, SshHop
    from app.secrets.secret import client_secret_name, passphrase_name, token_name

    cluster = profile.cluster
    by_token = isinstance(cluster, ServerCluster | ArcCluster) and cluster.auth == "token"
    names = [token_name(profile.name)] if by_token else []
    sign_in = profile.sign_in
    if sign_in is not None and sign_in.kind == "service-principal" and sign_in.client_id:
        names.append(client_secret_name(sign_in.client_id))
    for hop, before in zip(profile.via, (None, *profile.via), strict=False):
        if isinstance(hop, SshHop):
            if hop.password:
                names += _passwords(hop, before)
            if hop.key is not None:
                names.append(passphrase_name(hop.key))
    return list(dict.fromkeys(names))


def _passwords(hop: SshHop, before: HopSpec | None) -> list[str]:
    """Of each server, or of each VM behind a Bastion; instances of a scale set are known only once it is asked."""
    import getpass

    from app.profiles import patterns
    from app.profiles.model import BastionHop
    from app.secrets.secret import password_name

    if not isinstance(before, BastionHop):
        return [_server_password(server, hop.user, hop.vm) for server in hop.ssh]
    machines = [target.lower() for target in before.target if "/virtualmachines/" in target.lower()]
    users = dict.fromkeys(hop.user or patterns.ssh_user(server) or getpass.getuser() for server in hop.ssh)
    return [password_name(user, f"vm:{machine}") for user in users for machine in machines]


def _typed(name: str) -> str:
    """A name as one types it after `secrets set`."""
    import shlex

    kind, _, what = name.partition(" ")
    return f"{kind} {shlex.quote(what)}"


# -- set, remove, list -------------------------------------------------------------------------------------------------


async def _set(name: str, *, no_input: bool) -> int:
    from app.cli.frame import say
    from app.secrets.lab import practice_only
    from app.secrets.store import no_store, own_store
    from app.text import clean

    store = own_store()
    status = await store.status()
    if not store.asks:
        raise practice_only()
    if not status.usable:
        raise no_store(status)
    typed = sys.stdin is not None and sys.stdin.isatty()
    secret = await _typed_secret(name, no_input) if typed else await _piped_secret()
    kind, _, what = name.partition(" ")
    if kind == "token":
        from app.cli.secret_token import token_from

        secret = token_from(secret, what)
    place = await store.set(name, secret)
    if typed:
        say(f"jumpdeck: kept {clean(name)} in {place}")
    return 0


async def _typed_secret(name: str, no_input: bool) -> Secret:
    from app.cli.frame import controlling_terminal
    from app.cli.prompts import TerminalAsker
    from app.errors import SignInError
    from app.secrets.secret import Secret

    why = "--no-input was given" if no_input else ""
    if not why and controlling_terminal() is None:
        why = "there is no terminal to ask at"
    if not why:
        kind, _, what = name.partition(" ")
        answer = await TerminalAsker().ask_secret(f"{kind.capitalize()} {_OF[kind]} {what}")
        if answer is not None and answer.value.strip():
            return Secret(answer.value.strip())
        why = "none was given"
    raise SignInError("A secret is needed", f"{why}; nothing was kept", "Type it, or give it on standard input.",
                      code="JD-SECRET-NEEDED", layer="secret")  # fmt: skip


_OF = {"password": "of", "passphrase": "of", "token": "for", "client-secret": "of", "client-certificate": "of"}


async def _piped_secret() -> Secret:
    from app.errors import UsageError
    from app.secrets.secret import Secret
    from app.tasks import in_own_thread

    def read() -> bytes:
        return sys.stdin.buffer.read(INPUT_LIMIT) if sys.stdin is not None else b""

    data = await in_own_thread(read, name="standard input")
    why = ""
    try:
        value = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        value, why = "", "standard input is not UTF-8 text"
    if not value:
        raise UsageError("No secret was given", why or "standard input is empty; nothing was kept",
                         "Give it on standard input, or run it in a terminal.", code="JD-USAGE-SECRET")  # fmt: skip
    return Secret(value)


async def _remove(words: list[str]) -> int:
    from app.cli.frame import say
    from app.secrets.store import own_store
    from app.text import clean

    store = own_store()
    stored = [each.name for each in await store.names()]
    for name in _stored_names(words, stored):
        await store.remove(name)
        if sys.stderr.isatty():
            say(f"jumpdeck: removed {clean(name)}")
    return 0


def _stored_names(words: list[str], stored: list[str]) -> list[str]:
    """The stored names that the words mean: one as listed, in another spelling, or all of a profile."""
    from app.errors import JumpdeckError

    plain = " ".join(words)
    if plain in stored:
        return [plain]
    try:
        kind, what = _split(words)
        meant = [_name(kind, what)] if kind else _of_profile(what)
    except JumpdeckError as error:  # what is stored may be for a file or profile that has gone
        raise _unknown(plain, stored, error) from error
    if not (found := [name for name in meant if name in stored]):
        raise _unknown(plain, stored, None)
    return found


def _of_profile(name: str) -> list[str]:
    from app.errors import ProfileError
    from app.profiles.store import load
    from app.secrets.secret import token_name

    try:
        return list(dict.fromkeys((token_name(name), *secrets_of(load().get(name)))))
    except ProfileError:  # the profile has gone, its token has not
        return [token_name(name)]


def _unknown(name: str, stored: list[str], cause: JumpdeckError | None) -> JumpdeckError:
    import difflib

    from app.errors import NotFoundError
    from app.text import clean

    near = difflib.get_close_matches(name, stored, n=3, cutoff=0.5)
    hint = f"Near: {', '.join(clean(each) for each in near)}" if near else "See: jumpdeck secrets list"
    why = f"{clean(name)}: {clean(cause.detail)}" if cause is not None and cause.detail else clean(name)
    return NotFoundError("No such secret is stored", why, hint, code="JD-SECRET-UNKNOWN", layer="secret")


async def _list(output: str) -> int:
    from app.cli.frame import say
    from app.secrets.store import own_store
    from app.text import clean

    store: SecretStore = own_store()
    stored = await store.names()
    if output == "name":
        sys.stdout.write("".join(f"{clean(each.name)}\n" for each in stored))
        return 0
    status = await store.status()
    if output == "json":
        import json

        rows = [
            {"name": clean(each.name), "kind": each.name.partition(" ")[0], "kept-in": each.place} for each in stored
        ]
        state = {"name": status.label, "usable": status.usable, "why": status.why}
        sys.stdout.write(json.dumps({"store": state, "secrets": rows}, indent=2, ensure_ascii=False) + "\n")
        return 0
    if stored:
        rows_shown = [("NAME", "KEPT IN"), *((clean(each.name), each.place) for each in stored)]
        width = max(len(name) for name, _ in rows_shown)
        sys.stdout.write("".join(f"{name:<{width}}   {place}\n" for name, place in rows_shown))
    if not store.asks:
        say(f"jumpdeck: {status.why}")
    elif status.usable:
        say(f"jumpdeck: {'' if stored else 'nothing is stored yet; '}the store here is {status.label}")
    else:
        say(f"jumpdeck: no usable secret store here: {status.why}")
        say("  Secrets are asked for and kept in memory only. Agent keys and certificates need none.")
    return 0
