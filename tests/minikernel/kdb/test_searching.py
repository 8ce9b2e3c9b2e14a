"""Bytes are found where they are, and go to files and back."""

from pathlib import Path

from tests.minikernel.kdb.test_sessions import bare, session

__all__ = ["bare"]


def test_all_of_ram_is_searched(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        it.execute("until bye")
        printed.clear()
        assert it.execute('search "done" in phys')
        text = "".join(printed)
        assert it.data["physical"]
        assert all(it.kernel.physmem.ram[at : at + 4] == b"done" for at in it.data["physical"])
        assert "page 2 of a file, /bare" in text  # in the page cache, and in the program's own copy
        assert "anonymous memory" in text


def test_a_text_is_found_across_pages_and_not_in_untouched_memory(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        [stack] = [vma for vma in it.mm.vmas.items if vma.start <= it.registers()[4] < vma.end]
        it.execute("stepi 3")
        low = stack.end - 4096 - 4
        data = b"acrossit"
        assert it.read(low, 8) == bytes(8)
        (Path(bare[1]) / "bytes").write_bytes(data)
        assert it.execute(f"restore {bare[1]}/bytes {low}")
        printed.clear()
        assert it.execute('search "across" in [stack]')
        assert printed[0].startswith(hex(low))
        assert "1 pattern found." in printed[1]
        it.execute("search /b 0 in [stack]")
        assert min(it.data["addresses"]) >= stack.end - 2 * 4096


def test_memory_goes_to_a_file_and_back(bare: tuple[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "memory"
    with session(bare[1]) as (it, printed):
        assert it.execute(f"dump memory {file} message +6")
        assert file.read_bytes() == b"done\n\0"
        file.write_bytes(b"gone")
        assert it.execute(f"restore {file} message")
        printed.clear()
        it.execute("x/s message")
        assert '"gone\\n"' in printed[0]
        for wrong in (
            f"restore {file} store",  # code
            f"restore {file} 16",
            f"restore {file}",
            f"restore {tmp_path}/none message",
            f"dump memory {file} 0 16",
            f"dump memory {file} 5 4",
            f"dump memory {tmp_path} message +1",
            "dump memory",
        ):
            assert not it.execute(wrong), wrong
        assert file.read_bytes() == b"gone"
        file.write_bytes(b"")
        assert not it.execute(f"restore {file} message")
