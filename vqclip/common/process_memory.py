"""How much more memory this process may take: the machine, its control groups and its own limits are asked."""

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def available_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Return the bytes that may still be taken, the least that anything here allows; None where nobody says (no Linux).

    That is free memory, what the control groups (version 1 or 2) around the process leave, where files that are only
    cached count as free, and what RLIMIT_AS and RLIMIT_DATA leave.
    """
    left = [*_machine(proc), *_groups(proc, cgroups), *_limits(proc)]
    return max(0, min(left)) if left else None


def resident_memory(proc: Path = PROC) -> int:
    """Return the bytes of this process that are in memory; 0 where nobody says."""
    return _numbers(proc / "self/status").get("VmRSS", 0)


def _machine(proc: Path) -> Iterator[int]:
    found = _numbers(proc / "meminfo")
    if "MemAvailable" in found:
        yield found["MemAvailable"]


def _groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each control group leaves, from the process's own up to the root, as any of them may have a limit."""
    for line in _text(proc / "self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root, limit, used, prefix = cgroups, "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            root, limit, used, prefix = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
        else:
            continue
        own = root / path.strip("/")
        for folder in [own, *own.parents[: len(own.parts) - len(root.parts)]]:
            most, now = _text(folder / limit).strip(), _text(folder / used).strip()
            if most.isdecimal() and now.isdecimal():
                stat = _numbers(folder / "memory.stat")
                cached = sum(stat.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
                yield int(most) - int(now) + cached


def _limits(proc: Path) -> Iterator[int]:
    """What the process's own limits leave of address space and of data."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = _numbers(proc / "self/status")
    for kind, size in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(kind)[0]
        if most != resource.RLIM_INFINITY and size in used:
            yield most - used[size]


def _numbers(path: Path) -> dict[str, int]:
    """Read lines of `name number` or `name: number kB`, in bytes."""
    found = {}
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdecimal():
            found[words[0].rstrip(":")] = int(words[1]) * (1024 if words[-1] == "kB" else 1)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
