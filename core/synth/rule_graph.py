"""Which rules lead where: how soon each can end, and which lie below it."""


def least_heights(links: dict[int, list[set[int]]]) -> dict[int, int]:
    """For each rule that can end: how many rules deep its shortest end lies."""
    heights: dict[int, int] = {}
    changed = True
    while changed:
        changed = False
        for rule, alternatives in links.items():
            ends = [
                max((heights[at] for at in link), default=-1) + 1 for link in alternatives if link <= heights.keys()
            ]
            if ends and min(ends) < heights.get(rule, 1 << 30):
                heights[rule], changed = min(ends), True
    return heights


def reachable(links: dict[int, list[set[int]]]) -> dict[int, set[int]]:
    """For each rule all rules below it."""
    below = {}
    for start in links:
        found, stack = set(), [start]
        while stack:
            for link in links.get(stack.pop(), ()):
                stack.extend(link - found)
                found |= link
        below[start] = found
    return below
