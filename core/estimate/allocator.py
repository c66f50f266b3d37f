"""PyTorch's CUDA caching allocator, on one stream with its default settings: what it reserves beyond what is asked.

After c10/cuda/CUDACachingAllocator.cpp: sizes are rounded to 512 bytes; up to 1 MiB comes from 2 MiB segments, up to
10 MiB from 20 MiB segments, more from segments of its own rounded to 2 MiB; the smallest free block that fits is taken,
of equal ones the one at the lowest address, and split if enough is left; free neighbours are joined. A block that is
not split counts as allocated in full. A new segment lies below the ones before it: over the 50 measured rows of the
table that gives 4.7 % for 90 % of the reserved peaks, the other direction 7.0 %, and either way equal steps give equal
peaks.
"""

import bisect

from core.estimate.size_autograd import MIB, Meter

SMALL, SMALL_SEGMENT = MIB, 2 * MIB
LARGE_FROM, LARGE_SEGMENT, ROUND = 10 * MIB, 20 * MIB, 2 * MIB


class Block:
    __slots__ = ("address", "after", "before", "free", "size", "small")

    def __init__(self, size: int, small: bool, address: int):
        self.size, self.small, self.address = size, small, address
        self.before = self.after = None
        self.free = False

    def __lt__(self, other: "Block") -> bool:
        return self.address < other.address


class Allocator(Meter):
    """A meter that hands out blocks."""

    def __init__(self):
        super().__init__()
        self.pools: dict[bool, list[tuple[int, Block]]] = {True: [], False: []}
        self.reserved = self.reserved_peak = 0
        self.lowest = 0  # address of the newest segment

    def take(self, size: int) -> Block | None:
        if not size:
            return None
        size = -(-size // 512) * 512
        small = size <= SMALL
        pool = self.pools[small]
        at = bisect.bisect_left(pool, (size,))
        block = pool.pop(at)[1] if at < len(pool) else self._segment(size, small)
        rest = block.size - size
        if rest >= 512 if small else rest > SMALL:
            self._split(block, size, pool)
        block.free = False
        self.count(block.size)
        return block

    def _segment(self, size: int, small: bool) -> Block:
        own = LARGE_SEGMENT if size < LARGE_FROM else -(-size // ROUND) * ROUND
        segment = SMALL_SEGMENT if small else own
        self.reserved += segment
        if self.reserved > self.reserved_peak:
            self.reserved_peak = self.reserved
        self.lowest -= segment
        return Block(segment, small, self.lowest)

    def _split(self, block: Block, size: int, pool: list) -> None:
        rest = Block(block.size - size, block.small, block.address + size)
        rest.before, rest.after, rest.free = block, block.after, True
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        bisect.insort(pool, (rest.size, rest))

    def give(self, block: Block | None) -> None:
        if block is None:
            return
        self.alive -= block.size
        pool = self.pools[block.small]
        before, after = block.before, block.after
        if before is not None and before.free:
            del pool[bisect.bisect_left(pool, (before.size, before))]
            before.size += block.size
            before.after = after
            if after is not None:
                after.before = before
            block = before
        if after is not None and after.free:
            del pool[bisect.bisect_left(pool, (after.size, after))]
            block.size += after.size
            block.after = after.after
            if after.after is not None:
                after.after.before = block
        block.free = True
        bisect.insort(pool, (block.size, block))

    def empty_cache(self) -> None:
        """Give segments that are free as a whole back to the card."""
        for pool in self.pools.values():
            whole = [item for item in pool if item[1].before is None and item[1].after is None]
            self.reserved -= sum(size for size, _ in whole)
            pool[:] = [item for item in pool if item not in whole]
