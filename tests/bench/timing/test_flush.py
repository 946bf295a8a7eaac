"""How much must be walked to empty the caches, and that the walk covers it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_roofline.bench.timing import flush


def cache(root: Path, cpu: int, index: int, level: str, kind: str, shared: str, size: str) -> None:
    folder = root / f"cpu{cpu}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in (("level", level), ("type", kind), ("shared_cpu_list", shared), ("size", size)):
        (folder / name).write_text(text + "\n", encoding="ascii")


def test_each_cache_counts_once_and_complexes_add_up(tmp_path: Path) -> None:
    for cpu in range(4):
        cache(tmp_path, cpu, 0, "1", "Data", str(cpu), "48K")
        cache(tmp_path, cpu, 1, "1", "Instruction", str(cpu), "32K")
        cache(tmp_path, cpu, 2, "2", "Unified", str(cpu), "1024K")
        cache(tmp_path, cpu, 3, "3", "Unified", "0-1" if cpu < 2 else "2-3", "32M")
    assert flush.cpu_cache_bytes(tmp_path) == 4 * flush.MIB + 2 * 32 * flush.MIB


def test_silent_and_malformed_entries_are_left_out(tmp_path: Path) -> None:
    assert flush.cpu_cache_bytes(tmp_path) is None
    cache(tmp_path, 0, 0, "2", "Unified", "0", "much")
    assert flush.cpu_cache_bytes(tmp_path) is None
    cache(tmp_path, 0, 1, "3", "Unified", "0", "512K")
    (tmp_path / "cpu0" / "cache" / "index2").mkdir()
    assert flush.cpu_cache_bytes(tmp_path) == 512 << 10


def test_the_buffer_is_twice_the_caches() -> None:
    assert flush.flush_bytes("cold-clean") >= 2 * (flush.cpu_cache_bytes() or flush.UNKNOWN_CACHE_BYTES)
    assert flush.flush_bytes("hot") == 0


def test_only_the_dirty_pass_writes() -> None:
    buffer = flush._cpu_buffer()
    before = float(buffer[0])
    flush.cpu_flush("cold-clean")()
    flush.cpu_flush("hot")()
    assert float(buffer[0]) == before
    flush.cpu_flush("cold-dirty")()
    assert float(buffer[0]) == float(buffer[-1]) == before + 1


def test_persisting_lines_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open")

    monkeypatch.setattr("ctypes.CDLL", absent)
    assert flush.reset_persisting_l2() is False
