import random
import tracemalloc

from loraline.data.similarity.hash_set import HashSet


def test_it_is_a_set() -> None:
    draw = random.Random(1)
    keys = [draw.getrandbits(64) for _ in range(20000)] + [0, 1, 2**64 - 1]
    hashes, expected = HashSet(), set()
    for key in keys + keys[:100]:
        assert hashes.add(key) == (max(key, 1) not in expected)
        expected.add(max(key, 1))
    assert len(hashes) == len(expected)
    assert all(key in hashes for key in keys)
    assert not any(draw.getrandbits(64) in hashes for _ in range(1000))


def test_it_takes_a_few_bytes_a_hash() -> None:
    draw = random.Random(1)
    tracemalloc.start()
    hashes = HashSet()
    for _ in range(100_000):
        hashes.add(draw.getrandbits(64))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 25 * len(hashes)
