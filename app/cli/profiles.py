"""`jumpdeck profiles …`: list, show, add, edit, remove, import, export and check profiles."""

from __future__ import annotations

import argparse
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from app.errors import ProfileError
    from app.profiles.model import Profile
    from app.profiles.store import ProfileBook


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands and their flags."""
    # With prog given, argparse formats no usage here, which would load shutil and its compressors.
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True, prog=parser.prog)

    def command(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=f"example: {example}"
        )

    listing = command("list", "list all profiles", "jumpdeck profiles list -o name")
    listing.add_argument("-o", "--output", choices=("table", "name", "json"), default="table", help="default: table")

    show = command("show", "show one profile, with defaults and named hops filled in", "jumpdeck profiles show staging")
    show.add_argument("name", metavar="NAME")
    show.add_argument("-o", "--output", choices=("toml", "json"), default="toml", help="default: toml")

    add = command(
        "add", "add a profile to your file",
        "jumpdeck profiles add staging --cluster kubeconfig=~/.kube/config,context=staging --via ssh=ops@jump01",
    )  # fmt: skip
    _configure_add(add)

    edit = command("edit", "edit the profile file in $VISUAL or $EDITOR", "jumpdeck profiles edit staging")
    edit.add_argument("name", metavar="NAME", nargs="?", help="the profile to begin at")

    remove = command("remove", "remove a profile from your file", "jumpdeck profiles remove staging --yes")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("-y", "--yes", action="store_true", help="do not ask")
    remove.add_argument("--no-input", action="store_true", help="never ask; fail without --yes")

    _configure_import(
        command(
            "import",
            "add profiles for the contexts of a kubeconfig or from another profile file, or hops for SSH hosts",
            "jumpdeck profiles import --kubeconfig ~/.kube/config --context staging\n"
            "         jumpdeck profiles import --ssh-config jump01 inner\n"
            "         jumpdeck profiles import --ssh-config inner --cluster kubeconfig=~/.kube/config,context=staging",
        )
    )

    export = command("export", "print profiles for colleagues, without personal defaults", "jumpdeck profiles export")
    export.add_argument("names", metavar="NAME", nargs="*", help="default: all")

    check = command("check", "check the profile files and the files that they name", "jumpdeck profiles check")
    check.add_argument("names", metavar="NAME", nargs="*", help="default: all")
    check.add_argument("--no-input", action="store_true", help="never ask about changed includes")


def _configure_import(importing: argparse.ArgumentParser) -> None:
    importing.add_argument(
        "words", metavar="FILE.toml|HOST", nargs="*",
        help="a profile file to take profiles from, - for standard input; with --ssh-config its hosts (default: all), "
        "each as [hop.HOST]",
    )  # fmt: skip
    importing.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, else ~/.kube/config")
    importing.add_argument("--context", metavar="C", action="append", default=[], help="only this context (repeatable)")
    importing.add_argument(
        "--ssh-config", action="store_true",
        help="hosts of ~/.ssh/config, or of a file: a first word with / in it. ProxyJump becomes hops; nothing in the "
        "file runs, and what is not taken over is listed",
    )  # fmt: skip
    importing.add_argument(
        "--cluster", metavar="C", help="with --ssh-config HOST: also a profile for this cluster through the host"
    )
    importing.add_argument("--as", metavar="NAME", dest="name", help="the name of that profile (default: the host's)")
    importing.add_argument("--prefix", metavar="P", default="", help="put this before each name")
    importing.add_argument("--dry-run", action="store_true", help="print what would be added, change nothing")


def _configure_add(add: argparse.ArgumentParser) -> None:
    add.add_argument("name", metavar="NAME")
    add.add_argument(
        "--cluster", metavar="C", required=True,
        help="what to reach: key=value,… or TOML, such as '{ server = \"https://10.0.0.1:6443\" }'",
    )  # fmt: skip
    add.add_argument(
        "--via", metavar="HOP", action="append", default=[],
        help="a hop, in order: a named one, key=value,… or TOML (repeatable)",
    )  # fmt: skip
    add.add_argument("--title", metavar="TEXT")
    add.add_argument("--tag", metavar="TAG", action="append", default=[], help="repeatable; production is strict")
    add.add_argument("-n", "--namespace", metavar="NS", action="append", default=[], help="where to look (repeatable)")
    add.add_argument("--sign-in", metavar="NAME", help="a [sign-in.NAME] or a kind, such as azure-cli")
    add.add_argument("--cloud", metavar="NAME", help="public, us-government, china or a [cloud.NAME]")
    add.add_argument("--host-keys", metavar="POLICY", help="strict, ask or pinned")
    add.add_argument("--proxy", metavar="URL")
    add.add_argument("--ca-file", metavar="FILE")
    add.add_argument("--notes", metavar="TEXT")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand. Raises JumpdeckError."""
    if args.action in ("list", "show"):
        return _list(args.output) if args.action == "list" else _show(args.name, args.output)
    from app.cli import profile_changes, profile_check

    actions = {
        "add": profile_changes.add,
        "edit": profile_changes.edit,
        "remove": profile_changes.remove,
        "import": profile_changes.import_profiles,
        "export": profile_changes.export,
        "check": profile_check.check,
    }
    return actions[args.action](args)


