"""Merges the entries of several files field by field and builds profiles from them; a bad one hides no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from app.errors import ProfileError
from app.profiles import entries, hops, patterns
from app.profiles.commands import RESERVED
from app.profiles.entries import Defaults
from app.profiles.fields import Complaints, Fields, kind, one_of
from app.profiles.model import Cloud, HopSpec, KubeconfigCluster, Profile, SignIn, SshHop
from app.profiles.problem import ProfileProblem
from app.profiles.source import FORMAT_VERSION, SECTIONS, Source
from app.records import replace
from app.text import clean

Named = TypeVar("Named")

_TOP = ("version", "include", "defaults", *SECTIONS)
MAX_HOPS = 8
"""Hops of a route; each costs a round trip on every opened stream."""


class Entry:
    """A named table merged from the files that have it; the last file wins, field by field."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.sources: dict[str, Source] = {}
        self.source: Source | None = None
        """The last file that has the entry."""

    def merge(self, values: dict[str, object], source: Source) -> None:
        """Lays the fields of another file's table over this one."""
        self.values.update(values)
        self.sources.update(dict.fromkeys(values, source))
        self.source = source


class Assembly:
    """Builds everything that a list of files says. `profiles` and `problems` are the result.

    Without `personal`, `[defaults]` fill nothing: what results may go to other people.
    """

    def __init__(self, own: Source | None, shared: list[Source], *, personal: bool = True) -> None:
        self.profiles: dict[str, Profile] = {}
        self.problems: list[ProfileError] = []
        self.ignored: list[tuple[Source, str]] = []
        """What files of a newer format say that this version does not know."""
        self._tables: dict[str, dict[str, Entry]] = {section: {} for section in SECTIONS}
        self._defaults = Defaults()
        self._personal_too = personal
        self._hops: dict[str, HopSpec | ProfileProblem] = {}
        self._sign_ins: dict[str, SignIn | ProfileProblem] = {}
        self._clouds: dict[str, Cloud | ProfileProblem] = {}
        for source in (*shared, *([own] if own else [])):
            self._take(source)
        self._read_named()
        for name, entry in self._tables["profile"].items():
            try:
                self.profiles[name] = self._profile(name, entry)
            except ProfileProblem as problem:
                self.problems.append(_dated(problem, entry.source))

    def _take(self, source: Source) -> None:
        complaints = Complaints("", "")
        for section, tables in source.tables.items():
            if section in SECTIONS:
                self._take_section(source, section, tables, complaints)
            elif section == "defaults":
                self._take_defaults(source, tables)
            elif section not in _TOP and source.newer:
                self.ignored.append((source, clean(section)))
            elif section not in _TOP:
                hint = one_of(section, _TOP)
                complaints.add(
                    source, section, "there is no such table or field here", hint, code="JD-PROFILE-UNKNOWN-FIELD"
                )
        self.problems.extend(complaints.found)

    def _take_section(self, source: Source, section: str, tables: object, complaints: Complaints) -> None:
        if not isinstance(tables, dict):
            complaints.add(source, section, f"tables [{section}.NAME] are expected, not {kind(tables)}")
            return
        for name, values in tables.items():
            if isinstance(values, dict):
                self._tables[section].setdefault(name, Entry()).merge(values, source)
            else:
                why = f"a table [{section}.NAME] is expected, not {kind(values)}"
                complaints.add(source, f"{section}.{name}", why, f"Write [{section}.NAME] above it.")

    def _take_defaults(self, source: Source, values: object) -> None:
        complaints = Complaints("defaults", "")
        if source.shared:
            why = "defaults are personal; a shared file has none, these are ignored"
            complaints.add(
                source,
                "",
                why,
                "Write them into the entries, or into your own file.",
                code="JD-PROFILE-SHARED-DEFAULTS",
            )
        elif not isinstance(values, dict):
            complaints.add(source, "", f"a table is expected, not {kind(values)}")
        elif self._personal_too:
            self._defaults = entries.read_defaults(Fields(values, complaints, source))
        self.problems.extend(complaints.found)
        self.ignored.extend(complaints.ignored)

    def _read_named(self) -> None:
        """Hops, sign-ins and clouds. A bad one is a problem of its own and of every profile that names it."""
        for name, entry in self._tables["hop"].items():
            self._hops[name] = self._named("hop", name, entry, hops.read_named_hop)
        for name, entry in self._tables["sign-in"].items():
            taken = entries.SIGN_IN_KINDS
            self._sign_ins[name] = self._named("sign-in", name, entry, entries.read_sign_in, taken)
        for name, entry in self._tables["cloud"].items():
            self._clouds[name] = self._named("cloud", name, entry, entries.read_cloud, entries.CLOUDS)

    def _named(
        self,
        section: str,
        name: str,
        entry: Entry,
        read: Callable[[Fields, str], Named | None],
        taken: tuple[str, ...] = (),
    ) -> Named | ProfileProblem:
        complaints, fields = _opened(f"{section}.{name}", "", entry)
        if wrong := entries.name_problem(name):
            complaints.add(fields.source(""), "", *wrong, code="JD-PROFILE-NAME")
        elif name in taken:
            complaints.add(fields.source(""), "", "the name is taken by a built-in one", code="JD-PROFILE-NAME")
        found = read(fields, name)
        self.ignored.extend(complaints.ignored)
        try:
            complaints.check()
        except ProfileProblem as problem:
            self.problems.append(_dated(problem, entry.source))
            return problem
        assert found is not None, "a reader that returns nothing complains"
        return found

    def _profile(self, name: str, entry: Entry) -> Profile:
        complaints, fields = _opened(f"profile.{name}", name, entry)
        if wrong := entries.name_problem(name, RESERVED):
            complaints.add(fields.source(""), "", *wrong, code="JD-PROFILE-NAME")
        inner = fields.table("cluster")
        cluster = entries.read_cluster(inner) if inner else None
        if "cluster" not in fields.values:
            hint = 'Add cluster = { kubeconfig = "~/.kube/config", context = "…" }.'
            complaints.add(fields.source(""), "", "cluster is missing: what to reach", hint)
        before = len(complaints.found)
        via = self._via(fields)
        sign_in, cloud = self._sign_in(fields), self._cloud(fields)
        profile = Profile(name, cluster or _NOTHING, via, sign_in=sign_in, cloud=cloud)
        profile = replace(
            entries.read_rest(fields, profile, self._defaults), origin=entry.source.path if entry.source else None
        )
        if before == len(complaints.found):  # the order of hops is judged when each of them is good
            hops.check_order(fields, via, cluster, profile.host_keys == "pinned")
        fields.finish()
        self.ignored.extend(complaints.ignored)
        complaints.check()
        return profile

    def _via(self, fields: Fields) -> tuple[HopSpec, ...]:
        value = fields.take("via")
        if value is None:
            return ()
        if not isinstance(value, list):
            fields.complain("via", f"a list of hops is expected, not {kind(value)}", "Put it into [ … ].")
            return ()
        if len(value) > MAX_HOPS:
            fields.complain("via", f"more than {MAX_HOPS} hops")
            return ()
        found: list[HopSpec] = []
        for at, item in enumerate(value):
            where = f"via[{at}]" if len(value) > 1 else "via"
            if hop := self._hop(fields, where, item):
                found.append(self._personal(hop))
        return tuple(found)

    def _hop(self, fields: Fields, where: str, item: object) -> HopSpec | None:
        if isinstance(item, dict):
            return hops.read_hop(fields.inner(where, item))
        if not isinstance(item, str):
            fields.complain(where, f"a hop is a name in quotes or a table, not {kind(item)}")
            return None
        known = self._hops.get(item)
        if known is None:
            fields.complain(where, *hops.unknown_hop(clean(item), tuple(self._hops)))
        if isinstance(known, ProfileProblem):
            _blame(known, fields)
            return None
        return known

    def _personal(self, hop: HopSpec) -> HopSpec:
        """Personal defaults fill what an SSH hop leaves open."""
        if not isinstance(hop, SshHop):
            return hop
        if hop.user is None and (user := self._defaults.ssh_user):
            servers = [server if patterns.ssh_user(server) else f"{user}@{server}" for server in hop.ssh]
            hop = replace(hop, ssh=tuple(servers))
        if self._defaults.ssh_key and not (hop.key or hop.agent or hop.password or hop.entra_certificate):
            hop = replace(hop, key=self._defaults.ssh_key)
        return hop

    def _sign_in(self, fields: Fields) -> SignIn | None:
        own = "sign-in" in fields.values
        value = fields.take("sign-in") if own else self._defaults.sign_in
        if isinstance(value, dict):
            return entries.read_sign_in(fields.inner("sign-in", value))
        if value is None or isinstance(value, SignIn):
            return value
        if not isinstance(value, str):
            fields.complain("sign-in", f"a name in quotes or a table is expected, not {kind(value)}")
            return None
        if value == "service-principal":
            fields.complain("sign-in", *entries.BARE_SERVICE_PRINCIPAL)
            return None
        if value in entries.SIGN_IN_KINDS:
            return SignIn(value)
        known = self._sign_ins.get(value)
        if known is None:
            fields.complain("sign-in", *entries.unknown_sign_in(clean(value), tuple(self._sign_ins)))
        if isinstance(known, ProfileProblem):
            _blame(known, fields)
            return None
        return known

    def _cloud(self, fields: Fields) -> Cloud:
        own = "cloud" in fields.values
        value = fields.text("cloud") if own else self._defaults.cloud
        if not isinstance(value, str) or value in entries.CLOUDS:
            return Cloud(value) if isinstance(value, str) else Cloud()
        known = self._clouds.get(value)
        if known is None:
            hint = one_of(clean(value), (*self._clouds, *entries.CLOUDS))
            fields.complain("cloud", f"there is no [cloud.{clean(value)}]", hint)
        if isinstance(known, ProfileProblem):
            _blame(known, fields)
            return Cloud()
        return known or Cloud()


_NOTHING = KubeconfigCluster(Path())
"""Stands in for a cluster with complaints, so that the other fields are judged too."""


def _opened(table: str, profile: str, entry: Entry) -> tuple[Complaints, Fields]:
    assert entry.source is not None, "an entry comes from a file"
    complaints = Complaints(table, profile)
    return complaints, Fields(entry.values, complaints, entry.source, sources=entry.sources)


def _blame(problem: ProfileProblem, fields: Fields) -> None:
    """The problem of a named hop, sign-in or cloud is one of every profile that names it."""
    fields.complaints.found.append(problem.about(fields.complaints.profile))


def _dated(problem: ProfileProblem, source: Source | None) -> ProfileProblem:
    """A problem of a file with a newer format is solved by a newer program."""
    if source is not None and source.newer:
        problem.hint = _newer_hint(source)
    return problem


def _newer_hint(source: Source) -> str:
    return f"The file has format {source.version}, this Jumpdeck knows {FORMAT_VERSION}: update Jumpdeck."
