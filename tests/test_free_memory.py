"""What may still be taken: the least of what faked files of the system say, and real limits of a real process."""

import sys
from pathlib import Path

import pytest

from vqclip.common.process_memory import available_memory, resident_memory

MB = 2**20


def proc(tmp_path: Path, groups: str = "") -> Path:
    """A machine with 8000 MB free, and a process of 900 MB of 3000 MB of address space."""
    home = tmp_path / "proc"
    (home / "self").mkdir(parents=True)
    (home / "meminfo").write_text("MemTotal: 16384000 kB\nMemAvailable:    8192000 kB\nHugePages_Total: 0\n")
    (home / "self/status").write_text("Name:\tpython\nVmSize:\t 3072000 kB\nVmRSS:\t  921600 kB\nThreads:\t3\n")
    (home / "self/cgroup").write_text(groups)
    return home


def group(folder: Path, limit: str, used: int, stat: str, names: tuple[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in zip((*names, "memory.stat"), (limit, str(used), stat), strict=True):
        (folder / name).write_text(f"{text}\n")


V2, V1 = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_a_machine_without_groups(tmp_path: Path) -> None:
    assert available_memory(proc(tmp_path), tmp_path) == 8000 * MB
    assert resident_memory(tmp_path / "proc") == 900 * MB


def test_a_system_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_memory(tmp_path, tmp_path) is None and resident_memory(tmp_path) == 0


def test_any_group_of_version_2_up_to_the_root_may_be_the_narrowest(tmp_path: Path) -> None:
    """The outer one leaves 2000 - 1500 MB and 300 MB that are only cached, the inner one has no limit."""
    home, root = proc(tmp_path, "0::/slice/unit.service\n"), tmp_path / "cgroup"
    stat = f"anon 5\nactive_file {100 * MB}\ninactive_file {200 * MB}"
    group(root / "slice/unit.service", "max", 1000 * MB, stat, V2)
    (root / "slice/memory.max").write_text(str(2000 * MB))
    (root / "slice/memory.current").write_text(str(1500 * MB))
    (root / "slice/memory.stat").write_text(stat)
    assert available_memory(home, root) == 800 * MB
    (root / "slice/unit.service/memory.max").write_text(str(1100 * MB))
    assert available_memory(home, root) == 400 * MB


def test_groups_of_version_1(tmp_path: Path) -> None:
    """In a container the group's own path is not there, but its limit stands at the root."""
    home, root = proc(tmp_path, "3:cpu:/docker/abc\n4:hugetlb,memory:/docker/abc\n0::/\n"), tmp_path / "cgroup"
    stat = f"cache 9\ninactive_file 7\ntotal_active_file 0\ntotal_inactive_file {50 * MB}"
    group(root / "memory", str(1000 * MB), 700 * MB, stat, V1)
    assert available_memory(home, root) == 350 * MB
    group(root / "memory/docker/abc", str(600 * MB), 500 * MB, stat, V1)
    assert available_memory(home, root) == 150 * MB


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    home, root = proc(tmp_path, "0::/\n"), tmp_path / "cgroup"
    group(root, str(100 * MB), 200 * MB, "", V2)
    assert available_memory(home, root) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_limit_of_address_space_counts() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (int(used.split()[1]) * 1024 + 100 * MB, before[1]))
    try:
        found = available_memory()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert found is not None and 90 * MB <= found <= 100 * MB
