"""What is wrong with resources taken together: references that lead nowhere, dates before a birth, ids used twice.

Two passes over a source: the first fills an `Index` (which resources there are, when patients were born), the second
asks it about each resource. Indexes of pieces that were read apart are merged. A resource costs about 200 bytes in it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from harmonization.checks import Problem, references, surely_before
from harmonization.r4 import RESOURCES
from harmonization.reading import Located

_ADDRESS = re.compile(r"(https?://.*?/)([A-Za-z]+/[A-Za-z0-9\-.]{1,64})").fullmatch

EVENTS = ("effective", "performed", "onset")
"""Choices of date, dateTime or Period that no patient has before birth."""

IDENTIFIED = frozenset({"Patient", "Practitioner", "PractitionerRole", "Organization", "Location"})
"""Types that others find by identifier (``Practitioner?identifier=...``)."""


@dataclass
class Index:
    """The resources of a source, as far as others refer to them.

    Parameters
    ----------
    keys
        ``Type/id`` of every resource and ``fullUrl`` of every Bundle entry, with a check sum of the content.
    types
        Resource types there are.
    servers
        Beginnings of the addresses in ``fullUrl``: what begins otherwise lies outside of the source.
    births
        Each patient's date of birth, by key.
    identifiers
        ``Type?identifier=system|value``, with the key of who has it.
    repeated
        Keys that come again with the same content, which harms nobody but who counts.
    conflicting
        Keys that come again with another content.
    shared
        Identifiers of two patients.
    """

    keys: dict[str, int] = field(default_factory=dict)
    types: set[str] = field(default_factory=set)
    servers: set[str] = field(default_factory=set)
    births: dict[str, str] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    conflicting: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, resources: Iterable[Located]) -> Index:
        """The first pass; the resources are not kept.

        Parameters
        ----------
        resources
            From `harmonization.reading`.
        """
        index = cls()
        for located in resources:
            index.add(located)
        return index

    def add(self, located: Located) -> None:
        """Take one resource in."""
        resource = located.resource
        kind = resource.get("resourceType")
        if not isinstance(kind, str) or kind == "Bundle":
            return
        self.types.add(kind)
        names = []
        if isinstance(identity := resource.get("id"), str):
            names.append(f"{kind}/{identity}")
        if isinstance(located.full_url, str):
            names.append(located.full_url)
            if address := _ADDRESS(located.full_url):
                self.servers.add(address[1])
        if not names:
            return
        content = zlib.crc32(orjson.dumps(resource))
        for name in names:
            self._key(name, content)
            if kind == "Patient" and isinstance(born := resource.get("birthDate"), str):
                self.births[name] = born
        if kind in IDENTIFIED:
            for identifier in filter(None, _identifiers(resource)):
                self._identifier(f"{kind}?identifier={identifier}", names[0])

    def merge(self, other: Index) -> None:
        """Take in what another piece of the source has."""
        for name, content in other.keys.items():
            self._key(name, content)
        for identifier, name in other.identifiers.items():
            self._identifier(identifier, name)
        self.types |= other.types
        self.servers |= other.servers
        self.births |= other.births
        self.repeated |= other.repeated
        self.conflicting |= other.conflicting
        self.shared |= other.shared

    def _key(self, name: str, content: int) -> None:
        before = self.keys.get(name)
        if before is None:
            self.keys[name] = content
        else:
            (self.repeated if before == content else self.conflicting).add(name)

    def _identifier(self, identifier: str, name: str) -> None:
        if self.identifiers.setdefault(identifier, name) != name and identifier.startswith("Patient?"):
            self.shared.add(identifier)

    def check(self, located: Located) -> list[Problem]:
        """What is wrong with a resource, knowing all the others: the second pass.

        A reference to a type of which the source has no resource is taken to lead outside, as are other servers'
        addresses; to a patient it must lead to one.

        Parameters
        ----------
        located
            A resource that was indexed before, and in which `harmonization.checks.check` finds nothing.
        """
        resource = located.resource
        kind = resource["resourceType"]
        if kind == "Bundle":
            return []
        found = [
            Problem(f"{kind}{path}", reference, "leads to no resource of the source", "reference")
            for path, reference in references(resource)
            if reference not in self.keys and not self.resolves(reference)
        ]
        if self.conflicting and (key := f"{kind}/{resource.get('id')}") in self.conflicting:
            found.append(Problem(f"{kind}.id", key, "another resource with other content has this id", "duplicate"))
        if self.shared and kind == "Patient":
            for i, identifier in enumerate(_identifiers(resource)):
                if f"Patient?identifier={identifier}" in self.shared:
                    reason = "another patient has this identifier"
                    found.append(Problem(f"Patient.identifier[{i}].value", identifier, reason, "duplicate"))
        if (born := self._birth(resource)) is not None:
            found += [
                Problem(f"{kind}{path}", day, f"before the patient's birth ({born})", "date")
                for path, day in _events(resource)
                if surely_before(day, born)
            ]
        return found

    def resolves(self, reference: str) -> bool:
        """Whether a reference leads to a resource of the source, or surely outside of it."""
        if reference[0] == "#":  # within the resource: `checks` has looked
            return True
        if reference.startswith("urn:"):
            return False  # as there is no such fullUrl
        reference = reference.partition("/_history/")[0]
        if reference in self.keys:
            return True
        if address := _ADDRESS(reference):
            if address[1] not in self.servers:
                return True
            reference = address[2]
        elif reference.startswith("http"):
            return True
        kind, conditional, _ = reference.partition("?")
        kind = kind.partition("/")[0]
        if kind not in self.types and kind != "Patient":
            return True
        if conditional:
            return "?identifier=" not in reference or reference in self.identifiers
        return reference in self.keys

    def _birth(self, resource: Mapping[str, Any]) -> str | None:
        subject = resource.get("subject")
        if subject is None or resource["resourceType"] not in RESOURCES:  # others' structure was not looked at
            return None
        return self.births.get(subject.get("reference", ""))


def _identifiers(resource: Mapping[str, Any]) -> Iterator[str]:
    """``system|value`` of each identifier that has both."""
    identifiers = resource.get("identifier")
    for one in identifiers if isinstance(identifiers, list) else ():
        if isinstance(one, dict) and one.get("system") and one.get("value"):
            yield f"{one['system']}|{one['value']}"
        else:
            yield ""  # keeps the count


def _events(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for event in EVENTS:
        if (day := resource.get(f"{event}DateTime")) is not None:
            yield f".{event}DateTime", day
        elif (period := resource.get(f"{event}Period")) is not None and "start" in period:
            yield f".{event}Period.start", period["start"]
