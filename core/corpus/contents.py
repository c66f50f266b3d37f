"""Tables of contents in texts and printed books: they name what follows, and a model would learn to make lists."""

import re
from collections.abc import Callable, Iterator

LEADER = re.compile(r"(?:[.·…]\s?){5,}\s*[\divxlc]{1,5}\s*$")  # behind an entry of a table of contents
ENTRY, FEWEST_ENTRIES = 5, 4  # lines of an entry at most; entries of a table at least
TITLE = re.compile(r"\W*(?:содержание|оглавление|(?:table of )?contents)\W*", re.IGNORECASE)
NUMBERED = re.compile(
    r"\s*(?:(?:глава|часть|раздел|chapter|part|appendix|приложение)\s+)?(?:\d+|[IVXLC]+|[A-ZА-Я])(?:\.\d+)*[.)]?\s+\S",
    re.IGNORECASE,
)
LISTED, LONGEST = 8, 400  # numbered lines of a table at least, lines at most


def without_leaders(lines: list[str]) -> tuple[list[str], int]:
    """The lines without tables of contents, whose entries lead to their pages by dots; and how many those were."""
    leaders = [at for at, line in enumerate(lines) if LEADER.search(line)]
    groups: list[list[int]] = []
    for at in leaders:
        if groups and at - groups[-1][-1] <= ENTRY:
            groups[-1].append(at)
        else:
            groups.append([at])
    gone = {at for group in groups if len(group) >= FEWEST_ENTRIES for at in range(group[0], group[-1] + 1)}
    return [line for at, line in enumerate(lines) if at not in gone], len(gone)


def without_listed(lines: Iterator[tuple[int, str]], tell: Callable[[int], None]) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text without a table of contents below its title, up to an empty line behind it.

    `tell` gets the number of lines that are left out.
    """
    for number, line in lines:
        if not TITLE.fullmatch(line):
            yield number, line
            continue
        held, filled = [(number, line)], 0
        for entry in lines:
            held.append(entry)
            filled += bool(entry[1].strip())
            if len(held) > LONGEST or (filled and not entry[1].strip()):
                break
        if (
            sum(NUMBERED.match(text) is not None for _, text in held) >= max(LISTED, filled / 2)
            and len(held) <= LONGEST
        ):
            tell(filled + 1)
        else:
            yield from held
