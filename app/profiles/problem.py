"""What is wrong with a profile file: which file, line, profile and field, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from app.errors import ProfileError
from app.files import shown
from app.text import clean

CORRECT_IT = "Correct it there, for instance with: jumpdeck profiles edit"
"""The next step when the reason alone says what is right; the place stands in the line above."""


class ProfileProblem(ProfileError):
    """A profile, or a file of profiles, that cannot be used as it is.

    `profile` is "" when the problem is the file's. `line` counts from 1; None when it is not known. `field` is the
    path of the field inside the table, as in `via[1].host-key`. `more` are further problems of the same profile.
    """

    def __init__(
        self,
        why: str,
        hint: str = "",
        *,
        code: str = "JD-PROFILE-FIELD",
        file: Path | None = None,
        table: str = "",
        profile: str = "",
        field: str = "",
        line: int | None = None,
    ) -> None:
        place = ""
        if file is not None:
            place = shown(file) + (f", line {line}" if line is not None else "")
            place += f", [{clean(table)}]" if table else ""
        detail = ": ".join(part for part in (place, clean(field) if field else "", why) if part)
        title = f"The profile {clean(profile)} is not valid" if profile else "The profile file is not valid"
        super().__init__(title, detail, hint or (CORRECT_IT if file is not None else ""), code=code)
        self.why = why
        self.file = file
        self.table = table
        self.profile = profile
        self.field = field
        self.line = line
        self.more: tuple[ProfileProblem, ...] = ()

    def about(self, profile: str) -> ProfileProblem:
        """The same problem as the reason why another entry, `profile`, cannot be used."""
        return ProfileProblem(
            self.why,
            self.hint,
            code=self.code,
            file=self.file,
            table=self.table,
            profile=profile,
            field=self.field,
            line=self.line,
        )


def near(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest to `word`, or ""."""
    import difflib

    found = difflib.get_close_matches(word.lower().replace("_", "-"), sorted(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def near_names(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Known names that resemble `word`, nearest first."""
    import difflib

    names = sorted(known)
    found = difflib.get_close_matches(word.lower(), names, n=count, cutoff=0.5)
    return found or [name for name in names if word and (word in name or name in word)][:count]
