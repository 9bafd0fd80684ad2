"""The subcommands of `jumpdeck profiles` that change the file or print it for others."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from app.cli.profiles import loaded, note, out
from app.errors import ExitCode, JumpdeckError, ProfileError, UsageError
from app.files import shown
from app.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from app.profiles.model import Profile
    from app.profiles.store import ProfileBook

_PATH_FIELDS = ("kubeconfig", "ca-file", "key", "certificate", "arc-proxy")


def add(args: argparse.Namespace) -> int:
    """`profiles add`."""
    from app.profiles.saving import add_entries

    book = _book()
    if args.name in book.profiles:
        origin = book.profiles[args.name].origin
        raise ProfileError(
            f"The profile {clean(args.name)} exists already",
            f"it comes from {shown(origin)}" if origin else "",
            "Choose another name, or change it: jumpdeck profiles edit",
            code="JD-PROFILE-EXISTS",
        )
    via = [parse_table(text, "--via", bare=True) for text in args.via]
    fields: dict[str, object] = {
        "title": args.title,
        "tags": args.tag,
        "cluster": parse_table(args.cluster, "--cluster"),
        "via": via,
        "sign-in": args.sign_in,
        "namespaces": [part for text in args.namespace for part in text.split(",") if part],
        "cloud": args.cloud,
        "host-keys": args.host_keys,
        "proxy": args.proxy,
        "ca-file": str(Path(os.path.abspath(Path(args.ca_file).expanduser()))) if args.ca_file else None,
        "notes": args.notes,
    }
    table = {name: value for name, value in fields.items() if value not in (None, [])}
    add_entries(book.path, [("profile", args.name, table)], list(book.shared))
    _tell(f"added {args.name} to {shown(book.path)}")
    return 0


def parse_table(text: str, flag: str, *, bare: bool = False) -> object:
    """`{ inline TOML }` or `key=value,key=value` as a table; with `bare`, a single word is a name.

    Relative paths start at the current folder, as everywhere on a command line. Raises UsageError.
    """
    text = text.strip()
    if text.startswith("{"):
        import tomllib

        try:
            document = tomllib.loads(f"value = {text}")
        except (ValueError, RecursionError) as exc:
            raise _not_understood(flag, clean(str(exc))) from exc
        table = document["value"]
        if len(document) != 1 or not isinstance(table, dict):
            raise _not_understood(flag, "one table { … } is expected")
    elif "=" in text:
        table = {}
        for part in text.split(","):
            key, equals, value = part.partition("=")
            if not equals or not key.strip():
                raise _not_understood(flag, f"`{clean(part)}` is not key=value; a value with a comma needs TOML")
            table[key.strip()] = _plain_value(value.strip())
    elif bare and text:
        return text
    else:
        raise _not_understood(flag, f"`{clean(text)}` says neither key=value nor {{ TOML }}")
    for name in _PATH_FIELDS:
        path = table.get(name)
        if isinstance(path, str) and path and not path.startswith("~"):
            table[name] = os.path.abspath(path)
    return table


def _plain_value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _not_understood(flag: str, why: str) -> UsageError:
    return UsageError(
        f"{flag} is not understood", why, f"For example: {flag} kubeconfig=~/.kube/config,context=staging"
        if flag == "--cluster" else f"For example: {flag} ssh=ops@jump01", code="JD-USAGE-TABLE",
    )  # fmt: skip


def remove(args: argparse.Namespace) -> int:
    """`profiles remove`: asks first."""
    from app.profiles.saving import current_text, remove_profile
    from app.profiles.source import parse_source

    book = _book()
    own = parse_source(book.path, current_text(book.path)).tables.get("profile")
    if not isinstance(own, dict) or args.name not in own:
        profile = book.get(args.name)
        raise ProfileError(
            f"{clean(args.name)} is not in your file",
            f"it comes from {shown(profile.origin)}, which is read-only here" if profile.origin else "",
            "Ask the owner of that file, or take its include out: jumpdeck profiles edit",
            code="JD-PROFILE-SHARED",
        )
    if not args.yes and not _agreed(f"Remove {clean(args.name)} from {shown(book.path)}? [y/N] ", args):
        _tell("nothing changed")
        return 0
    remove_profile(book.path, args.name, list(book.shared))
    _tell(f"removed {args.name}; the file before it is kept as .{book.path.name}.~1~")
    return 0


def _agreed(question: str, args: argparse.Namespace) -> bool:
    from app.cli.frame import controlling_terminal

    if args.no_input or controlling_terminal() is None:
        raise UsageError(
            "Nobody can be asked", "there is no terminal, or --no-input was given", "Add --yes.", code="JD-USAGE-YES"
        )
    from app.cli.prompts import ask_line

    return ask_line(question).lower() in ("y", "yes")


def import_profiles(args: argparse.Namespace) -> int:
    """`profiles import`: from kubeconfig contexts, a profile file, or SSH hosts."""
    from app.profiles.importing import default_kubeconfigs, from_kubeconfigs, from_profile_file
    from app.profiles.rendering import to_toml
    from app.profiles.saving import add_entries

    if len(args.words) > 1 and not args.ssh_config:
        raise UsageError("Too many words", "one FILE.toml is imported at a time",
                         "jumpdeck profiles import FILE.toml", code="JD-USAGE-ARGUMENTS")
    if (args.words or args.ssh_config) and (args.kubeconfig or args.context):
        raise UsageError(
            "Two sources at once", "--kubeconfig and --context go without FILE.toml and --ssh-config",
            "Import from one, then from the other.", code="JD-USAGE-ARGUMENTS",
        )  # fmt: skip
    if (args.cluster or args.name) and not (args.ssh_config and args.cluster):
        raise UsageError(
            "--cluster and --as belong to --ssh-config", "they make a profile of one SSH host",
            "Without one: jumpdeck profiles add NAME --cluster …", code="JD-USAGE-ARGUMENTS",
        )  # fmt: skip
    book = _book()
    taken = {getattr(problem, "profile", "") for problem in book.problems}
    if args.ssh_config:
        from app.cli.ssh_hosts import import_ssh_hosts

        return import_ssh_hosts(args, book, taken)
    if args.words:
        piped = _piped() if args.words[0] == "-" else None
        path = Path(args.words[0] if piped is None else "standard-input")
        found = from_profile_file(path, args.prefix, book.profiles, taken, piped)
    else:
        files = [Path(args.kubeconfig)] if args.kubeconfig else default_kubeconfigs()
        found = from_kubeconfigs(files, args.context, args.prefix, book.profiles, taken)
    for line in found.skipped:
        _tell(f"left out {line}")
    if args.dry_run:
        out("\n".join(to_toml(f"{section}.{name}", table) for section, name, table in found.entries))
    elif found.entries:
        add_entries(book.path, found.entries, list(book.shared))
        _tell(f"added {', '.join(found.names())} to {shown(book.path)}")
    return 0


def _piped() -> bytes:
    """A profile file from standard input. Raises ProfileError when it is too large for one."""
    import sys

    from app.profiles.source import MAX_FILE_BYTES

    data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ProfileError(
            "The profile file is too large", f"standard input: more than {MAX_FILE_BYTES} bytes",
            "Is it the right file?", code="JD-PROFILE-TOO-LARGE",
        )  # fmt: skip
    return data


def export(args: argparse.Namespace) -> int:
    """`profiles export`: from the allow-list of fields, named hops in place, personal defaults left out."""
    from app.profiles.entries import CLOUDS
    from app.profiles.rendering import cloud_table, profile_table, to_toml
    from app.profiles.store import load

    book = load(personal=False)
    note(book)
    profiles = [book.get(name) for name in dict.fromkeys(args.names)]
    if not args.names:
        profiles = sorted(book.profiles.values(), key=_by_name)
        for problem in book.problems:
            _tell(f"left out: {problem}")
    parts = ["version = 1\n"]
    clouds = {each.cloud.name: each.cloud for each in profiles if each.cloud.name not in CLOUDS}
    parts += [to_toml(f"cloud.{name}", cloud_table(cloud)) for name, cloud in clouds.items()]
    parts += [to_toml(f"profile.{each.name}", profile_table(each)) for each in profiles]
    out("\n".join(parts))
    return 0


def edit(args: argparse.Namespace) -> int:
    """`profiles edit`: an editor on a copy, which replaces the file only when it is valid."""
    from app.profiles.saving import current_text, replace_text
    from app.profiles.source import Source

    words = _editor()
    book = load_for_edit(args.name)
    _sweep_copies(book.path)
    base = current_text(book.path)
    line = Source(book.path, base).line_of(f"profile.{args.name}") if args.name else None
    copy = _private_copy(book.path, base)
    edited = base
    try:
        _run_editor(words, copy, line)
        edited = _text_of(copy)
        if edited == base:
            copy.unlink()
            _tell("nothing changed")
            return 0
        replace_text(book.path, base, edited, list(book.shared))
    except JumpdeckError as exc:
        if edited == base:
            copy.unlink(missing_ok=True)
        else:
            exc.hint = f"{exc.hint} Your text is kept in {shown(copy)}".strip()
        raise
    copy.unlink()
    _tell(f"saved {shown(book.path)}")
    return 0


def load_for_edit(name: str | None) -> ProfileBook:
    """The book before an edit. A file with errors may be edited; one of a newer format may not."""
    from app.profiles.store import load

    book = load()
    _refuse_read_only(book)
    profile = book.profiles.get(name) if name else None
    if name and profile is None and book.problem(name) is None and not book.problems:
        book.get(name)  # raises: unknown, with near names
    if profile is not None and profile.origin not in (None, book.path):
        raise ProfileError(
            f"{clean(profile.name)} is not in your file",
            f"it comes from {shown(profile.origin)}, which is read-only here" if profile.origin else "",
            "Edit your own file without a name; your entry's fields go over the shared one's.",
            code="JD-PROFILE-SHARED",
        )
    return book


def _private_copy(path: Path, data: bytes) -> Path:
    """A copy for the editor, in the private folder; 0600 from its first moment."""
    from app.files import private_dir, write_private

    private_dir(path.parent)
    copy = path.with_name(f"{path.stem}.edit-{os.urandom(4).hex()}{path.suffix}")
    write_private(copy, data)
    return copy


def _sweep_copies(path: Path) -> None:
    """Removes the texts that earlier edits left and nobody came back for."""
    import time
    from contextlib import suppress

    for copy in path.parent.glob(f"{path.stem}.edit-*{path.suffix}"):
        with suppress(OSError):
            if time.time() - copy.stat().st_mtime > _COPY_KEPT_SECONDS:
                copy.unlink()


def _editor() -> str:
    """The user's editor. Raises UsageError when it needs a terminal and there is none."""
    import sys

    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    words = chosen or ("notepad" if sys.platform == "win32" else "vi")
    if Path(words.split()[0] if words.split() else words).stem.lower() in _TERMINAL_EDITORS and not (
        sys.stdin.isatty() and sys.stdout.isatty()
    ):
        raise UsageError(
            "profiles edit needs a terminal",
            f"{clean(words)} would run without one",
            "Run it in a terminal, or set VISUAL to an editor with a window of its own, such as `code --wait`.",
            code="JD-USAGE-TERMINAL",
        )
    return words


