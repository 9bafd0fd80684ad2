"""Reads the profile file and what it includes into a book of profiles; saving is `app.profiles.saving`."""

from __future__ import annotations

from pathlib import Path

from app.errors import ProfileError
from app.files import shown
from app.folders import config_dir, state_dir
from app.profiles.assembly import Assembly
from app.profiles.model import Profile
from app.profiles.problem import ProfileProblem, near_names
from app.profiles.source import Source, read_source
from app.records import replace
from app.text import clean

FILE_NAME = "profiles.toml"

TYPE_CHECKING = False  # importing typing or the includes would cost a start-up that has none of them
if TYPE_CHECKING:
    from app.profiles.includes import Change, Included


class ProfileBook:
    """Everything that the profile files say. A bad profile stands in `problems` and hides no other."""

    def __init__(self, path: Path, *, problems: list[ProfileError] | None = None, read_only: bool = False) -> None:
        self.path = path
        self.profiles: dict[str, Profile] = {}
        self.problems = problems or []
        """One per bad profile (`ProfileProblem.profile`), and those of whole files (profile "")."""
        self.read_only = read_only
        """The file has a newer format: it is shown and never rewritten."""
        self.notices: tuple[str, ...] = ()
        """What the user should hear but what stops nothing, such as a changed include."""
        self.changes: tuple[Change, ...] = ()
        """Changes of included files that wait for the user's word; `includes.accept` takes them over."""
        self.shared: tuple[Source, ...] = ()
        """The included files."""

    def get(self, name: str) -> Profile:
        """The profile called `name`. Raises its own problem, or ProfileError JD-PROFILE-UNKNOWN with near names."""
        found = self.profiles.get(name)
        if found is not None:
            return found
        problem = self.problem(name)
        if problem is not None:
            raise problem
        for other in self.problems:  # a file that cannot be read may hold it
            if not getattr(other, "profile", "") and other.code not in _ENTRIES_READ:
                raise other
        if not self.profiles and not self.path.exists():
            why, hint = f"{shown(self.path)} does not exist yet", "Add one: jumpdeck profiles import, or profiles add."
        else:
            guesses = near_names(name, self.profiles)
            why = f"{shown(self.path)} has no such profile"
            hint = f"Did you mean {' or '.join(guesses)}?" if guesses else "See: jumpdeck profiles list"
        raise ProfileError(f"There is no profile {clean(name)}", why, hint, code="JD-PROFILE-UNKNOWN")

    def problem(self, name: str) -> ProfileError | None:
        """Why the profile `name` cannot be used, or None."""
        return next((problem for problem in self.problems if getattr(problem, "profile", "") == name), None)


_ENTRIES_READ = frozenset(
    {
        "JD-PROFILE-FIELD",
        "JD-PROFILE-UNKNOWN-FIELD",
        "JD-PROFILE-NAME",
        "JD-PROFILE-SECRET",
        "JD-PROFILE-SHARED-DEFAULTS",
    }
)
"""Problems of a file of which every profile was read nevertheless."""


def profile_path(folder: Path | None = None) -> Path:
    """The user's profile file; `folder` None is the configuration folder."""
    return (config_dir() if folder is None else folder) / FILE_NAME


def load(folder: Path | None = None, *, state: Path | None = None, personal: bool = True) -> ProfileBook:
    """The book of the profile file in `folder` (None: the configuration folder). Never raises: see `problems`.

    `state` is the folder of accepted includes (None: the user's state folder). Without `personal`, `[defaults]` fill
    nothing: that is the book to export from.
    """
    path = profile_path(folder)
    try:
        own = read_source(path)
    except ProfileError as exc:
        if exc.code == "JD-PROFILE-MISSING":
            return ProfileBook(path)
        return ProfileBook(path, problems=[exc])
    return assemble(own, state, personal=personal)


def assemble(own: Source, state: Path | None = None, *, personal: bool = True) -> ProfileBook:
    """The book of a profile file that is already read, with its includes."""
    book = ProfileBook(own.path, read_only=own.newer)
    if own.newer:
        book.notices = (f"{shown(own.path)} has a newer format ({own.version}): it is read and never changed here",)
    if not own.tables.get("include"):
        assembly = Assembly(own, [], personal=personal)
        book.profiles, book.problems = assembly.profiles, assembly.problems
        book.notices += _ignored(assembly)
        return book
    from app.profiles.includes import INCLUDES_FOLDER, Included

    included = Included(own, (state_dir() if state is None else state) / INCLUDES_FOLDER)
    assembly = Assembly(own, included.current, personal=personal)
    book.shared = tuple(included.current)
    book.profiles, book.problems = assembly.profiles, [*included.problems, *assembly.problems]
    book.notices += _ignored(assembly)
    if included.changed or included.fresh:
        _keep_accepted(book, included, Assembly(own, included.accepted(), personal=personal).profiles)
    if included.unsafe:
        _withhold(book, own, included)
    book.notices += tuple(included.notices)
    return book


def _ignored(assembly: Assembly) -> tuple[str, ...]:
    """A notice for each file of a newer format with something that this version does not know."""
    found: dict[Path, list[str]] = {}
    for source, field in assembly.ignored:
        found.setdefault(source.path, []).append(field)
    return tuple(
        f"{shown(path)}: not known here and ignored: {', '.join(fields[:_IGNORED_SHOWN])}"
        + (f" and {len(fields) - _IGNORED_SHOWN} more" if len(fields) > _IGNORED_SHOWN else "")
        + ". Update Jumpdeck to use them."
        for path, fields in found.items()
    )


_IGNORED_SHOWN = 5
"""Ignored fields that a notice names."""


def _withhold(book: ProfileBook, own: Source, included: Included) -> None:
    """A file that somebody else may change counts for nothing; what would use it gets the file's error.

    The accepted copies say which profiles that are: those that are there, or are different, only with the copy.
    """
    safe = Assembly(own, included.current).profiles
    for problem, copy in included.unsafe:
        for name, profile in Assembly(own, [copy, *included.current]).profiles.items():
            if name not in safe or replace(profile, origin=None) != replace(safe[name], origin=None):
                book.profiles.pop(name, None)
                book.problems = [each for each in book.problems if getattr(each, "profile", "") != name]
                book.problems.append(problem.about(name))
    book.changes = tuple(change for change in book.changes if change.name in book.profiles)


def _keep_accepted(book: ProfileBook, included: Included, old: dict[str, Profile]) -> None:
    """For a profile whose destination, trust or sign-in changed, the accepted one stays until the user agrees."""
    changes = included.pending(old, book.profiles)
    broken = [name for name in old if name not in book.profiles and book.problem(name)]
    for name in broken:
        book.profiles[name] = old[name]
        included.notices.append(f"{name}: the included file is not valid now; the accepted copy is used")
    if not changes and not broken:
        included.accept_all(old, book.profiles)
    for change in changes:
        what = ", ".join(field.replace("_", "-") for field in change.fields())
        if change.old is not None:
            book.profiles[change.name] = change.old
            included.notices.append(
                f"{change.name}: an included file changed {what}; the accepted copy is used. {_REVIEW}"
            )
        else:
            del book.profiles[change.name]
            book.problems.append(
                ProfileProblem(
                    "an included file brings it back with another destination, trust or sign-in",
                    _REVIEW,
                    code="JD-PROFILE-INCLUDE-CHANGED",
                    profile=change.name,
                )
            )
    book.changes = tuple(changes)


_REVIEW = "To review it: jumpdeck profiles check"
