"""XML files as elements with line numbers. Entities are not expanded, and unknown parts are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

import numpy as np

from linegraph.errors import DataError

__all__ = ["Element", "ends", "numbered", "one_direction", "parse_xml"]


ENTITY = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)")


@dataclass(slots=True)
class Element:
    """An element in the namespace of the root; elements of other namespaces are skipped."""

    tag: str
    attributes: Mapping[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str) -> Iterator[Element]:
        """The elements directly within this one that have this tag."""
        return (child for child in self.children if child.tag == tag)

    def only(self, *tags: str) -> None:
        """Refuse text directly within this element, and elements of other tags, which would otherwise be lost.

        Raises:
            DataError: names the first of them.
        """
        if text := self.text.strip():
            raise DataError(f"line {self.line}: text in <{self.tag}>, which has none: {text[:60]!r}")
        for child in self.children:
            if child.tag not in tags:
                raise DataError(f"line {child.line}: <{child.tag}> in <{self.tag}>, which is not understood")

    def has_only(self, *names: str) -> None:
        """Refuse attributes of other names, which would otherwise be lost. Those with a prefix are extensions.

        Raises:
            DataError: names the first of them.
        """
        for name in self.attributes:
            if name not in names and not {" ", "."} & set(name):
                raise DataError(f"line {self.line}: <{self.tag}> has {name}=, which is not understood")

    def get(self, name: str) -> str:
        """The value of a required attribute.

        Raises:
            DataError: names the element and the attribute.
        """
        if name not in self.attributes:
            raise DataError(f"line {self.line}: <{self.tag}> has no {name}")
        return self.attributes[name]

    def one_of(self, name: str, known: tuple[str, ...], default: str | None = None) -> str:
        """The value of an attribute that must be one of the ``known`` values; required if there is no ``default``.

        Raises:
            DataError: names the element, the value and what is known.
        """
        value = self.get(name) if default is None else self.attributes.get(name, default)
        if value not in known:
            raise DataError(f"line {self.line}: <{self.tag}> has {name}={value!r}, known are {', '.join(known)}")
        return value


def parse_xml(content: bytes, root: str) -> Element:
    """The outermost element, of the tag ``root``.

    Raises:
        DataError: if the content is no XML, declares entities, is in an unknown encoding or has another root.
    """
    builder = _Builder()
    try:
        builder.parser.Parse(content, True)
    except DataError:
        raise
    except Exception as error:  # of expat, or of Python's codec for the declared encoding
        raise DataError(str(error)) from None
    if builder.has_doctype and ENTITY.search(content.replace(b"\0", b"")):
        raise DataError("it has an entity of an external document type, which is not read")
    found = builder.found
    if found is None or found.tag != root:
        raise DataError(f"its outermost element is <{found.tag if found else ''}>, not <{root}>")
    return found


def numbered(nodes: Sequence[Element]) -> dict[str, int]:
    """The number of each node, by its ``id``.

    Raises:
        DataError: if a node has no ``id``, or the ``id`` of an earlier node.
    """
    numbers: dict[str, int] = {}
    for node in nodes:
        name = node.get("id")
        if name in numbers:
            raise DataError(f"line {node.line}: the node {name!r} was declared before")
        numbers[name] = len(numbers)
    return numbers


def ends(edges: Sequence[Element], numbers: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the nodes that are ``source`` and ``target`` of each edge.

    Raises:
        DataError: if an edge lacks one of them, or it is no node.
    """
    found: dict[str, list[int]] = {"source": [], "target": []}
    for edge in edges:
        for end, nodes in found.items():
            name = edge.get(end)
            if name not in numbers:
                raise DataError(f"line {edge.line}: the {end} of the edge, {name!r}, is no node of the graph")
            nodes.append(numbers[name])
    return np.array(found["source"], dtype=np.int64), np.array(found["target"], dtype=np.int64)


def one_direction(edges: Sequence[Element], directed: Sequence[bool], by_default: bool) -> bool:
    """Whether the edges are directed; either all or none must be.

    Raises:
        DataError: if there are edges of both kinds.
    """
    if len(set(directed)) == 2:
        odd = edges[list(directed).index(not by_default)]
        raise DataError(
            f"directed={str(not by_default).lower()} edge in line {odd.line}, others are "
            f"{'directed' if by_default else 'undirected'}; edges of one kind are needed"
        )
    return directed[0] if directed else by_default


class _Builder:
    def __init__(self) -> None:
        self.found: Element | None = None
        self.has_doctype = False
        self._open: list[Element] = []
        self._foreign = 0
        self._namespace = ""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.EntityDeclHandler = self._entity
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, tag = name.rpartition(" ")
        if self.found is None:
            self._namespace = namespace
        if self._foreign or namespace != self._namespace:
            self._foreign += 1
            return
        element = Element(tag, attributes, self.parser.CurrentLineNumber)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.found = element
        self._open.append(element)

    def _end(self, _: str) -> None:
        if self._foreign:
            self._foreign -= 1
        else:
            self._open.pop()

    def _characters(self, text: str) -> None:
        if self._open and not self._foreign:
            self._open[-1].text += text

    def _doctype(self, *_: object) -> None:
        self.has_doctype = True

    def _entity(self, *_: object) -> NoReturn:
        raise DataError(f"line {self.parser.CurrentLineNumber}: it declares an entity, and none is expanded")