def out(text: str) -> None:
    """Text on standard output, as it stands."""
    sys.stdout.write(text)


def loaded() -> ProfileBook:
    """The user's book, after its notices were said. Raises what keeps the whole file from being read."""
    from app.profiles.store import load

    book = load()
    note(book)
    if not book.profiles:
        for problem in book.problems:
            if not getattr(problem, "profile", ""):
                raise problem
    return book


def note(book: ProfileBook) -> None:
    """What the user should hear, on standard error."""
    if book.notices:
        from app.cli.frame import say

        for line in book.notices:
            say(f"jumpdeck: {line}")


def _list(output: str) -> int:
    book = loaded()
    profiles = sorted(book.profiles.values(), key=_by_name)
    if output == "name":
        out("".join(f"{profile.name}\n" for profile in profiles))
    elif output == "json":
        import json

        from app.text import clean_block

        rows = [_row(profile) for profile in profiles]
        rows += [{"name": getattr(p, "profile", ""), "problem": str(p)} for p in _bad(book)]
        out(clean_block(json.dumps(rows, indent=2, ensure_ascii=False)) + "\n")
    else:
        _print_table(profiles)
    if output != "json" and book.problems:
        _say_problems(book)
    if not profiles and not book.problems:
        from app.cli.frame import say
        from app.files import shown

        say(f"jumpdeck: no profiles yet ({shown(book.path)}). Begin with: jumpdeck profiles import")
    return 0


def _by_name(profile: Profile) -> str:
    return profile.name


def _row(profile: Profile) -> dict[str, object]:
    from app.profiles.rendering import destination, way

    return {
        "name": profile.name,
        "title": profile.title,
        "tags": list(profile.tags),
        "cluster": destination(profile.cluster),
        "way": way(profile),
        "file": str(profile.origin or ""),
    }


def _print_table(profiles: list[Profile]) -> None:
    if not profiles:
        return
    from app.profiles.rendering import destination, way
    from app.text import clean

    rows = [("NAME", "WAY", "CLUSTER", "TAGS", "TITLE")]
    rows += [
        (each.name, way(each), clean(destination(each.cluster)), ",".join(each.tags) or "-", each.title)
        for each in profiles
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        out("   ".join((*cells, row[4])).rstrip() + "\n")


def _bad(book: ProfileBook) -> list[ProfileError]:
    return [problem for problem in book.problems if getattr(problem, "profile", "")]


def _say_problems(book: ProfileBook) -> None:
    from app.cli.frame import say

    for problem in book.problems:
        first, *rest = problem.lines()
        say(f"jumpdeck: {first}")
        if rest:
            say(f"  {rest[0]}")
    say("  See: jumpdeck profiles check")


def _show(name: str, output: str) -> int:
    from app.profiles.rendering import profile_table, to_toml

    profile = loaded().get(name)
    table = profile_table(profile)
    if output == "json":
        import json

        from app.text import clean_block

        document = {"name": profile.name, **table, "file": str(profile.origin or "")}
        out(clean_block(json.dumps(document, indent=2, ensure_ascii=False)) + "\n")
    else:
        out(to_toml(f"profile.{profile.name}", table))
    return 0
