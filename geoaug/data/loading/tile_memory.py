"""How the memory that a dataset may take is shared out."""

from dataclasses import dataclass

_CHUNK_SHARE = 0.5
_LEAST_CHUNKS = 4
# Of GDAL, where blocks are small: below what is warped there are many of them.
_LEAST_IN_GDAL, _GDAL_SHARE = 64 * 2**20, 1 / 16
# What opening and decoding files, the libraries' tables and the holes between blocks take: measured, not counted.
_BESIDES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class TileMemory:
    """Bytes for each of what reading tiles keeps.

    Attributes:
        chunks: decoded blocks, for tiles that come later.
        gdal: the blocks in work, of all bands, which GDAL would decode anew if it did not keep them.
        batches: tiles on their way and in use.
    """

    chunks: int
    gdal: int
    batches: int

    @property
    def most_for_batches(self) -> int:
        """What batches may take where most of the blocks are given up for them."""
        return self.batches + self.chunks - self.chunks // _LEAST_CHUNKS

    def chunks_beside(self, batch_bytes: int) -> int:
        """What is left for blocks beside batches of so many bytes, a quarter of their share at least."""
        return max(self.chunks - max(batch_bytes - self.batches, 0), self.chunks // _LEAST_CHUNKS)

    @staticmethod
    def of(memory_mb: int, block_bytes: int, threads: int) -> "TileMemory":
        """The shares of `memory_mb`, of which a part is left to allocators and libraries.

        Args:
            memory_mb: in all.
            block_bytes: of the largest block, all bands together.
            threads: that decode at once.
        """
        whole = memory_mb * 2**20
        own = whole - min(_BESIDES, whole // 4)
        usual = min(_LEAST_IN_GDAL, int(whole * _GDAL_SHARE))
        # The order of tiles follows from what is kept decoded: that is the same on every machine.
        chunks = int(own * _CHUNK_SHARE) - usual
        gdal = min(max(2 * threads * block_bytes, usual), (own - chunks) // 2)
        return TileMemory(chunks, gdal, own - chunks - gdal)
