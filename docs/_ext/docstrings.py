"""Docstrings as reStructuredText: what they write in plain text for ``help()`` is set as such on the page.

An indented paragraph is a formula and keeps its lines; ``Cost:`` and ``Source:`` are set in bold; ``|x|`` and ``*``
mean what they say in mathematics. Runs before napoleon, which takes the sections ``Args``, ``Returns`` and so on.
"""

import re

SECTION = re.compile(r"(Args|Attributes|Example|Examples|Note|Raises|Returns|Warns|Yields):\s*$")
ITEM = re.compile(r"([-*]|\d+\.) ")
LITERAL = re.compile(r"(``.*?``|:\w+:`.*?`|(?<![\w*])\*[a-z][a-z ]*\*(?![\w*]))")


def indent(line):
    return len(line) - len(line.lstrip())


def escaped(line):
    """Without the meaning that | and single asterisks have in reStructuredText, except in literals, roles, *words*."""
    parts = LITERAL.split(line)
    return "".join(part if LITERAL.fullmatch(part) else re.sub(r"(?<!\\)([|*])", r"\\\1", part) for part in parts)


def linked(line):
    """References by a name alone find it in any module."""
    return re.sub(r":(attr|class|func|meth):`(?=[A-Za-z_])(?![^`]*<)(?!torch)", r":\1:`.", line)


def process(lines):
    """The lines of a docstring, as reStructuredText."""
    made, formula, in_section, example, after_item = [], False, False, False, False
    for number, line in enumerate(lines):
        if line.rstrip() == "Returns:":  # napoleon would take what is before a colon for a type
            line = ":returns:"
        if SECTION.match(line) or line == ":returns:":
            in_section, formula, example = True, False, line.startswith("Example")
        elif line and not indent(line):
            in_section = formula = example = False
            after_item = bool(ITEM.match(line)) or (after_item and bool(lines[number - 1]))
        if line and indent(line) and not in_section and not after_item and not formula and not lines[number - 1]:
            made += [".. code-block:: text", "   :class: formula", ""]
            formula = True
        plain = formula or example or line.lstrip().startswith(">>>")
        line = line if plain else linked(escaped(line))
        made.append(re.sub(r"^(Cost|Source): ", r"**\1:** ", line))
    return made


def setup(app):
    app.connect("autodoc-process-docstring", lambda *call: call[-1].__setitem__(slice(None), process(call[-1])), 400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