_TERMINAL_EDITORS = frozenset(("vi", "vim", "nvim", "nano", "micro"))
_COPY_KEPT_SECONDS = 86_400.0
"""A day: time enough to come back for a text that was not saved."""


def _run_editor(words: str, copy: Path, line: int | None) -> None:
    """Raises ProfileError when the editor cannot be run or says that it failed."""
    import shlex
    import subprocess
    import sys

    windows = sys.platform == "win32"
    try:
        command = [word.strip('"') for word in shlex.split(words, posix=not windows)]
    except ValueError:
        command = [words]
    if line is not None and Path(command[0]).stem.lower() in ("vi", "vim", "nvim", "nano", "emacs", "micro"):
        command.append(f"+{line}")
    try:
        code = subprocess.run([*command, str(copy)], check=False).returncode  # noqa: S603 the user's own editor
    except OSError as exc:
        raise _editor_failed(f"{clean(words)}: {exc.strerror}") from exc
    if code != 0:
        raise _editor_failed(f"{clean(words)}: " + (f"exit code {code}" if code > 0 else f"ended by signal {-code}"))


def _text_of(copy: Path) -> bytes:
    """What the editor left. Raises ProfileError when it left nothing."""
    try:
        return copy.read_bytes()
    except OSError as exc:
        raise _editor_failed(f"its text cannot be read: {exc.strerror}") from exc


def _editor_failed(why: str) -> ProfileError:
    return ProfileError(
        "The editor failed", why, "Set VISUAL or EDITOR to an editor that waits, such as `code --wait`.",
        code="JD-PROFILE-EDITOR", exit_code=ExitCode.FAILED,
    )  # fmt: skip


def _book() -> ProfileBook:
    book = loaded()
    _refuse_read_only(book)
    return book


def _refuse_read_only(book: ProfileBook) -> None:
    if book.read_only:
        raise ProfileError(
            "The profile file is read-only here",
            f"{shown(book.path)} has a newer format than this Jumpdeck writes",
            "Update Jumpdeck, or change the file with the Jumpdeck that wrote it.",
            code="JD-PROFILE-READ-ONLY",
        )


def _by_name(profile: Profile) -> str:
    return profile.name


def _tell(text: str) -> None:
    from app.cli.frame import say

    say(f"jumpdeck: {text}")
